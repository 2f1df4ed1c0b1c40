#!/usr/bin/env bash
# usage: fetch-wheel.sh DEST NAME==VERSION PLATFORM SHA256
#
# Downloads one Python package file (of CPython 3.11, whatever Python is here) into DEST, refusing any other than the
# one with that checksum. Nothing is installed but pip itself, where it is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 4 ] || die "usage: fetch-wheel.sh DEST NAME==VERSION PLATFORM SHA256"
dest=$1 requirement=$2 platform=$3 sha256=$4

python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip

list=$(mktemp)
trap 'rm -f "$list"' EXIT
printf '%s --hash=sha256:%s\n' "$requirement" "$sha256" >"$list"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --platform "$platform" --dest "$dest" --requirement "$list" ||
    die "pip could not fetch $requirement: is the Python package index reachable from here (proxy: HTTPS_PROXY, mirror: PIP_INDEX_URL)?"
