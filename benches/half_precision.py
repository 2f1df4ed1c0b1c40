#!/usr/bin/env python3
"""Measures the effect of half precision (engine.precision = "fp16"), simulated on the CPU. Each operator runs
separately in 32 bits. Its inputs, weights and outputs are rounded to 16 bits, as a GPU stores them. The last
layer before an output and the operators after it are not rounded, as in src/engine/half_precision.rs.

usage: python half_precision.py FERPLUS.npz MODELS CLIP...     needs numpy, onnx, onnxruntime and opencv-python-headless

FERPLUS.npz is the data of models/training, MODELS the folder with face_landmarks.onnx and yunet_n_dynamic.onnx.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

EMOTION = Path(__file__).parent.parent / "models" / "emotion.onnx"
LAYERS = {"Conv", "Gemm", "MatMul"}
TYPES = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}
SIDE, FACE = 640, 256


def rounded(values):
    return values.astype(np.float16).astype(np.float32)


class Network:
    def __init__(self, path):
        self.model = onnx.load(path)
        self.constants = {each.name: numpy_helper.to_array(each) for each in self.model.graph.initializer}
        self.sessions, self.last = {}, set()
        behind = {output.name for output in self.model.graph.output}
        for n, node in reversed(list(enumerate(self.model.graph.node))):
            if behind.intersection(node.output):
                self.last.add(n)
                if node.op_type not in LAYERS | {"Shape"}:
                    behind.update(node.input)

    def run(self, rows, half):
        graph = self.model.graph
        values = {graph.input[0].name: rows}
        for n, node in enumerate(graph.node):
            rounds = half and n not in self.last
            taken = {}
            for place, name in enumerate(node.input):
                value = values.get(name, self.constants.get(name))
                if value is not None and value.dtype == np.float16:
                    value = value.astype(np.float32)
                elif value is not None and value.dtype == np.float32 and rounds and node.op_type != "Resize":
                    value = rounded(value)
                if value is not None:
                    taken[f"in{place}"] = value
            # The cast of a weight that is stored in 16 bits.
            if node.op_type == "Cast" and node.input[0] in self.constants:
                values[node.output[0]] = taken["in0"]
                continue
            given = self.session(n, node, taken).run(None, taken)
            for name, value in zip(node.output, given):
                value = rounded(value) if rounds and value.dtype == np.float32 else value
                if not np.isfinite(value).all():
                    sys.exit(f"{node.op_type} overflows 16 bits in {name}")
                values[name] = value
        return [values[output.name] for output in graph.output]

    def session(self, n, node, taken):
        if n not in self.sessions:
            alone = onnx.NodeProto()
            alone.CopyFrom(node)
            del alone.input[:]
            alone.input.extend(f"in{place}" if name else "" for place, name in enumerate(node.input))
            inputs = [helper.make_tensor_value_info(name, TYPES[value.dtype], None) for name, value in taken.items()]
            graph = helper.make_graph([alone], "one", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
            model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
            self.sessions[n] = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return self.sessions[n]

    def both(self, rows):
        return self.run(rows, False), self.run(rows, True)


def chances(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def emotions(path):
    with np.load(path) as file:
        images, votes = file["valid_images"], file["valid_votes"].astype(np.float32)
    votes[votes <= 1] = 0
    images = images[(votes.max(1) > 0) & (votes.argmax(1) < 8)]
    rows = ((images.reshape(-1, 1, 48, 48) / 255 - 0.5) / 0.25).astype(np.float32)
    network = Network(EMOTION)
    parts = [network.both(rows[n:n + 500]) for n in range(0, len(rows), 500)]
    full, half = (np.concatenate([part[which][0] for part in parts]) for which in (0, 1))
    moved = abs(chances(full) - chances(half)).max()
    print(f"emotion: {(full.argmax(1) != half.argmax(1)).sum()} of {len(rows)} pictures get another emotion; "
          f"probabilities move by at most {moved:.4f}")


def best(outputs, width):
    """Returns the face with the highest score of YuNet's outputs: score, and box and points in pixels."""
    faces = []
    for n, step in enumerate((8, 16, 32)):
        likely, there, box, points = (outputs[kind * 3 + n][0] for kind in range(4))
        scores = np.sqrt(np.clip(likely.ravel(), 0, 1) * np.clip(there.ravel(), 0, 1))
        for at in np.where(scores > 0.6)[0]:
            row, column = divmod(at, width // step)
            size = np.exp(box[at][2:]) * step
            middle = (np.array([column, row]) + box[at][:2]) * step
            marks = ((points[at].reshape(5, 2) + [column, row]) * step).ravel()
            faces.append((scores[at], *(middle - size / 2), *size, *marks))
    return max(faces, default=None)


def frames(clip):
    video, n = cv2.VideoCapture(clip), 0
    while (read := video.read())[0]:
        if n % 15 == 0:
            yield read[1]
        n += 1


def faces(folder, clips):
    detector, landmarks = Network(folder / "yunet_n_dynamic.onnx"), Network(folder / "face_landmarks.onnx")
    looked, differ, boxes, points, most = 0, 0, [], [], []
    for frame in (frame for clip in clips for frame in frames(clip)):
        scale = SIDE / max(frame.shape[:2])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        down, right = -small.shape[0] % 32, -small.shape[1] % 32
        padded = cv2.copyMakeBorder(small, 0, down, 0, right, cv2.BORDER_CONSTANT)
        rows = padded.transpose(2, 0, 1)[None].astype(np.float32)
        full, half = (best(given, padded.shape[1]) for given in detector.both(rows))
        looked += 1
        differ += (full is None) != (half is None)
        if full is None or half is None:
            continue
        boxes.append(abs(np.subtract(full[1:], half[1:])).max())
        left, top, width, height = full[1:5]
        zoom = FACE / (1.5 * max(width, height))
        matrix = np.float32([[zoom, 0, FACE / 2 - (left + width / 2) * zoom],
                             [0, zoom, FACE / 2 - (top + height / 2) * zoom]])
        face = cv2.cvtColor(cv2.warpAffine(small, matrix, (FACE, FACE)), cv2.COLOR_BGR2RGB)
        full, half = landmarks.both(face[None].astype(np.float32) / 255)
        moved = abs(full[0] - half[0]).reshape(-1, 3)[:, :2]
        points.append(moved.mean())
        most.append(moved.max())
    print(f"detector: of {looked} frames, {differ} have a face in one precision only; boxes and points move by at most "
          f"{max(boxes):.2f} pixels of {SIDE}")
    print(f"landmarks: they move by {np.mean(points):.3f} pixels of {FACE} on average, by {max(most):.2f} at most")


if len(sys.argv) < 4:
    sys.exit(__doc__)
emotions(sys.argv[1])
faces(Path(sys.argv[2]), sys.argv[3:])
