"""What each part of the recipe brings: the same short training of version 1's network on small pictures, with one part left out.

usage: python ablation.py FERPLUS.npz [--epochs N] [--side N]
"""

import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

import data
import train
from figures import figures
from network import NARROW, Network

SEED = 1


def majority(loaded):
    """The class with most votes in place of the votes."""
    pictures, votes, truth = loaded
    return pictures, F.one_hot(truth, votes.shape[1]).float(), truth


PARTS = {
    "everything": {},
    "without mixup": {"mixed": 0},
    "rare classes drawn as they come": {"RARE": 0},
    "pictures only mirrored": {"augment": lambda x, random: torch.where(torch.rand(len(x), 1, 1, 1, generator=random) < 0.5, x, x.flip(3))},
    "the majority in place of the votes": {"votes": majority},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    given = parser.parse_args()

    load, augment, rare = data.load, data.augment, train.RARE
    train.SIDES = [(1, given.side)]
    data.SIDE = given.side
    small = lambda x: F.interpolate(x, size=(given.side, given.side), mode="bilinear", antialias=True, align_corners=False)
    prior = load(given.data, "train")[1].mean(0).numpy()
    print("| | accuracy | balanced | macro-F1 | accuracy, half the prior | balanced, half the prior |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, changes in PARTS.items():
        changed = changes.get("votes", lambda loaded: loaded)
        data.load = lambda path, split: (lambda x, votes, truth: (small(x), votes, truth))(
            *(changed(load(path, split)) if split == "train" else load(path, split)))
        data.augment = changes.get("augment", augment)
        train.RARE = changes.get("RARE", rare)
        pictures, _, truth = data.load(given.data, "valid")
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = os.path.join(folder, "ablation.pt")
            average = train.train(given.data, checkpoint, SEED, given.epochs, NARROW, mixed=changes.get("mixed", train.MIXED))
            last = Network(**NARROW)
            last.load_state_dict(torch.load(checkpoint)["net"])
        nets = {name: average} | ({"without averaging": last} if not changes else {})
        for label, net in nets.items():
            logits = train.run(net, pictures).double().numpy()
            rows = [figures(logits - strength * np.log(prior), truth.numpy()) for strength in (0, 0.5)]
            plain, half = rows
            print(f"| {label} | {100 * plain['accuracy']:.1f} % | {plain['balanced_accuracy']:.3f} | {plain['macro_f1']:.3f} "
                  f"| {100 * half['accuracy']:.1f} % | {half['balanced_accuracy']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
