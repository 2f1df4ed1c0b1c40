"""Widens a network."""

import torch

from network import Block

NOISE = 0.02  # of the spread of the weights


def widen(narrow, wide, seed):
    """Fills a wider network of the same depth so that it computes what the narrower one does, but for a little noise: channels
    are doubled up, and what reads them is divided (Chen, Goodfellow and Shlens 2016, Net2Net)."""
    random = torch.Generator().manual_seed(seed)

    def grown(old, new):
        return torch.cat([torch.arange(old), torch.randperm(old, generator=random)[:new - old]])

    def fill(old, new, inputs, outputs):
        readers = torch.bincount(inputs).float()[inputs]
        weight = old.weight[outputs][:, inputs] / readers.view(1, -1, *[1] * (old.weight.ndim - 2))
        if len(inputs) > old.weight.shape[1] or len(outputs) > old.weight.shape[0]:
            # Doubles that start as the same would stay the same.
            weight = weight + NOISE * weight.std() * torch.randn(weight.shape, generator=random)
        new.weight.copy_(weight)
        if old.bias is not None:
            new.bias.copy_(old.bias[outputs])

    def convolution(old, new, inputs, outputs):
        fill(old[0], new[0], inputs, outputs)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(new[1], name).copy_(getattr(old[1], name)[outputs])

    with torch.no_grad():
        channels = torch.tensor([0])
        for old, new in zip(narrow.features, wide.features):
            if isinstance(old, Block):
                between = grown(old.first[0].out_channels, new.first[0].out_channels)
                squeezed = grown(old.squeeze.out_channels, new.squeeze.out_channels)
                convolution(old.first, new.first, channels, between)
                convolution(old.second, new.second, between, channels)
                fill(old.squeeze, new.squeeze, channels, squeezed)
                fill(old.excite, new.excite, squeezed, channels)
            else:
                outputs = grown(old[0].out_channels, new[0].out_channels)
                convolution(old, new, channels, outputs)
                channels = outputs
        fill(narrow.classes, wide.classes, channels, torch.arange(wide.classes.out_features))
    return wide
