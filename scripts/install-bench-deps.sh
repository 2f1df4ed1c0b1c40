#!/usr/bin/env bash
# Installs what `make bench` needs beside the build: ffmpeg makes the clips, wrk asks for results, Python runs the contenders.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

apt_install ffmpeg curl python3 python3-venv wrk
