"""Measures the emotion classifier on faces with a mask or sunglasses drawn on them.

usage: python covered.py FERPLUS.npz ../emotion.onnx

FERPLUS.npz is the data of ../training. Prints accuracy, the recall of five classes, and the share of pictures that are
called neutral, on the pictures of `valid` as they are and with covers of several shades.
"""

import sys

import cv2
import numpy as np
import onnxruntime as ort

PRIOR = 0.8  # vision.emotion.prior
SHOWN = ("neutral", "happy", "surprise", "sad", "angry")


def mask(picture, shade):
    """Covers nose, mouth and chin of a face of 48 x 48 pixels."""
    cv2.fillPoly(picture, [np.array([[6, 27], [24, 24], [42, 27], [41, 40], [33, 47], [15, 47], [7, 40]])], shade)


def sunglasses(picture, shade):
    for x in (15, 33):
        cv2.ellipse(picture, (x, 19), (8, 6), 0, 0, 360, shade, -1)
    cv2.line(picture, (15, 17), (33, 17), shade, 2)


def main():
    with np.load(sys.argv[1]) as file:
        pictures, votes = file["valid_images"], file["valid_votes"].astype(int)
    session = ort.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    names, prior = facts["labels"].split(","), np.array([float(share) for share in facts["prior"].split(",")])
    votes[votes < 2] = 0
    classes = votes.argmax(1)
    counts = (classes < len(names)) & (votes.max(1) > 0)
    pictures, classes = pictures[counts], classes[counts]
    covers = [("bare", None, 0), ("white mask", mask, 220), ("grey mask", mask, 120), ("black mask", mask, 25),
              ("sunglasses", sunglasses, 20)]
    print(f"{len(pictures)} pictures", "", "accuracy", *SHOWN, "called neutral", sep="\t")
    for name, draw, shade in covers:
        shown = pictures.copy()
        for picture in shown if draw else ():
            draw(picture, shade)
        x = (shown[:, None].astype(np.float32) / 255 - 0.5) / 0.25
        logits = np.concatenate([session.run(["logits"], {"face": x[n:n + 64]})[0] for n in range(0, len(x), 64)])
        named = (logits - PRIOR * np.log(prior)).argmax(1)
        of = [names.index(name) for name in SHOWN]
        recall = [f"{np.mean(named[classes == label] == label):.1%}" for label in of]
        print(f"{name:12}", f"{np.mean(named == classes):.1%}", *recall, f"{np.mean(named == 0):.1%}", sep="\t")


main()
