"""Takes the weights of version 1 of the model, whose normalisation is folded away, back into a network that can be trained, and
widens it."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import data
from network import Block

NOISE = 0.02  # of the spread of the weights


def load(net, path, pictures):
    """Fills a network of version 1's shape from the ONNX file. Normalisation is put back as it comes out over some pictures, so that the
    network does just what the file does, and trains as one that was never folded."""
    graph = onnx.load(path).graph
    kept = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    layers = [[kept[name] for name in node.input if name in kept] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    ours = [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    # In the order of modules(), the classifier comes last, as in the file.
    if [tuple(layer[0].shape) for layer in layers] != [tuple(module.weight.shape) for module in ours]:
        raise SystemExit(f"{path} is no such network")
    net.eval()
    hooks, norms = [], {}
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            norms |= {a: b for a, b in zip(module, list(module)[1:]) if isinstance(b, nn.BatchNorm2d)}
    with torch.no_grad():
        for module, (weight, bias) in zip(ours, layers):
            module.weight.copy_(weight)
            if module not in norms:
                module.bias.copy_(bias)
                continue
            # Filters of length 1 or so, as in a network that has just been made; normalisation evens out any factor.
            factor = weight.flatten(1).norm(dim=1).mean()
            module.weight.div_(factor)

            def restore(_, __, out, norm=norms[module], bias=bias, factor=factor):
                mean, var = out.mean((0, 2, 3)), out.var((0, 2, 3), unbiased=False)
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)
                norm.weight.copy_(factor * (var + norm.eps).sqrt())
                norm.bias.copy_(factor * mean + bias)

            hooks.append(module.register_forward_hook(restore))
        net(data.scaled(pictures))
    for hook in hooks:
        hook.remove()
    return net


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
