#!/usr/bin/env bash
# Installs what `make demo` needs beside the build: ffmpeg makes the clip, curl uploads it, jq reads the answers.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

apt_install ffmpeg curl jq python3
