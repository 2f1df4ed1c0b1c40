"""Figures of a classifier's logits: the same arithmetic as `visage eval`."""

import numpy as np

STEPS = 15  # of confidence, over which calibration is measured


def softmax(logits):
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def figures(logits, truth):
    p = softmax(logits.astype(np.float64))
    classes, named, sure = p.shape[1], p.argmax(1), p.max(1)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (truth, named), 1)
    right, support, answers = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    precision, recall = right / np.maximum(answers, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + answers, 1)
    step = np.minimum((sure * STEPS).astype(int), STEPS - 1)
    off = np.bincount(step, sure - (named == truth), STEPS)
    there = support > 0
    return {
        "accuracy": (named == truth).mean(),
        "balanced_accuracy": recall[there].mean(),
        "macro_f1": f1[there].mean(),
        "ece": np.abs(off).sum() / len(truth),
        "precision": precision, "recall": recall, "f1": f1, "support": support, "confusion": confusion,
    }
