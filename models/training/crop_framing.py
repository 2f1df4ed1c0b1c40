"""How the pictures that the emotion classifier was trained on are framed, as each face detector sees them.

Runs a detector on the upscaled training pictures, takes the mean of its boxes and inverts it: the square to cut around a
box, in box heights. The constants of src/vision/crop.rs are those of the rule "box, eyes level". Then cuts validation
pictures, laid on a plain larger canvas, by several rules, and says how many the classifier names rightly; and reads videos
by each rule.

usage: python crop_framing.py FERPLUS.npz EMOTION.onnx yunet|blazeface DETECTOR.onnx [VIDEO ...]
needs: numpy, onnxruntime, opencv-python-headless
"""

import sys

import cv2
import numpy as np
import onnxruntime as ort

PICTURES = 4000  # of the training pictures
SIDE = 192  # pictures are scaled to this before detection
CANVAS = 320
LABELS = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"]


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class YuNet:
    def __init__(self, path):
        self.net = session(path)
        self.names = [output.name for output in self.net.get_outputs()]

    def best(self, bgr):
        """The highest-scoring face of a picture: score, box (x, y, w, h), eyes (right, left), middle of the mouth."""
        height, width = bgr.shape[:2]
        bgr = cv2.copyMakeBorder(bgr, 0, -height % 32, 0, -width % 32, cv2.BORDER_CONSTANT)
        rows = np.ascontiguousarray(bgr.astype(np.float32).transpose(2, 0, 1)[None])
        out = dict(zip(self.names, self.net.run(None, {"input": rows})))
        best = None
        for s in (8, 16, 32):
            score = np.sqrt(out[f"cls_{s}"][0, :, 0] * out[f"obj_{s}"][0, :, 0])
            i = int(score.argmax())
            if best is None or score[i] > best[0]:
                cell = np.array([i % (bgr.shape[1] // s), i // (bgr.shape[1] // s)], np.float32)
                box = out[f"bbox_{s}"][0, i]
                centre, size = (cell + box[:2]) * s, np.exp(box[2:]) * s
                points = (cell + out[f"kps_{s}"][0, i].reshape(5, 2)) * s
                best = float(score[i]), np.concatenate([centre - size / 2, size]), points[:2], points[3:].mean(0)
        return best


class BlazeFace:
    def __init__(self, path):
        self.net = session(path)
        middles = [(np.arange(n) + 0.5) / n for n in (16, 8)]
        grids = [np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2) for middle in middles]
        self.anchors = np.concatenate([grids[0].repeat(2, 0), grids[1].repeat(6, 0)]).astype(np.float32) * 256

    def best(self, bgr):
        longer = max(bgr.shape[:2])
        square = cv2.copyMakeBorder(bgr, 0, longer - bgr.shape[0], 0, longer - bgr.shape[1], cv2.BORDER_CONSTANT)
        square = cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA if longer > 256 else cv2.INTER_LINEAR)
        rows = np.ascontiguousarray(square[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)[None])
        scores, regression = self.net.run(["scores", "regression"], {"input": rows})
        i = int(scores[0].argmax())
        values = regression[0, i].reshape(-1, 2)
        points = (values + self.anchors[i]) * longer / 256
        size = values[1] * longer / 256
        return float(scores[0, i]), np.concatenate([points[0] - size / 2, size]), points[2:4], points[5]


class Seen:
    """A face as a detector sees it."""

    def __init__(self, box, eyes, mouth):
        self.box, self.eyes, self.mouth = box, eyes, mouth
        line = eyes[1] - eyes[0]
        self.angle = float(np.degrees(np.arctan2(line[1], line[0])))
        self.between_eyes = float(np.linalg.norm(line))
        self.eyes_to_mouth = float(np.linalg.norm(mouth - eyes.mean(0)))


# What a rule measures a face by: its size and its centre.
RULES = {
    "box": (lambda f: f.box[3], lambda f: f.box[:2] + f.box[2:] / 2),
    # The larger of the two: a face in profile has its eyes close together, one that looks down its mouth close to them.
    "eyes and mouth": (lambda f: max(f.between_eyes, f.eyes_to_mouth), lambda f: (f.eyes.mean(0) + f.mouth) / 2),
}


def turned(vector, angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def cut(gray, centre, size, angle, side=48):
    """The picture of a square turned by `angle` degrees, clockwise; averaged where it shrinks."""
    k = min(8, max(1, int(np.ceil(size / side))))
    scale = k * side / size
    c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    x, y = centre - 0.5
    half = k * side / 2 - 0.5
    matrix = np.array([[c, s, half - c * x - s * y], [-s, c, half + s * x - c * y]])
    large = cv2.warpAffine(gray, matrix, (k * side, k * side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return large if k == 1 else cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)


def majority(votes):
    """Labels of the usual protocol: single votes dropped; -1 where unknown or not-a-face wins, or nothing does."""
    votes = np.where(votes <= 1, 0, votes).astype(int)
    top, label = votes.max(1), votes.argmax(1)
    return np.where((top == 0) | ((votes == top[:, None]).sum(1) > 1) | (label > 7), -1, label)


def probabilities(net, pictures):
    rows = (np.stack(pictures).astype(np.float32)[:, None] / 255 - 0.5) / 0.25
    logits = np.concatenate([net.run(None, {"face": rows[i:i + 64]})[0] for i in range(0, len(rows), 64)])
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def main():
    data, emotion, kind, path = sys.argv[1:5]
    detector = {"yunet": YuNet, "blazeface": BlazeFace}[kind](path)
    net = session(emotion)
    npz = np.load(data)
    random = np.random.default_rng(0)

    faces = []
    room = (CANVAS - SIDE) // 2
    train = npz["train_images"][random.permutation(len(npz["train_images"]))[:PICTURES]]
    for picture in train:
        # With some plain room around it: a face that fills its picture is found more surely so.
        large = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        large = cv2.copyMakeBorder(large, room, room, room, room, cv2.BORDER_CONSTANT, value=int(picture.mean()))
        score, box, eyes, mouth = detector.best(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR))
        if score > 0.7:
            faces.append(Seen((box - [room, room, 0, 0]) / SIDE, (eyes - room) / SIDE, (mouth - room) / SIDE))
    print(f"{kind}: {len(faces)} of {len(train)} training pictures found; the picture is 1 wide and high")
    mean = lambda values: np.mean(list(values), axis=0).round(4).tolist()
    print("mean box", mean(f.box for f in faces), "eyes", mean(f.eyes for f in faces), "mouth", mean(f.mouth for f in faces))
    print("box height / eyes to mouth, median:", round(float(np.median([f.box[3] / f.eyes_to_mouth for f in faces])), 3))

    rules = {"plain box, squared": lambda f: (f.box[:2] + f.box[2:] / 2, max(f.box[2:]), 0.0)}
    for name, (size, centre) in RULES.items():
        side = float(np.exp(np.mean([-np.log(size(f)) for f in faces])))
        offset = np.mean([(0.5 - centre(f)) / size(f) for f in faces], axis=0)
        spread = float(np.std([np.log(size(f)) for f in faces]))
        print(f"{name}: side {side:.4f} x size, centre off by {offset.round(4).tolist()} x size; spread of size {spread:.3f}")
        upright = lambda f, s=size, c=centre, k=side, o=offset: (c(f) + o * s(f), k * s(f), 0.0)
        level = lambda f, s=size, c=centre, k=side, o=offset: (c(f) + turned(o, f.angle) * s(f), k * s(f), f.angle)
        rules |= {name: upright, f"{name}, eyes level": level}

    labels = majority(npz["valid_votes"])
    keep = np.flatnonzero(labels >= 0)
    pictures, labels = npz["valid_images"][keep], labels[keep]
    found, cuts = [], {name: [] for name in rules}
    for n, picture in enumerate(pictures):
        # As if the face had been filmed larger, somewhere before a plain wall.
        canvas = np.full((CANVAS, CANVAS), int(picture.mean()), np.uint8)
        x, y = random.integers(20, CANVAS - SIDE - 20, 2)
        canvas[y:y + SIDE, x:x + SIDE] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        score, box, eyes, mouth = detector.best(cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR))
        if score >= 0.6:
            found.append(n)
            for name, rule in rules.items():
                cuts[name].append(cut(canvas, *rule(Seen(box, eyes, mouth))))
    print(f"validation: {len(found)} of {len(pictures)} found on the canvas; named rightly:")
    for name, some in ({"the pictures themselves": list(pictures[found])} | cuts).items():
        p = probabilities(net, some)
        right = (p.argmax(1) == labels[found]).mean()
        loss = -np.log(np.maximum(p[np.arange(len(p)), labels[found]], 1e-9)).mean()
        print(f"  {name:28} {100 * right:.2f} %   log loss {loss:.4f}")

    for video in sys.argv[5:]:
        capture, n, times, ratios, cuts = cv2.VideoCapture(video), 0, [], [], {name: [] for name in rules}
        while capture.grab():
            if n % 12 == 0:
                frame = capture.retrieve()[1]
                score, box, eyes, mouth = detector.best(frame)
                if score >= 0.6:
                    seen = Seen(box, eyes, mouth)
                    times.append(n / capture.get(cv2.CAP_PROP_FPS))
                    ratios.append(box[3] / seen.eyes_to_mouth)
                    for name, rule in rules.items():
                        cuts[name].append(cut(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), *rule(seen)))
            n += 1
        print(f"{video}: box height / eyes to mouth, median {np.median(ratios):.3f}; most probable, each second:")
        for name, some in cuts.items():
            p, seconds = probabilities(net, some), np.floor(times)
            means = [p[seconds == second].mean(0) for second in np.unique(seconds)]
            print(f"  {name:28}", " ".join(f"{LABELS[int(m.argmax())][:3]}{100 * m.max():.0f}" for m in means))


if __name__ == "__main__":
    main()
