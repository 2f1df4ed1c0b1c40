"""Measures how often rises above the usual level are found, and how often they are invented (docs/METRICS.md, "Against the
usual expressions"), on 102 people of the Face Research Lab London Set, see fetch.sh.

usage: python own_level.py DIR [PROGRAM]

DIR is that of fetch.sh. PROGRAM is target/release/visage. Makes a recording of 64 s for each person (DIR/recordings):
the neutral photograph with small movements of head, light and grain, and four smiles of four seconds of 25, 50, 75 and 100 %
of the smiling photograph, blended along the optical flow between both. Analyzes two samples a second (DIR/results).
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIDE, RATE, LENGTH_S = 480, 10, 64
# Start of each smile in seconds, and its strength in percent.
SMILES = [(16, 25), (28, 50), (40, 75), (52, 100)]
SMILE_S, FADE_S = 4, 0.5


def blend(neutral, smiling):
    """Returns a function from a strength, 0 to 1, to a picture."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (neutral, smiling)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = flow.calc(*grey, None), flow.calc(*grey[::-1], None)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)

    def moved(picture, by, share):
        return cv2.remap(picture, x - share * by[..., 0], y - share * by[..., 1], cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)

    return lambda share: moved(neutral, there, share) * (1 - share) + moved(smiling, back, 1 - share) * share


def strength(time_s):
    for begin, percent in SMILES:
        inside = min(time_s - begin + FADE_S, begin + SMILE_S + FADE_S - time_s)
        if inside >= 0:
            return percent / 100 * min(1, inside / FADE_S)
    return 0.0


def record(pictures, target, seed):
    random = np.random.default_rng(seed)
    at = blend(*(cv2.resize(cv2.imread(str(picture)), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures))
    frames = LENGTH_S * RATE
    kernel = np.exp(-0.5 * (np.arange(-40, 41) / RATE) ** 2)
    kernel /= np.sqrt((kernel**2).sum())

    def wander(deviation):
        """Values that change within seconds, with this standard deviation."""
        return deviation * np.convolve(random.normal(size=frames + 80), kernel, "valid")

    aside, up, roll, size, light = wander(4), wander(4), wander(1.5), wander(0.015), wander(0.03)
    new = target.with_suffix(".new.mp4")
    encoder = subprocess.Popen(
        ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{SIDE}x{SIDE}", "-r", str(RATE),
         "-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-pix_fmt", "yuv420p", new], stdin=subprocess.PIPE)
    blends = {}
    for n in range(frames):
        share = round(strength(n / RATE), 2)
        if share not in blends:
            blends[share] = at(share)
        turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), roll[n], 1 + size[n])
        turn[:, 2] += aside[n], up[n]
        frame = cv2.warpAffine(blends[share], turn, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        frame = frame * (1 + light[n]) + random.normal(0, 4, frame.shape)
        encoder.stdin.write(np.clip(frame, 0, 255).astype(np.uint8).tobytes())
    encoder.stdin.close()
    if encoder.wait() != 0:
        raise SystemExit(f"ffmpeg did not write {target}")
    new.rename(target)


def main():
    folder = Path(sys.argv[1]).resolve()
    program = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/release/visage").resolve()
    with open(folder / "people.csv", newline="") as file:
        people = {row["face_id"]: row["face_gender"] for row in csv.DictReader(file)}
    recordings, results = folder / "recordings", folder / "results"
    recordings.mkdir(exist_ok=True)
    for person in sorted(people):
        if not (target := recordings / f"{person}.mp4").exists():
            record([folder / f"pictures/{person}-{which}.jpg" for which in ("neutral", "smiling")], target, int(person))
    subprocess.run([program, "analyze", recordings, "--samples-per-second", "2", "--speech", "off", "--out", results],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {kind: {percent: {person: False for person in people} for _, percent in SMILES} for kind in ("rises", "segments")}
    invented, steady_s = [], 0
    for result in sorted(results.glob("*.json")):
        person, analysis = result.name[:3], json.loads(result.read_text())
        [face] = analysis["faces"]
        for kind, spans in (("rises", face["relative"]["rises"]), ("segments", face["segments"])):
            happy = [span for span in spans if span["emotion"] == "happy"]
            for begin, percent in SMILES:
                # A face that always looks happy does not show that the smile was found.
                hit = [span for span in happy if span["start_s"] <= begin + SMILE_S and begin <= span["end_s"]
                       and span["end_s"] - span["start_s"] < 2 * SMILE_S]
                found[kind][percent][person] = bool(hit)
        smiling = lambda rise: any(rise["start_s"] <= begin + SMILE_S + 1 and begin - 1 <= rise["end_s"] for begin, _ in SMILES)
        invented += [(person, rise) for rise in face["relative"]["rises"] if not smiling(rise)]
        steady_s += LENGTH_S - len(SMILES) * (SMILE_S + 2)
    for group in ("all", "female", "male"):
        members = [person for person, gender in people.items() if group in ("all", gender)]
        print(f"{group}: {len(members)} people")
        for kind, by_strength in found.items():
            shares = (f"{percent} %: {np.mean([own[person] for person in members]):.0%}" for percent, own in by_strength.items())
            print(f"  {kind:9} of happy at a smile of   {'   '.join(shares)}")
    print(f"rises on steady faces: {len(invented)} in {steady_s / 60:.0f} minutes")
    for person, rise in invented:
        print(f"  {person}: {rise}")


main()
