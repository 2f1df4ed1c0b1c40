#!/usr/bin/env bash
# Installs what compiling visage needs, as far as it is missing: a C and C++ compiler, libclang for the generated
# bindings, and the headers of OpenCV and FFmpeg. About 600 MB on a bare Debian 12.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

apt_install ca-certificates curl make gcc g++ libc6-dev pkg-config clang-14 libclang1-14 \
    libopencv-core-dev libopencv-imgproc-dev libopencv-calib3d-dev \
    libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev
