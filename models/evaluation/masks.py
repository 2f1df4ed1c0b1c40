"""Counts how many masks are noticed in photographs (docs/METRICS.md, "Covered eyes and mouths").

usage: python masks.py FOLDER [PROGRAM]

FOLDER holds the pictures of github.com/chandrikadeb7/Face-Mask-Detection (MIT, commit 7e500749): dataset/with_mask and
dataset/without_mask. PROGRAM is target/release/visage. Takes every tenth picture, the fifth of each ten: to the tenth of
each ten the weights of src/vision/covered.rs were fitted. Counts the largest face of each, from 60 pixels on.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EVERY, FIRST, MOST = 10, 4, 160
LEAST_PX = 60


def main():
    dataset = Path(sys.argv[1]).resolve() / "dataset"
    program = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/release/visage").resolve()
    for kind in ("with_mask", "without_mask"):
        pictures = sorted(path for path in (dataset / kind).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([program, "analyze", *pictures[FIRST::EVERY][:MOST], "--out", folder], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            results = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
        largest = [max(result["faces"], key=lambda face: face["bbox"]["height"]) for result in results if result.get("faces")]
        faces = [face for face in largest if face["bbox"]["height"] >= LEAST_PX]
        count = lambda holds: sum(holds(face) for face in faces)
        print(f"{kind}: {len(faces)} faces; landmarks refused {count(lambda face: face['mouth_covered'] is None)}; "
              f"mouth covered {count(lambda face: face['mouth_covered'] is True)}; "
              f"weight of 0.25 or less {count(lambda face: face['quality'] <= 0.25)}")


main()
