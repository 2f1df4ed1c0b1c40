#!/usr/bin/env bash
# usage: demo-clip.sh OUT.mp4
#
# Makes the clip of the demo: nine seconds of a smiling face, H.264, without sound. The picture is NASA's portrait of
# the astronaut Eileen Collins (public domain), from the Python package scikit-image. A slow camera move over the
# picture makes it a video.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || die "usage: demo-clip.sh OUT.mp4"
out=$1
[ ! -s "$out" ] || exit 0
have ffmpeg || die "ffmpeg is missing: run scripts/install-demo-deps.sh"

say "making the clip of the demo"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/scripts/fetch-wheel.sh" "$work" scikit-image==0.26.0 manylinux_2_28_x86_64 \
    74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af
python3 -c 'import glob, sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).read("skimage/data/astronaut.png"))
' "$work" >"$work/astronaut.png"

# The picture is enlarged first, because zoompan moves by whole pixels of its input: at the original size the picture
# would shake. The camera moves from the upper half of the picture towards the face, for 9 s at 25 frames a second.
mkdir -p "$(dirname "$out")"
ffmpeg -hide_banner -loglevel error -y -i "$work/astronaut.png" \
    -vf "crop=512:384:0:0,scale=2560:1920,zoompan=z='1+0.7*on/225':x='(iw-iw/zoom)*0.42':y='(ih-ih/zoom)*0.05':d=225:s=640x480:fps=25" \
    -c:v libx264 -preset medium -crf 20 -pix_fmt yuv420p -movflags +faststart -f mp4 "$out.new"
mv "$out.new" "$out"
