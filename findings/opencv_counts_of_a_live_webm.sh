#!/usr/bin/env bash
# OpenCV gives a WebM without a duration a wrong frame rate and a frame count of minus 9e17.
#
# Expected: a file that states neither a duration nor a frame rate, as browsers and live streams write it, gives 0 or a value counted from
# the packets for CAP_PROP_FPS and CAP_PROP_FRAME_COUNT. The time stamps of its 60 frames give 6.7 frames a second.
# Seen: CAP_PROP_FPS is 100, because FFmpeg takes the common unit of the time stamps for the rate. CAP_PROP_FRAME_COUNT is -9.2e17: the
# missing duration is FFmpeg's "no value" number, and OpenCV multiplies it by the rate. No call reports an error.
# Versions: opencv-python-headless 5.0.0.93 reads, PyAV 18.1.0 writes.
# Why it matters here: scripts that sample "every FRAME_COUNT / 15 frames" or "every FPS frames" judge a webcam recording by its first half second, or
# by nothing. visage counts packets instead and reports the counted rate with a warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6

env/bin/python - <<'PYTHON'
import sys
from fractions import Fraction

import av
import cv2
import numpy as np

print("PyAV", av.__version__, "| OpenCV", cv2.__version__)

# Frames 140, 150 or 160 ms apart, as a busy camera gives them.
stamps = [0]
for number in range(59):
    stamps.append(stamps[-1] + (140, 150, 160, 150)[number * 7 % 11 % 4])
with av.open("live.webm", "w", format="webm", options={"live": "1"}) as file:
    stream = file.add_stream("libvpx", options={"deadline": "realtime"})
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    stream.codec_context.framerate = Fraction(0, 1)
    for number, stamp in enumerate(stamps):
        frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), number * 4, np.uint8), "rgb24")
        frame.pts, frame.time_base = stamp, Fraction(1, 1000)
        for packet in stream.encode(frame):
            file.mux(packet)
    for packet in stream.encode():
        file.mux(packet)

capture = cv2.VideoCapture("live.webm")
rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
read = 0
while capture.read()[0]:
    read += 1
true_rate = (len(stamps) - 1) / (stamps[-1] / 1000)
print(f"rate: {rate:g} by CAP_PROP_FPS, {true_rate:.1f} by the time stamps")
print(f"frames: {count:g} by CAP_PROP_FRAME_COUNT, {read} by reading them")
sys.exit(0 if rate == 100 and count < -1e17 and read == 60 else "changed")
PYTHON
