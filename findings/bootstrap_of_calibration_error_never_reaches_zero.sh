#!/usr/bin/env bash
# The bootstrap interval of a calibration error excludes zero even if a classifier is calibrated perfectly.
#
# Expected: a 95 % interval of the expected calibration error (ECE) holds the true value about 95 times in 100. If a classifier is
# calibrated perfectly, the interval reaches down to about zero.
# Seen: with 2,000 pictures of such a classifier, the percentile interval (0.019 to 0.046 on average) holds zero in none of 40 sets. The error of
# a bin is an absolute value, so chance never lowers it: each draw adds its own chance to that of the pictures. BCa, which corrects a bias,
# excludes zero in all 40 sets, too. The basic interval, which mirrors the draws at the measured value, reaches zero in about half of them.
# Versions: scipy 1.17.0, 15 bins of equal width.
# Why it matters here: a card that says "calibration error 0.025 (0.019 to 0.048)" reads as proof of a fault. visage's evaluation prints such
# intervals and says that they lie too high. Compare models on the same draws instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check scipy==1.17.0 numpy==2.4.6

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 env/bin/python - <<'PYTHON'
import sys

import numpy as np
import scipy
from scipy.stats import bootstrap

BINS, PICTURES, SETS, DRAWS = 15, 2000, 40, 300


def calibration_error(confidence, right, axis=-1):
    """The expected calibration error of each row."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return sum(np.abs(np.where(bins == k, right - confidence, 0).sum(axis)) for k in range(BINS)) / confidence.shape[axis]


print("scipy", scipy.__version__, "|", PICTURES, "pictures,", SETS, "sets")
holds_zero = {}
for method in ("percentile", "BCa", "basic"):
    zero = 0
    lows, highs = [], []
    for seed in range(SETS):
        random = np.random.default_rng(seed)
        confidence = random.uniform(0.4, 1.0, PICTURES)
        right = (random.uniform(size=PICTURES) < confidence).astype(float)
        found = bootstrap((confidence, right), calibration_error, paired=True, vectorized=True, n_resamples=DRAWS, method=method,
                          rng=random).confidence_interval
        zero += found.low <= 0
        lows.append(found.low)
        highs.append(found.high)
    print(f"{method:10} mean interval {np.mean(lows):.3f} to {np.mean(highs):.3f}; {zero} of {SETS} hold zero")
    holds_zero[method] = int(zero)

is_as_described = holds_zero["percentile"] == 0 and holds_zero["BCa"] == 0 and 0 < holds_zero["basic"] < SETS
sys.exit(0 if is_as_described else f"changed: {holds_zero}")
PYTHON
