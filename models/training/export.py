"""A trained network to the ONNX file that is shipped: normalisation folded, calibrated, weights in 16 bits, with what a reader has
to know about it in its metadata."""

import io

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import data
from figures import softmax

# As `visage` spells them.
NAMES = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"]


def temperature(logits, truth):
    """What logits are divided by so that their probabilities come true, by the likelihood of the true classes."""
    loss = lambda t: -np.log(softmax(logits / t)[np.arange(len(truth)), truth]).mean()
    steps = np.arange(0.5, 2, 0.01)
    return float(steps[np.argmin([loss(step) for step in steps])])


def folded(net):
    """The same network without normalisation layers, ready to run."""
    net.eval()
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential):
            for i, (one, next) in enumerate(zip(list(module), list(module)[1:])):
                if isinstance(one, nn.Conv2d) and isinstance(next, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(one, next), nn.Identity()
    return net


def half(model):
    """Stores large weights as 16-bit floats. They are widened again when the file is loaded, so that it runs as fast."""
    graph = model.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 64:
            narrow = numpy_helper.from_array(values.astype(np.float16), tensor.name + ".half")
            casts.append(helper.make_node("Cast", [narrow.name], [tensor.name], to=TensorProto.FLOAT))
            tensor = narrow
        kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def export(net, degrees, prior, version, origin):
    """The bytes of the ONNX file: input `face` [batch, 1, 48, 48], output `logits` [batch, 8], at one degree of warmth."""
    net = folded(net.cpu().to(memory_format=torch.contiguous_format))
    with torch.no_grad():
        net.classes.weight.div_(degrees)
        net.classes.bias.div_(degrees)
    file = io.BytesIO()
    program = torch.onnx.export(
        net, (torch.zeros(2, 1, data.SIDE, data.SIDE),), input_names=["face"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=18, dynamo=True, optimize=True, verbose=False)
    program.save(file)
    model = onnx.load_from_string(file.getvalue())
    half(model)
    # What the exporter tells of where it ran is nobody's business.
    for part in [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info,
                 *model.graph.input, *model.graph.output]:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.name, model.producer_name, model.producer_version = "emotion", "visage", ""
    helper.set_model_props(model, {
        "version": version,
        "labels": ",".join(NAMES),
        "input": "face f32 [batch, 1, 48, 48], grey, (pixel / 255 - 0.5) / 0.25",
        "output": "logits [batch, 8], calibrated",
        "prior": ",".join(f"{share:.6f}" for share in prior),
        "temperature": f"{degrees:.2f}",
        "licence": "MIT OR Apache-2.0",
        "data": "FER2013 pictures with FER+ votes",
        "origin": origin,
    })
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
