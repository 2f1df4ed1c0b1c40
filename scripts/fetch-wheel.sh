#!/usr/bin/env bash
# usage: fetch-wheel.sh DEST NAME==VERSION PLATFORM SHA256
#
# Downloads one file of a Python package into DEST, and accepts it only with this checksum. PLATFORM is the platform tag
# of the wheel ("any" for a wheel without machine code), or "sdist" for the source archive. The script installs pip if it is
# missing. It neither installs nor runs the package. The package may be for another Python and another processor.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 4 ] || die "usage: fetch-wheel.sh DEST NAME==VERSION PLATFORM SHA256"
dest=$1 requirement=$2 platform=$3 sha256=$4

require python3 pip curl

unreachable() {
    die "$requirement could not be fetched: is the Python package index reachable from here (proxy: HTTPS_PROXY, mirror: PIP_INDEX_URL)?"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$platform" != sdist ]; then
    # pip is used because it knows the machine's package index. The Python version is given, because pip
    # would otherwise refuse packages that are not released for its own version.
    printf '%s --hash=sha256:%s\n' "$requirement" "$sha256" >"$work/list"
    python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes --only-binary=:all: \
        --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none --platform "$platform" \
        --dest "$dest" --requirement "$work/list" || unreachable
    exit
fi

# pip would run the build of a source archive to read its name. So only the address of the index is taken from pip,
# and curl fetches the archive that the index lists with this checksum.
index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null)} ||
    index=$(python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')
name=$(sed -E 's/==.*//; s/[-_.]+/-/g' <<<"${requirement,,}")
base=$(curl --silent --show-error --fail --location --retry 3 --header 'Accept: application/vnd.pypi.simple.v1+json, text/html;q=0.5' \
    --output "$work/files" --write-out '%{url_effective}' "${index%/}/$name/") || unreachable
url=$(python3 - "$work/files" "$base" "$sha256" <<'PYTHON'
import html, json, re, sys, urllib.parse

path, base, sha256 = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    text = file.read()
try:
    links = [file["url"] for file in json.loads(text)["files"] if file["hashes"].get("sha256") == sha256]
except ValueError:
    links = [html.unescape(link) for link in re.findall(f'href="([^"#]*)#sha256={sha256}"', text)]
if not links:
    sys.exit(f"visage: {base} lists no file with the SHA-256 {sha256}")
print(urllib.parse.urljoin(base, links[0]))
PYTHON
)
file=$(basename "${url%%[?#]*}")
curl --silent --show-error --fail --location --retry 3 --output "$work/$file" "$url" || unreachable
echo "$sha256  $work/$file" | sha256sum --check --status || die "$file has another SHA-256 than $sha256"
mkdir -p "$dest"
mv "$work/$file" "$dest/"
