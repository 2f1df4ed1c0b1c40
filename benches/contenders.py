"""Typical Python scripts for the same task, to compare visage with.

    contenders.py haar|yunet|fer CLIP   analyzes every 20th frame; prints the number of faces and their emotions
    contenders.py models                prints milliseconds per call of each network on one core, to compare machines
"""

import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

EVERY = 20
MODELS = Path(__file__).resolve().parent.parent / "models"
LABELS = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"]


def classifier():
    import onnxruntime

    session = onnxruntime.InferenceSession(str(MODELS / "emotion.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def read(gray):
        face = cv2.resize(gray, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        row = ((face - 0.5) / 0.25)[None, None]
        return LABELS[int(np.argmax(session.run(None, {name: row})[0]))]

    return read


def haar(capture):
    """The usual script: decodes every frame, runs a Haar cascade on its grey picture and a 48x48 classifier.

    Scale steps of 1.1 are the default of OpenCV and DeepFace. With steps of 1.3, as in some tutorials, it takes two
    thirds of the time, and finds no face in a third of the frames.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    read = classifier()
    index = 0
    while True:
        there, frame = capture.read()
        if not there:
            return
        if index % EVERY == 0:
            gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            for x, y, w, h in cascade.detectMultiScale(gray, 1.1, 5):
                yield read(gray[y : y + h, x : x + w])
        index += 1


def sampled(capture):
    """Yields the sampled frames. Only these are converted to pictures."""
    index = 0
    while capture.grab():
        if index % EVERY == 0:
            yield capture.retrieve()[1]
        index += 1


def yunet(capture):
    """A careful script: grab and retrieve, YuNet at the same size as in visage, visage's classifier."""
    read = classifier()
    detector = cv2.FaceDetectorYN.create(str(MODELS / "yunet_n_dynamic.onnx"), "", (640, 640), 0.6)
    for frame in sampled(capture):
        height, width = frame.shape[:2]
        scale = min(1.0, 640 / max(height, width))
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        detector.setInputSize((small.shape[1], small.shape[0]))
        found = detector.detect(small)[1]
        for face in [] if found is None else found:
            x, y, w, h = (max(0, int(v / scale)) for v in face[:4])
            yield read(cv2.cvtColor(frame[y : y + h, x : x + w], cv2.COLOR_BGR2GRAY))


def fer(capture):
    """The `fer` package with MTCNN."""
    try:
        from fer import FER
    except ImportError:
        from fer.fer import FER
    detector = FER(mtcnn=True)
    for frame in sampled(capture):
        for face in detector.detect_emotions(frame):
            yield max(face["emotions"], key=face["emotions"].get)


def models():
    """Prints the median time of thirty calls of each network on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    shapes = {"yunet_n_dynamic": (1, 3, 384, 640), "face_landmarks": (1, 256, 256, 3), "emotion": (8, 1, 48, 48)}
    for name, shape in shapes.items():
        session = onnxruntime.InferenceSession(str(MODELS / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        row = {session.get_inputs()[0].name: np.random.default_rng(0).random(shape, np.float32)}
        taken = []
        for _ in range(30):
            since = time.perf_counter()
            session.run(None, row)
            taken.append(time.perf_counter() - since)
        print(f"  {name} {'x'.join(map(str, shape))}: {statistics.median(taken) * 1000:.1f} ms")


if sys.argv[1] == "models":
    models()
else:
    seen = Counter({"haar": haar, "yunet": yunet, "fer": fer}[sys.argv[1]](cv2.VideoCapture(sys.argv[2])))
    print(seen.total(), "faces:", dict(seen))
