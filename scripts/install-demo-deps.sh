#!/usr/bin/env bash
# Installs the packages of `make demo`: those of the build, ffmpeg to make the clip, curl to upload it, jq to read the
# answers, and Python to unpack the packages with ONNX Runtime and the picture of the clip. It installs all of them at
# once, because that is faster.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require "${build_parts[@]}" ffmpeg jq python3 pip
