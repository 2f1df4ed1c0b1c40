"""Checks the Helm chart: usage: check.py HELM CHART VISAGE"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

HELM, CHART, VISAGE = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
KUBERNETES = ("1.29", "1.34")
OTHERS = {"ScaledObject": ScaledObject, "TriggerAuthentication": TriggerAuthentication, "PodMonitor": PodMonitor,
          "PrometheusRule": PrometheusRule}

# Each is refused, and the message names the value.
WRONG = [
    ([], "bucket"),
    (["storage.bucket=videos"], "existingSecret"),
    (["database.existingSecret=db"], "bucket"),
    (["worker.replica=3"], "replica"),
    (["worker.autoscaling.videosPerWorker=0"], "videosPerWorker"),
    (["worker.gracePeriodSeconds=soon"], "gracePeriodSeconds"),
    (["worker.tmpSize=8"], "tmpSize"),
    (["image.pullPolicy=Sometimes"], "pullPolicy"),
    (["ingress.enabled=true"], "host"),
    (["gpuWorker.enabled=true"], "gpuWorker.tag"),
    (["storage.endpoint=s3.example.org"], "endpoint"),
    (["secretEnv[0].name=PASSWORD", "secretEnv[0].secret=a", "secretEnv[0].key=b"], "secretEnv"),
    (["settings=off"], "settings"),
]


def template(*arguments):
    done = subprocess.run([HELM, "template", "demo", str(CHART), "--namespace", "videos", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def pods(document):
    template = document.get("spec", {}).get("template") if isinstance(document.get("spec"), dict) else None
    return [template["spec"]] if template else []


def check_policy(name, pod):
    """No root, no writable root, no rights, limits everywhere, no key of the cluster in the pod."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, name
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert pod["automountServiceAccountToken"] is False, name
    assert not pod.get("hostNetwork") and not pod.get("hostPID"), name
    for container in pod["containers"]:
        own = container["securityContext"]
        assert own == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, name
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][kind]), (name, kind)
        for variable in container["env"]:
            secret = any(word in variable["name"] for word in ("URL", "KEY", "PASSWORD", "SECRET"))
            assert "value" not in variable or not secret, (name, variable)
    for volume in pod.get("volumes", []):
        assert "hostPath" not in volume and ("emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]), (name, volume)


def secret_variables(documents):
    """The variables that come from secrets, with values of the right form."""
    containers = [container for document in documents for pod in pods(document) for container in pod["containers"]]
    names = {variable["name"] for container in containers for variable in container["env"] if "valueFrom" in variable}
    known = {"VISAGE_DATABASE__URL": "postgres://a:b@c/d", "VISAGE_WEBHOOKS__SECRET": "whsec_" + "A" * 32}
    return {name: known.get(name, "secret") for name in names}


def check_settings(name, text, secrets):
    """visage itself reads the settings."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "visage.toml")
        file.write_text(text)
        environment = {"PATH": os.environ["PATH"], "VISAGE_CONFIG": str(file), **secrets}
        done = subprocess.run([VISAGE, "openapi"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (name, text, done.stderr)


def check(values):
    lint = subprocess.run([HELM, "lint", "--strict", str(CHART), "--values", str(values)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    status, text, error = template("--values", str(values))
    assert status == 0, error
    documents = [document for document in yaml.safe_load_all(text) if document]
    names, checked_pods, checked_settings = set(), 0, 0
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        assert (kind, name) not in names, (kind, name)
        names.add((kind, name))
        if kind in OTHERS:
            OTHERS[kind].model_validate(document)
        else:
            for version in KUBERNETES:
                kubernetes_validate.validate(document, version, strict=True)
        for pod in pods(document):
            check_policy(f"{values.name}: {kind} {name}", pod)
            checked_pods += 1
        if kind == "ConfigMap" and "visage.toml" in document["data"]:
            check_settings(values.name, document["data"]["visage.toml"], secret_variables(documents))
            checked_settings += 1
        if kind in ("Deployment", "Job"):
            labels = document["spec"]["template"]["metadata"]["labels"]
            chosen = document["spec"].get("selector", {}).get("matchLabels", {})
            assert chosen.items() <= labels.items(), (chosen, labels)
    # At least the API and one kind of workers.
    assert checked_pods >= 2 and checked_settings == 1, (values.name, checked_pods, checked_settings)
    # What scales something scales a Deployment that exists and has no number of its own.
    for document in documents:
        if document["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            target = document["spec"]["scaleTargetRef"]["name"]
            (deployment,) = [other for other in documents if other["kind"] == "Deployment" and other["metadata"]["name"] == target]
            assert "replicas" not in deployment["spec"], target
        if document["kind"] == "Deployment":
            grace = {variable["name"]: variable.get("value") for variable in document["spec"]["template"]["spec"]["containers"][0]["env"]}
            limit = document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            own = int(grace.get("VISAGE_QUEUE__SHUTDOWN_GRACE_S", 0))
            assert own < limit, (document["metadata"]["name"], own, limit)
    return names


found = {values.stem: check(values) for values in sorted((CHART / "ci").glob("*.yaml"))}
assert len(found) == 6, found.keys()
assert ("Deployment", "demo-visage-worker") not in found["gpu"] and ("ScaledObject", "demo-visage-gpu-worker") in found["gpu"]
assert not any(kind in ("ScaledObject", "HorizontalPodAutoscaler", "Job", "NetworkPolicy") for kind, _ in found["fixed"])
assert ("PrometheusRule", "demo-visage") in found["watched"] and ("ConfigMap", "demo-visage-dashboard") in found["watched"]
assert ("ServiceAccount", "visage-bucket") in found["cloud"] and ("Ingress", "demo-visage") in found["public"]
enough = ["database.existingSecret=db", "storage.bucket=videos"]
for values, named in WRONG:
    given = values if len(values) <= 1 and (not values or values[0].split("=")[0] in ("storage.bucket", "database.existingSecret")) else enough + values
    status, _, error = template(*[argument for value in given for argument in ("--set", value)])
    assert status != 0 and named in error, (values, error)
print(f"chart: {len(found)} sets of values are valid, {len(WRONG)} wrong ones are refused")
