#!/usr/bin/env bash
# Installs the packages of `make bench` beyond those of the build: ffmpeg makes the clips, wrk sends requests, Python
# runs the contenders.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require ffmpeg curl python3 venv wrk
