"""The client that openapi-python-client generates from /openapi.json, against the running service."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

BASE = os.environ["VISAGE_TEST_BASE"]
KEY = os.environ["VISAGE_TEST_KEY"]
CLIP = Path(os.environ["VISAGE_TEST_LONG_CLIP"])
PICTURE = Path(os.environ["VISAGE_TEST_PICTURE"])


def generate(folder):
    document = folder / "openapi.json"
    document.write_bytes(requests.get(f"{BASE}/openapi.json", timeout=60).content)
    config = folder / "config.yaml"
    # JSON is YAML. The last lines are those of docs/API.md: the generator knows few content types.
    config.write_text(json.dumps({
        "package_name_override": "generated",
        "project_name_override": "generated",
        "post_hooks": [],
        "content_type_overrides": {
            **{kind: "application/octet-stream" for kind in ("*/*", "image/jpeg", "image/png", "video/mp4")},
            "application/openmetrics-text": "text/plain",
        },
    }))
    # A warning is a call or a schema that the generator left out.
    subprocess.run([Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", document, "--meta", "none",
                    "--config", config, "--output-path", folder / "generated", "--fail-on-warning"], check=True)
    sys.path.insert(0, str(folder))
    calls = [call for path in requests.get(f"{BASE}/openapi.json", timeout=60).json()["paths"].values() for call in path.values()]
    modules = {module.stem for module in (folder / "generated" / "api").rglob("*.py")} - {"__init__"}
    assert modules == {call["operationId"] for call in calls}, modules ^ {call["operationId"] for call in calls}


def use():
    from generated import AuthenticatedClient, models
    from generated.api.compat import frame, process_frame, save_frame
    from generated.api.native import analyze_video, begin_upload, result, send_part, start_analysis, timeline
    from generated.types import File

    client = AuthenticatedClient(BASE, token=KEY, timeout=300)

    def finished(token):
        found = result.sync(token, client=client, wait=30)
        while found.status in (models.Status.QUEUED, models.Status.RUNNING):
            found = result.sync(token, client=client, wait=30)
        assert found.status == models.Status.DONE, found
        return found

    with CLIP.open("rb") as video:
        form = models.VideoForm(video=File(video, CLIP.name, "video/mp4"), sample_every=10)
        accepted = analyze_video.sync(client=client, body=form)
    assert isinstance(accepted, models.Accepted), accepted
    found = finished(accepted.token)
    assert found.options.sample_every == 10 and found.analysis.summary.dominant_emotion == "happy"
    kinds = {type(remark).__name__ for remark in found.analysis.summary.remarks}
    assert "RemarkShowed" in kinds and all(kind.startswith("Remark") for kind in kinds), kinds
    page = timeline.sync(accepted.token, client=client, limit=5)
    assert len(page.rows) == 5 and page.rows[0].emotions["happy"] > 0.9
    missing = result.sync("00000000-0000-4000-8000-000000000000", client=client)
    assert isinstance(missing, models.Problem) and missing.code == "unknown_token", missing

    # Bodies of bytes.
    size = CLIP.stat().st_size
    upload = begin_upload.sync(client=client, body=models.UploadRequest(size_bytes=size))
    with CLIP.open("rb") as video:
        stored = send_part.sync_detailed(upload.upload, 1, client=client, body=File(video))
    assert stored.status_code == 204, stored
    started = start_analysis.sync(client=client, body=models.StartRequest(upload=upload.upload))
    assert finished(started.token).analysis.summary.dominant_emotion == "happy"
    with CLIP.open("rb") as video:
        scores = process_frame.sync(client=client, body=File(video))
    assert scores.overall_dominant_emotion == "happy", scores
    with PICTURE.open("rb") as picture:
        kept = save_frame.sync(client=client, body=models.FrameForm(frame=File(picture, "frame.png", "image/png")))
    assert frame.sync(kept.frame, client=client).payload.read() == PICTURE.read_bytes()


with tempfile.TemporaryDirectory() as folder:
    generate(Path(folder))
    use()
print("client by openapi-python-client: ok")
