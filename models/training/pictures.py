"""Writes a split of the data as pictures and votes for `visage eval emotion --cropped`, and holds its answers against Python.

usage: python pictures.py FERPLUS.npz FOLDER                      valid as FOLDER/pictures/*.png and FOLDER/votes.csv
       python pictures.py FERPLUS.npz FOLDER MODEL.onnx EACH.csv  compares with --predictions EACH.csv, which was written with
                                                                  vision.emotion.prior = PRIOR (environment PRIOR, else 0)
"""

import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

import data
from export import NAMES
from figures import figures, softmax

COMPARED = 500


def write(path, folder):
    with np.load(path) as file:
        pictures, votes = file["valid_images"], file["valid_votes"]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with open(folder / "votes.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *NAMES, "unknown", "NF"])
        for n, (picture, of_picture) in enumerate(zip(pictures, votes.tolist())):
            cv2.imwrite(str(folder / "pictures" / f"{n:04}.png"), picture)
            rows.writerow([f"{n:04}.png", *of_picture])
    print(f"{len(pictures)} pictures in {folder}")


def compare(path, folder, model, each):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    prior = np.array([float(share) for share in session.get_modelmeta().custom_metadata_map["prior"].split(",")])
    strength = float(os.environ.get("PRIOR", 0))
    with open(each, newline="") as file:
        rows = list(csv.DictReader(file))
    theirs = np.array([[float(row[name]) for name in NAMES] for row in rows])
    files = [cv2.imread(str(folder / "pictures" / row["file"]), cv2.IMREAD_GRAYSCALE) for row in rows]
    x = ((np.stack(files)[:, None].astype(np.float32) / 255) - data.MEAN) / data.STD
    logits = np.concatenate([session.run(["logits"], {"face": x[i:i + 64]})[0] for i in range(0, len(x), 64)])
    ours = softmax(logits - strength * np.log(prior))
    truth = np.array([NAMES.index(row["label"]) for row in rows])
    first = np.abs(ours - theirs)[:COMPARED]
    print(f"{len(first)} pictures: largest difference of a probability {first.max():.2e}; "
          f"all {len(rows)}: {np.abs(ours - theirs).max():.2e}; accuracy in Python "
          f"{figures(np.log(ours), truth)['accuracy']:.4f}, of their probabilities {figures(np.log(theirs + 1e-9), truth)['accuracy']:.4f}")
    if first.max() > 1e-4:
        raise SystemExit("they differ")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], Path(sys.argv[2]))
    elif len(sys.argv) == 5:
        compare(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        raise SystemExit(__doc__)
