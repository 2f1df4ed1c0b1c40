"""The pictures with their votes, and how they are changed in training."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

LABELS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
SIDE = 48
MEAN, STD = 0.5, 0.25


def load(path, split):
    """Pictures (n x 1 x 48 x 48, 0 to 1), the vote distribution over the eight classes, and the class with most votes.

    The usual protocol: single votes are noise, and pictures that most call no face or unknown are left out."""
    with np.load(path) as file:
        images, votes = file[f"{split}_images"], file[f"{split}_votes"].astype(np.float32)
    votes[votes <= 1] = 0
    keep = (votes.max(1) > 0) & (votes.argmax(1) < len(LABELS))
    images, votes = images[keep], votes[keep, :len(LABELS)]
    pictures = torch.from_numpy(images).float().div_(255)[:, None]
    return pictures, torch.from_numpy(votes / votes.sum(1, keepdims=True)), torch.from_numpy(votes.argmax(1))


def scaled(pictures):
    return (pictures - MEAN) / STD


def augment(x, random):
    """A batch as a camera might have seen it: moved, turned, mirrored, relit, blurred, small, compressed, half hidden."""
    n = len(x)
    normal = lambda spread: torch.randn(n, generator=random) * spread
    uniform = lambda low, high: torch.rand(n, generator=random) * (high - low) + low
    each = lambda values: values[:, None, None, None]

    angle, scale = (normal(0.15)).clamp(-0.5, 0.5), normal(0.08).clamp(-0.25, 0.25).exp()
    aspect, mirror = normal(0.04).exp(), (uniform(0, 1) < 0.5).float() * 2 - 1
    cos, sin = angle.cos(), angle.sin()
    across, down = 1 / (scale * aspect), aspect / scale
    rows = [torch.stack([cos * across * mirror, -sin * down, normal(0.06)], 1),
            torch.stack([sin * across * mirror, cos * down, normal(0.06)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    # One harm by a camera at most.
    kind = uniform(0, 1)
    some = torch.where(kind < 0.12)[0]
    if len(some):
        small = int(torch.randint(16, 36, (1,), generator=random))
        x[some] = F.interpolate(F.interpolate(x[some], size=(small, small), mode="area"), size=x.shape[2:], mode="bilinear")
    some = torch.where((kind >= 0.12) & (kind < 0.22))[0]
    if len(some):
        kernel = torch.exp(-torch.arange(-3.0, 4.0) ** 2 / (2 * float(uniform(0.5, 1.5)[0]) ** 2))
        kernel = kernel / kernel.sum()
        padded = F.pad(x[some], (3, 3, 3, 3), mode="replicate")
        x[some] = F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])
    quality = uniform(20, 70).int()
    for i in torch.where((kind >= 0.22) & (kind < 0.32))[0].tolist():
        pixels = (x[i, 0].clamp(0, 1) * 255).byte().numpy()
        coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality[i])])[1]
        x[i, 0] = torch.from_numpy(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)).float() / 255

    mean = x.mean((1, 2, 3), keepdim=True)
    x = ((x - mean) * each(normal(0.2).exp()) + mean + each(normal(0.08))).clamp(1e-4, 1)
    x = x ** each(normal(0.2).exp())
    slope = torch.linspace(-1, 1, x.shape[-1])
    light = 1 + each(normal(0.12)) * slope[None, None, None] + each(normal(0.08)) * slope[None, None, :, None]
    x = (x * light).clamp(0, 1)

    chosen = torch.where(uniform(0, 1) < 0.25)[0].tolist()
    sides = torch.randint(6, 20, (n, 2), generator=random)
    corners, greys = torch.rand(n, 2, generator=random), uniform(0, 1)
    for i in chosen:
        high, wide = sides[i].tolist()
        top, left = int(corners[i, 0] * (x.shape[2] - high)), int(corners[i, 1] * (x.shape[3] - wide))
        x[i, 0, top:top + high, left:left + wide] = greys[i]
    return x
