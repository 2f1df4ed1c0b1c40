#!/usr/bin/env bash
# OpenCV shows a mirrored video as a rotated one.
#
# Expected: VideoCapture corrects the orientation of a video by default (CAP_PROP_ORIENTATION_AUTO), so a video whose
# display matrix mirrors the picture comes out mirrored, as FFmpeg and players show it.
# Seen: VideoCapture takes the angle of the matrix alone. The four matrices without a mirror are right. Each of the four
# with a mirror comes out as a plain rotation: a horizontal flip (-1 0 0 1) is turned by 180 degrees, so a person
# stands on their head, and CAP_PROP_ORIENTATION_META says 180.
# Versions: opencv-python-headless 5.0.0.93 (FFmpeg 8 inside), beside FFmpeg 9.0.2 of imageio-ffmpeg 0.8.1.
# Why it matters here: front cameras write such matrices. A face that stands on its head is still detected, but its
# expression and gaze are read wrongly and nothing warns of it. visage reads the whole matrix itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 imageio-ffmpeg==0.8.1 numpy==2.4.6

env/bin/python - <<'PYTHON'
import struct
import subprocess
import sys

import cv2
import imageio_ffmpeg

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
print("OpenCV", cv2.__version__, "| FFmpeg", imageio_ffmpeg.get_ffmpeg_version())

# Four black frames with a white quarter at the top left.
subprocess.run(
    [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=black:size=320x240:rate=10:duration=0.4", "-vf",
     "drawbox=x=0:y=0:w=160:h=120:color=white:t=fill", "-c:v", "libx264", "-pix_fmt", "yuv420p", "plain.mp4"],
    check=True,
)
plain = open("plain.mp4", "rb").read()


def with_matrix(a, b, c, d):
    """The file with another display matrix in its tkhd box (ISO/IEC 14496-12, 8.3.2; version 0 of the box)."""
    file = bytearray(plain)
    box = file.find(b"tkhd")
    assert file[box + 4] == 0
    at = box + 4 + 4 + 20 + 16
    fixed = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    file[at:at + 36] = struct.pack(">9i", *fixed)
    return bytes(file)


def white_corner(picture):
    height, width = picture.shape[:2]
    for row, y in (("top", height // 4), ("bottom", height * 3 // 4)):
        for column, x in (("left", width // 4), ("right", width * 3 // 4)):
            if picture[y, x].mean() > 128:
                return f"{row} {column}"


matrices = {
    "as stored": (1, 0, 0, 1),
    "turned by 90": (0, 1, -1, 0),
    "turned by 180": (-1, 0, 0, -1),
    "turned by 270": (0, -1, 1, 0),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed and turned by 180": (0, -1, -1, 0),
}
differ = []
for name, matrix in matrices.items():
    open("turned.mp4", "wb").write(with_matrix(*matrix))
    capture = cv2.VideoCapture("turned.mp4")
    angle = capture.get(cv2.CAP_PROP_ORIENTATION_META)
    _, picture = capture.read()
    capture.release()
    subprocess.run([ffmpeg, "-v", "error", "-y", "-i", "turned.mp4", "-frames:v", "1", "shown.png"], check=True)
    shown, read = white_corner(cv2.imread("shown.png")), white_corner(picture)
    print(f"{name:30} FFmpeg shows {shown:13} OpenCV reads {read:13} angle {angle:.0f}")
    if shown != read:
        differ.append(name)

expected = [name for name in matrices if "mirrored" in name or "transposed" in name]
sys.exit(0 if differ == expected else f"changed: FFmpeg and OpenCV now differ for {differ}")
PYTHON
