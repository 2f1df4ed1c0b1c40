"""Takes the weights of version 1 of the model, whose normalisation is folded away, back into a network that can be trained."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import data


def load(net, path, pictures):
    """Fills a WIDE network from the ONNX file. Normalisation is put back as it comes out over some pictures, so that the
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
