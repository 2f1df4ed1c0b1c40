#!/usr/bin/env bash
# Makes the Python environments of the contenders in target/bench: benches/python.sh [fer]
# Each has its own, because they need different versions of OpenCV: only 4 has Haar cascades, and only 5 supports the
# dynamic input sizes of the detector.
set -euo pipefail
cd "$(dirname "$0")/.."

make_venv() {
    [ -x "$1/bin/python" ] || python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
}

make_venv target/bench/venv benches/requirements.txt
make_venv target/bench/venv-haar benches/requirements-haar.txt
if [ "${1:-}" = fer ]; then
    make_venv target/bench/venv-fer benches/requirements-fer.txt
fi
