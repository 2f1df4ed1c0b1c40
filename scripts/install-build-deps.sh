#!/usr/bin/env bash
# Installs what compiling visage needs, as far as it is missing: a C and C++ compiler, libclang for the generated
# bindings, and the headers of OpenCV and FFmpeg. About 600 MB on a bare Debian.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require "${build_parts[@]}"

avcodec=$(pkg-config --modversion libavcodec)
[ "${avcodec%%.*}" -le "$newest_avcodec" ] ||
    say "this FFmpeg (libavcodec $avcodec) is newer than any that visage was tried with; its compilation may fail"
