#!/usr/bin/env bash
# Installs what `make bench` needs beside the build: ffmpeg makes the clips, wrk asks for results, Python runs the contenders.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require ffmpeg curl python3 venv wrk
