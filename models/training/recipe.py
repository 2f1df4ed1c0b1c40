"""From the data to models/emotion.onnx and its figures, in one command.

usage: python recipe.py FERPLUS.npz OUT.onnx [--epochs N] [--checkpoint FILE.pt] [--seed N]

A narrow network is trained from nothing, on small pictures first; then it is widened and trained on, N epochs each. Training that was
stopped goes on from its checkpoints, FILE.pt.narrow and FILE.pt.
"""

import argparse

import numpy as np
import onnxruntime as ort
import torch

import data
import export
import train
from figures import figures
from network import NARROW, WIDE

VERSION = "2.0"
DEFAULT = 0.8  # of vision.emotion.prior


def run(model, pictures):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = data.scaled(pictures).numpy()
    return np.concatenate([session.run(["logits"], {"face": rows[i:i + 64]})[0] for i in range(0, len(rows), 64)])


def percent(share):
    return f"{100 * share:.1f} %"


def report(logits, truth, prior):
    """The figures of the model card, in Markdown."""
    print("| prior taken out | accuracy | balanced accuracy | macro-F1 | calibration error |\n| --- | --- | --- | --- | --- |")
    for strength in np.arange(0, 1.01, 0.1):
        f = figures(logits - strength * np.log(prior), truth)
        print(f"| {strength:.1f} | {percent(f['accuracy'])} | {f['balanced_accuracy']:.3f} | {f['macro_f1']:.3f} | {f['ece']:.3f} |")
    for strength in (0, DEFAULT):
        f = figures(logits - strength * np.log(prior), truth)
        print(f"\nAt {strength}:\n\n| class | precision | recall | F1 | pictures |\n| --- | --- | --- | --- | --- |")
        for name, *row, support in zip(export.NAMES, f["precision"], f["recall"], f["f1"], f["support"]):
            print(f"| {name} | {percent(row[0])} | {percent(row[1])} | {percent(row[2])} | {support} |")
        print("\n| true, named as | " + " | ".join(export.NAMES) + " |\n|" + " --- |" * 9)
        for name, row in zip(export.NAMES, f["confusion"]):
            print(f"| {name} | " + " | ".join(map(str, row)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--checkpoint", default="emotion.pt")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    narrow = train.train(given.data, given.checkpoint + ".narrow", given.seed, given.epochs, NARROW)
    net = train.train(given.data, given.checkpoint, given.seed + 1, given.epochs, WIDE, narrow, train.MIXED)
    pictures, _, truth = data.load(given.data, "valid")
    prior = data.load(given.data, "train")[1].mean(0).numpy()
    truth = truth.numpy()
    logits = train.run(net, pictures).double().numpy()
    # The same pictures would flatter the temperature: each half is judged by that of the other as well.
    halves = np.arange(len(truth)) % 2
    crossed = np.empty_like(logits)
    for half in (0, 1):
        crossed[halves == half] = logits[halves == half] / export.temperature(logits[halves != half], truth[halves != half])
    degrees = export.temperature(logits, truth)
    print(f"temperature {degrees:.2f}; calibration error {figures(logits, truth)['ece']:.4f} before, "
          f"{figures(logits / degrees, truth)['ece']:.4f} after, {figures(crossed, truth)['ece']:.4f} by halves")
    origin = f"{given.epochs} epochs narrow, {given.epochs} wide, seed {given.seed}"
    model = export.export(net, degrees, prior, VERSION, origin)
    with open(given.out, "wb") as file:
        file.write(model)
    shipped = run(model, pictures)
    print(f"{given.out}: {len(model)} bytes; logits differ by {np.abs(shipped - logits / degrees).max():.5f} from those in training\n")
    report(shipped, truth, prior)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
