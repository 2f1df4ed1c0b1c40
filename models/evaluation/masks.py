"""Counts how many masks are noticed in photographs (docs/METRICS.md, "Covered eyes and mouths"), and fits the weights that
notice them.

usage: python masks.py FOLDER [PROGRAM]         counts, in the fifth of each ten pictures (160 of each kind)
       python masks.py FOLDER [PROGRAM] --fit   prints the weights of src/vision/covered.rs, from the tenth of each ten

FOLDER holds the pictures of github.com/chandrikadeb7/Face-Mask-Detection (MIT, commit 7e500749): dataset/with_mask and
dataset/without_mask. PROGRAM is target/release/visage. Only the largest face of a picture is used, from 60 pixels on. --fit
reads its points with models/face_landmarks.onnx, even if the network refuses it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# Every tenth picture. docs/METRICS.md counts 160 of each kind.
COUNTED, FITTED = slice(4, 1600, 10), slice(9, None, 10)
LEAST_PX = 60
# The points of src/vision/covered.rs.
ABOVE, UNDER, AROUND, LIPS = [9, 8, 168, 6, 107, 336], [4, 2, 200, 205, 425], [2, 200, 205, 425], [0, 17]


def faces(dataset, program, kind, chosen):
    """Returns the path and the largest face of the chosen pictures."""
    pictures = sorted(path for path in (dataset / kind).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "analyze", *pictures[chosen], "--out", folder], cwd=ROOT, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        results = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    for result in results:
        largest = max(result.get("faces", []), key=lambda face: face["bbox"]["height"], default=None)
        if largest and largest["bbox"]["height"] >= LEAST_PX:
            yield result["input"]["file"], largest


def count(dataset, program):
    for kind in ("with_mask", "without_mask"):
        found = [face for _, face in faces(dataset, program, kind, COUNTED)]
        refused = sum(face["mouth_covered"] is None for face in found)
        covered = sum(face["mouth_covered"] is True for face in found)
        light = sum(face["quality"] <= 0.25 for face in found)
        print(f"{kind}: {len(found)} faces; landmarks refused {refused}; mouth covered {covered}; weight of 0.25 or less {light}")


def differences(picture, face, session):
    """The three differences of colour in CIELAB that src/vision/covered.rs weighs."""
    x, y, width, height = (face["bbox"][side] for side in ("x", "y", "width", "height"))
    centre, side = (x + width / 2, y + height / 2), 1.5 * max(width, height)
    turn = cv2.getRotationMatrix2D(centre, 0, 256 / side)
    turn[:, 2] += 128 - centre[0], 128 - centre[1]
    square = cv2.warpAffine(picture, turn, (256, 256))
    rgb = cv2.cvtColor(square, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255
    [points] = session.run(["landmarks"], {session.get_inputs()[0].name: rgb})
    points = points.reshape(478, 3)[:, :2]
    half = max(2, int(0.05 * np.linalg.norm(points[33] - points[263])))

    def colour(point):
        x, y = points[point].astype(int)
        patch = square[max(0, y - half):y + half + 1, max(0, x - half):x + half + 1].reshape(-1, 3)
        median = np.median(patch, 0) if len(patch) else np.zeros(3)
        return cv2.cvtColor((median / 255).astype(np.float32).reshape(1, 1, 3), cv2.COLOR_BGR2LAB)[0, 0]

    above, around = (np.median([colour(point) for point in points], 0) for points in (ABOVE, AROUND))
    under = np.array([colour(point) for point in UNDER]) - above
    lips = np.array([colour(point) for point in LIPS]) - around
    return np.median(np.hypot(under[:, 1], under[:, 2])), np.hypot(lips[:, 1], lips[:, 2]).mean(), abs(np.median(under[:, 0]))


def fit(dataset, program):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(ROOT / "models/face_landmarks.onnx"), providers=["CPUExecutionProvider"])
    rows, masked = [], []
    for kind in ("with_mask", "without_mask"):
        for path, face in faces(dataset, program, kind, FITTED):
            if (picture := cv2.imread(path)) is not None:
                rows.append(differences(picture, face, session))
                masked.append(kind == "with_mask")
    x, y = np.array(rows), np.array(masked, float)
    mean, deviation = x.mean(0), x.std(0)
    z = np.c_[np.ones(len(x)), (x - mean) / deviation]
    beta = np.zeros(4)
    # Newton's method, with a penalty of half the sum of the squares.
    for _ in range(60):
        p = 1 / (1 + np.exp(-z @ beta))
        beta = beta + np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + np.eye(4), z.T @ (y - p) - beta)
    weights = beta[1:] / deviation
    even = (weights * mean).sum() - beta[0]
    print(f"{int(y.sum())} faces with masks, {int((1 - y).sum())} without")
    print(f"weights {weights.round(3)}; sum at a probability of one half {even:.2f}, of 0.71 {even + 0.9:.2f}")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--fit"]
    program = Path(arguments[1] if len(arguments) > 1 else ROOT / "target/release/visage").resolve()
    (fit if "--fit" in sys.argv else count)(Path(arguments[0]).resolve() / "dataset", program)


main()
