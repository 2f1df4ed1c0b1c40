#!/usr/bin/env bash
# FFmpeg 9 says that two recordings beside each other have a million pictures a second.
#
# Expected: of two recordings with 25 and 29.97 pictures a second, the filter hstack makes a video of one of these rates, as FFmpeg 7 does
# (25, that of the first).
# Seen: FFmpeg 9 makes a picture whenever either recording has a new one. Pictures are 0.2 to 33 ms apart, and the header's r_frame_rate, which
# many scripts take for "the" frame rate, is 1000000/1, because no lower rate has all the time stamps. The mean (avg_frame_rate) is about 55.
# OpenCV tells the mean, so "one picture a second" by its rate takes every 55th picture, and these are not evenly spaced in time.
# Versions: FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1, beside FFmpeg 7.0.2 of imageio-ffmpeg 0.6.0, read by PyAV 18.1.0 and opencv-python-headless
# 5.0.0.93.
# Why it matters here: interviews are often joined like this, one person on each side. Sampling by the header's rate would look at one picture of
# the whole video. visage takes times from the time stamps of the pictures, and its frame rate is the mean.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
install() { env/bin/pip install --quiet --disable-pip-version-check "$@"; }
install --target old imageio-ffmpeg==0.6.0
install --target new imageio-ffmpeg==0.8.1
install av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6

env/bin/python - <<'PYTHON'
import glob
import subprocess
import sys

import av
import cv2

differ = {}
for folder in ("old", "new"):
    ffmpeg, = glob.glob(f"{folder}/imageio_ffmpeg/binaries/ffmpeg-linux-*")
    run = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    for name, rate in (("left", "25"), ("right", "30000/1001")):
        subprocess.run([*run, "-f", "lavfi", "-i", f"testsrc=size=160x120:rate={rate}:duration=4", "-c:v", "libx264", f"{name}.mp4"], check=True)
    subprocess.run([*run, "-i", "left.mp4", "-i", "right.mp4", "-filter_complex", "hstack", "-c:v", "libx264", "both.mp4"], check=True)
    with av.open("both.mp4") as both:
        stream, = both.streams.video
        times = sorted(float(packet.pts * stream.time_base) for packet in both.demux(stream) if packet.pts is not None)
        steps = [later - earlier for earlier, later in zip(times, times[1:])]
        # PyAV's base_rate is FFmpeg's r_frame_rate.
        stated, mean = stream.base_rate, float(stream.average_rate)
    opencv = cv2.VideoCapture("both.mp4").get(cv2.CAP_PROP_FPS)
    version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    print(f"FFmpeg {version}: {len(times)} pictures, {min(steps) * 1000:.1f} to {max(steps) * 1000:.1f} ms apart; "
          f"r_frame_rate {stated}, avg_frame_rate {mean:.2f}, OpenCV {opencv:.2f}")
    differ[folder] = (stated, round(mean), round(opencv), max(steps) - min(steps) > 0.01)

sys.exit(0 if differ == {"old": (25, 25, 25, False), "new": (1_000_000, 55, 55, True)} else f"changed: {differ}")
PYTHON
