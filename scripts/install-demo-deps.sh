#!/usr/bin/env bash
# Installs what `make demo` needs: all that building does, ffmpeg to make the clip, curl to upload it, jq to read the
# answers, Python to unpack the packages that ONNX Runtime and the clip's picture come in. All at once, which is quicker.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require "${build_parts[@]}" ffmpeg jq python3 pip
