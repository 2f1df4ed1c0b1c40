#!/usr/bin/env bash
# FFmpeg writes an animated WebP of a motionless scene as one still picture, without its length.
#
# Expected: three seconds of equal pictures become an animation of three seconds, as in GIF and APNG (30 frames each), or one frame that is
# shown for three seconds.
# Seen: the encoder libwebp_anim merges equal pictures, and a result of one frame is written as a plain still (VP8 chunk, no ANIM chunk). Nothing
# is printed and the exit code is 0. The three seconds are lost: Pillow finds one picture and no duration. A single different picture among
# the 30 makes it an animation again.
# Versions: FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1, read by Pillow 13.0.0. FFmpeg 5.1 of Debian 12 does the same.
# Why it matters here: a program that sends clips as WebP, or takes thumbnails as WebP and reads their frames, fails on the one person who holds
# still or on a frozen camera. Such a file cannot be told from a still, so visage refuses it as a video, and a WebP thumbnail of a motionless
# video is one picture.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 pillow==13.0.0

env/bin/python - <<'PYTHON'
import subprocess
import sys

import imageio_ffmpeg
import PIL
from PIL import Image

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
print(f"FFmpeg {version}, Pillow {PIL.__version__}")
gray = "color=gray:size=160x120:rate=10:duration=3"
scenes = {"motionless": gray, "one picture differs": f"{gray},drawbox=c=white:t=fill:enable='eq(n,15)'"}
seen = {}
for scene, source in scenes.items():
    for kind in ("gif", "apng", "webp"):
        subprocess.run([ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", source, f"clip.{kind}"], check=True)
        with Image.open(f"clip.{kind}") as clip:
            pictures, shown_ms = getattr(clip, "n_frames", 1), 0
            for number in range(pictures):
                clip.seek(number)
                clip.load()
                shown_ms += clip.info.get("duration", 0)
        with open(f"clip.{kind}", "rb") as file:
            animated = {"gif": b"NETSCAPE", "apng": b"acTL", "webp": b"ANIM"}[kind] in file.read()
        print(f"{scene}, {kind}: pictures {pictures}, shown for {shown_ms:.0f} ms, marked as an animation: {animated}")
        seen[scene, kind] = pictures, round(shown_ms), animated

wanted = {(scene, kind): (30, 3000, True) for scene in scenes for kind in ("gif", "apng")}
wanted["motionless", "webp"] = 1, 0, False
wanted["one picture differs", "webp"] = 3, 3000, True
sys.exit(0 if seen == wanted else f"changed: {seen}")
PYTHON
