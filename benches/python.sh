#!/usr/bin/env bash
# Makes the Python environment of the benchmarks' contenders in target/bench/venv: benches/python.sh [fer]
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/bench/venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/requirements.txt
if [ "${1:-}" = fer ]; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/requirements-fer.txt
fi
