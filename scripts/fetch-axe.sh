#!/usr/bin/env bash
# usage: fetch-axe.sh [DEST]
#
# Puts axe-core, an accessibility checker for web pages, into DEST (.runtime/). pip fetches it by checksum, in a Python
# package that contains it, so that no JavaScript tools are needed. Only tests use it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

dest=${1:-$root/.runtime}
[ ! -f "$dest/axe.min.js" ] || exit 0

say "fetching axe-core 4.12.1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/scripts/fetch-wheel.sh" "$work" axe-playwright-python==0.1.8 any \
    fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8

mkdir -p "$dest"
python3 - "$work" "$dest" <<'PYTHON'
import glob, os, sys, zipfile

work, dest = sys.argv[1:]
with zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0]) as wheel:
    script = wheel.read("axe_playwright_python/axe.min.js")
with open(os.path.join(dest, "axe.min.js.new"), "wb") as file:
    file.write(script)
os.replace(os.path.join(dest, "axe.min.js.new"), os.path.join(dest, "axe.min.js"))
PYTHON
