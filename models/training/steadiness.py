"""How steady the service reads a face that does not change.

Holds frames of videos still for two seconds each, films them once more (moved by part of a pixel, with noise, in H.264) and
has `visage analyze` read every frame: how often two neighbouring samples have another emotion on top, and by how much their
probabilities differ (half the sum of the differences, 0 to 1).

usage: python steadiness.py VISAGE VIDEO:SECOND [VIDEO:SECOND ...]      VISAGE is the program; its settings are those around it
needs: numpy, ffmpeg
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
# A slow drift of a pixel or so, grain, and the compression of a video call.
FILM = ("scale=iw*1.04:-2,crop=iw/1.04:ih/1.04:(iw-ow)/2+1.5*sin(t*5):(ih-oh)/2+1.5*cos(t*4),scale=trunc(iw/2)*2:trunc(ih/2)*2,"
        "noise=alls=6:allf=t")


def rows(visage, video):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        subprocess.run([visage, "analyze", video, "--csv", path, "--sample-every", "1"], check=True, stdout=subprocess.DEVNULL)
        with open(path, newline="") as file:
            return list(csv.DictReader(file))


def unsteady(rows):
    p = np.array([[float(row[name]) for name in EMOTIONS] for row in rows])
    return (p[1:].argmax(1) != p[:-1].argmax(1)).sum(), np.abs(p[1:] - p[:-1]).sum(1) / 2


def main():
    visage, *scenes = sys.argv[1:]
    if not scenes:
        raise SystemExit(__doc__)
    flips, steps = 0, []
    for scene in scenes:
        video, second = scene.rsplit(":", 1)
        with tempfile.TemporaryDirectory() as folder:
            still, film = Path(folder) / "still.png", Path(folder) / "film.mp4"
            run = lambda *words: subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *words], check=True)
            run("-ss", second, "-i", video, "-frames:v", "1", still)
            run("-loop", "1", "-framerate", "25", "-t", "2", "-i", still, "-vf", FILM, "-c:v", "libx264", "-crf", "28",
                "-pix_fmt", "yuv420p", film)
            some, apart = unsteady(rows(visage, film))
        flips, steps = flips + some, steps + [apart]
        print(f"{Path(video).name} at {second} s: {some} changes of the top emotion in {len(apart)} steps, "
              f"mean step {apart.mean():.4f}, largest {apart.max():.4f}")
    steps = np.concatenate(steps)
    print(f"in all: {flips} changes in {len(steps)} steps ({100 * flips / len(steps):.2f} %), mean step {steps.mean():.4f}")


if __name__ == "__main__":
    main()
