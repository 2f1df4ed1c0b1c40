#!/usr/bin/env bash
# usage: install-runtime-deps.sh [PROGRAM]
#
# Installs the packages for running a compiled visage, without headers: the shared libraries of OpenCV and FFmpeg,
# certificates, and curl for health checks. For images and servers on which visage is not compiled. The versions of
# the libraries are those that a program built on this system links to. With PROGRAM, ends with an error if that
# program needs others.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

have apt-get || die "this system has no apt-get. Install curl, certificates, OpenCV (core, imgproc) and FFmpeg's \
libraries (libavformat, libavcodec, libavutil, libswscale, libswresample) in the versions that visage was built with"
apt_update

# Prints the library package of a package of headers: libavformat61 for libavformat-dev on Debian 13.
library_of() {
    local name
    name=$(apt-cache depends "$1-dev" | sed -nE "s/^ *[|]?Depends: ($1[0-9]+(t64)?)$/\1/p" | head -n 1)
    [ -n "$name" ] || die "apt-get has no $1-dev here: is this Debian 12 or newer, or Ubuntu 24.04 or newer?"
    echo "$name"
}

packages=()
for library in libopencv-{core,imgproc} libavformat libavcodec libavutil libswscale libswresample; do
    packages+=("$(library_of "$library")")
done
apt_install ca-certificates curl "${packages[@]}"

if [ $# -gt 0 ]; then
    absent=$(ldd "$1" | sed -n 's/^[[:space:]]*\(.*\) => not found$/\1/p' | paste -sd' ')
    [ -z "$absent" ] || die "$1 was built on another system: it needs $absent"
fi
