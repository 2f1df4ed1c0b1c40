#!/usr/bin/env bash
# Installs what a built visage needs to run, and no headers: the shared libraries of OpenCV 4.6 and FFmpeg 5.1,
# certificates, and curl for health checks. For images and servers that get the binary from elsewhere.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

apt_install ca-certificates curl \
    libopencv-core406 libopencv-imgproc406 libopencv-calib3d406 \
    libavformat59 libavcodec59 libavutil57 libswscale6 libswresample4
