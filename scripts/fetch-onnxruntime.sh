#!/usr/bin/env bash
# usage: fetch-onnxruntime.sh [DEST] [cpu|cuda]
#
# Puts the shared library of ONNX Runtime into DEST (.runtime/), where visage looks for it. pip fetches it by
# checksum, in the official Python package. Running visage needs no Python. "cuda" is the build for CUDA 13 with cuDNN
# 9; without them it runs on the CPU.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=1.31.1
dest=${1:-$root/.runtime}
variant=${2:-cpu}

library=$dest/libonnxruntime.so.$version
case $variant in
    cpu) done=$library ;;
    cuda) done=$dest/libonnxruntime_providers_cuda.so ;;
    *) die "usage: fetch-onnxruntime.sh [DEST] [cpu|cuda]" ;;
esac
if [ -f "$library" ] && [ -f "$done" ]; then
    exit 0
fi

case $variant-$(uname -m) in
    cpu-x86_64) package=onnxruntime platform=manylinux_2_28_x86_64 sha256=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f ;;
    cpu-aarch64) package=onnxruntime platform=manylinux_2_28_aarch64 sha256=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3 ;;
    cuda-x86_64) package=onnxruntime-gpu platform=manylinux_2_28_x86_64 sha256=e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6 ;;
    cuda-aarch64) package=onnxruntime-gpu platform=manylinux_2_34_aarch64 sha256=dc878916611b8a816000ffedacc5f5988f77bb93bf9655ad20144ee3acb08e55 ;;
    *) die "there is no prebuilt ONNX Runtime for $(uname -m): build it, and name its library in the setting engine.library" ;;
esac

say "fetching ONNX Runtime $version ($variant)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/scripts/fetch-wheel.sh" "$work" "$package==$version" "$platform" "$sha256"

mkdir -p "$dest"
python3 - "$work" "$dest" <<'PYTHON'
import glob, os, re, shutil, sys, zipfile

work, dest = sys.argv[1:]
wanted = re.compile(r"onnxruntime/(capi/libonnxruntime(?!_providers_tensorrt)[^/]*\.so[^/]*|LICENSE|ThirdPartyNotices\.txt)$")
with zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0]) as wheel:
    found = [name for name in wheel.namelist() if wanted.match(name)]
    # The library itself is written last: if it exists, all files exist.
    for name in sorted(found, key=lambda name: "libonnxruntime.so" in name):
        base = os.path.basename(name)
        target = os.path.join(dest, base if ".so" in base else "onnxruntime-" + base)
        with wheel.open(name) as source, open(target + ".new", "wb") as file:
            shutil.copyfileobj(source, file)
        os.replace(target + ".new", target)
PYTHON
[ -f "$library" ] || die "the package has no libonnxruntime.so.$version"
