#!/usr/bin/env bash
# Installs the missing packages for compiling visage: a C and C++ compiler, libclang for the generated
# bindings, and the headers of OpenCV and FFmpeg. About 600 MB on a bare Debian.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require "${build_parts[@]}"

avcodec=$(pkg-config --modversion libavcodec)
[ "${avcodec%%.*}" -le "$newest_avcodec" ] ||
    say "this FFmpeg (libavcodec $avcodec) is newer than any that visage was tested with; compilation may fail"
