#!/usr/bin/env python3
"""Makes the first inputs of each fuzz target under fuzz/corpus: clips by FFmpeg, and small files written here.

    fuzz/seeds.py

Nothing is fetched, and nothing that lies there already is changed: what fuzzing found stays.
"""

import base64
import gzip
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
SOURCE = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1"]
CLIPS = {
    "b-frames.mp4": ["-c:v", "libx264", "-bf", "3", "-g", "12", "-pix_fmt", "yuv420p"],
    "open-gop.mp4": ["-c:v", "libx264", "-bf", "3", "-g", "8", "-x264-params", "open-gop=1", "-pix_fmt", "yuv420p"],
    "slices.mp4": ["-c:v", "libx264", "-profile:v", "baseline", "-refs", "3", "-x264-params", "slices=2", "-pix_fmt", "yuv420p"],
    "fragments.mp4": ["-c:v", "libx264", "-g", "10", "-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mp4": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=10", "-tag:v", "hvc1"],
    "turned.mov": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-metadata:s:v", "rotate=90"],
    "vp8.webm": ["-c:v", "libvpx", "-deadline", "realtime", "-g", "10"],
    "vp9.mkv": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-aspect", "2:1"],
    "asp.avi": ["-c:v", "mpeg4", "-bf", "2"],
    "avc.ts": ["-c:v", "libx264", "-g", "10", "-pix_fmt", "yuv420p"],
    "mpeg1.mpg": ["-c:v", "mpeg1video", "-f", "mpeg"],
    "flash.flv": ["-c:v", "flv"],
    "still.gif": ["-frames:v", "3"],
}
CODINGS = {"h264": 0, "hevc": 3, "vp8": 5, "vp9": 6, "av1": 7}


def put(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{name}"
    if not path.exists():
        path.write_bytes(content)


def block(content):
    return struct.pack(">H", len(content)) + content


def hexadecimal(dump):
    """The bytes of ffprobe's hexadecimal dump."""
    digits = (line.partition(": ")[2][:40] for line in dump.splitlines() if ": " in line)
    return bytes.fromhex("".join(digits).replace(" ", ""))


def planned(clip, sampling, every):
    """The packets of a clip as the target `plan` reads them, cut off behind the headers of their slices."""
    told = subprocess.run(["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v:0", "-show_streams", "-show_packets",
                           "-show_data", clip], check=True, capture_output=True, text=True)
    told = json.loads(told.stdout)
    stream = told["streams"][0]
    if stream["codec_name"] not in CODINGS:
        return None
    coding = CODINGS[stream["codec_name"]]
    written = bytes([coding << 4 | 3 << 2 | sampling, every])
    if coding == 0:
        written += block(hexadecimal(stream.get("extradata", "")))
    base = last = None
    for packet in told["packets"]:
        stamp = int(packet.get("pts", packet.get("dts", 0)))
        base = base or max(1, int(packet.get("duration", 1)))
        step = 0 if last is None else round((stamp - last) / base)
        last = stamp
        is_back = step < 0
        flags = ("K" in packet["flags"]) | (2 if is_back else 0) << 1 | min(abs(step), 31) << 3
        written += bytes([flags]) + block(hexadecimal(packet["data"])[:96])
    return written


def field(number, content):
    """A field of a protocol buffer: a number, or bytes with their length."""
    def varint(value):
        value &= (1 << 64) - 1
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(name, dims, values, kind=1):
    packed = struct.pack(f"<{len(values)}{'f' if kind == 1 else 'q'}", *values)
    return field(5, b"".join(field(1, dim) for dim in dims) + field(2, kind) + field(8, name) + field(9, packed))


def node(operator, inputs, output, attributes=()):
    held = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator)
    return field(1, held + b"".join(field(5, attribute) for attribute in attributes))


def group(count):
    return field(1, "group") + field(20, 2) + field(3, count)


def value(number, name):
    shape = b"".join(field(1, field(1, dim)) for dim in (1, 1, 4, 4))
    return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, shape))))


def onnx(channels, padding):
    """Convolution, slopes, a depthwise convolution, and another one; with padding of channels behind it where asked for."""
    parts = [
        node("Conv", ["in", "w1", "b1"], "a"),
        node("PRelu", ["a", "slopes"], "b"),
        node("Conv", ["b", "w2"], "c", [group(channels)]),
        node("Conv", ["c", "w3"], "d"),
        node("MaxPool", ["d"], "e"),
    ]
    if padding:
        parts.append(node("Pad", ["e", "amounts"], "out"))
        parts.append(constant("amounts", [8], [0, 0, 0, 0, 0, 16, 0, 0], 7))
    else:
        parts.append(node("Relu", ["e"], "out"))
    parts += [
        constant("w1", [channels, 1, 1, 1], [0.5] * channels),
        constant("b1", [channels], [0.0] * channels),
        constant("slopes", [1, channels, 1, 1], [0.25] * channels),
        constant("w2", [channels, 1, 1, 1], [2.0] * channels),
        constant("w3", [16, channels, 1, 1], [1.0] * 16 * channels),
        field(2, "graph"), value(11, "in"), value(12, "out"),
    ]
    return field(1, 8) + field(7, b"".join(parts)) + field(8, field(1, "") + field(2, 13))


class Flat:
    """Writes a FlatBuffer front to back: each part knows where those it points to will stand, as they come later."""

    def __init__(self):
        self.bytes = bytearray(b"\0\0\0\0TFL3")

    def align(self):
        self.bytes += bytes(-len(self.bytes) % 8)

    def point(self, at, to):
        self.bytes[at:at + 4] = struct.pack("<I", to - at)

    def vector(self, width, content, count):
        self.align()
        at = len(self.bytes)
        self.bytes += struct.pack("<I", count) + content
        return at

    def table(self, fields):
        """`fields`: number to bytes, or to a function that writes what is pointed to."""
        self.align()
        slots = max(fields, default=-1) + 1
        vtable = len(self.bytes)
        self.bytes += bytes(4 + 2 * slots)
        self.align()
        at = len(self.bytes)
        self.bytes += struct.pack("<i", at - vtable)
        later = []
        for number, content in fields.items():
            self.bytes[vtable + 4 + 2 * number:vtable + 6 + 2 * number] = struct.pack("<H", len(self.bytes) - at)
            if callable(content):
                later.append((len(self.bytes), content))
                content = bytes(4)
            self.bytes += content + bytes(-len(content) % 4)
        self.bytes[vtable:vtable + 4] = struct.pack("<HH", 4 + 2 * slots, len(self.bytes) - at)
        for place, write in later:
            self.point(place, write())
        return at

    def numbers(self, values):
        return lambda: self.vector(4, struct.pack(f"<{len(values)}i", *values), len(values))

    def raw(self, content):
        return lambda: self.vector(1, content, len(content))

    def tables(self, writers):
        def write():
            at = self.vector(4, bytes(4 * len(writers)), len(writers))
            for number, writer in enumerate(writers):
                self.point(at + 4 + 4 * number, self.table(writer))
            return at
        return write

    def finish(self, root):
        self.point(0, self.table(root))
        return bytes(self.bytes)


def tflite(code, shapes, out, options=None, integers=()):
    """A network of one operator on one input, with constants behind it."""
    flat = Flat()
    buffers, tensors = [{}], []
    for place, shape in enumerate([*shapes, out]):
        held = 0
        if 0 < place < len(shapes):
            count = 1
            for size in shape:
                count *= size
            kind = "i" if place in integers else "f"
            buffers.append({0: flat.raw(struct.pack(f"<{count}{kind}", *[1] * count))})
            held = len(buffers) - 1
        tensors.append({0: flat.numbers(shape), 1: bytes([2 if place in integers else 0]), 2: struct.pack("<I", held),
                        3: flat.raw(f"t{place}".encode())})
    operator = {0: struct.pack("<I", 0), 1: flat.numbers(list(range(len(shapes)))), 2: flat.numbers([len(shapes)])}
    if options:
        kind, table = options
        operator |= {3: bytes([kind]), 4: lambda: flat.table(table)}
    graph = {0: flat.tables(tensors), 1: flat.numbers([0]), 2: flat.numbers([len(shapes)]), 3: flat.tables([operator])}
    return flat.finish({0: struct.pack("<I", 3), 1: flat.tables([{0: bytes([min(code, 127)]), 3: struct.pack("<i", code)}]),
                        2: flat.tables([graph]), 4: flat.tables(buffers)})


def int32(value):
    return struct.pack("<i", value)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, codec in CLIPS.items():
            clip = Path(folder) / name
            made = subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", *SOURCE, *codec, clip], capture_output=True, text=True)
            if made.returncode != 0:
                print(f"{name} is left out: {made.stderr.strip()}", file=sys.stderr)
                continue
            content = clip.read_bytes()
            put("sniff", name, content[:600])
            put("container", name, content)
            for sampling, every in ((0, 3), (1, 5), (2, 6)):
                packets = planned(clip, sampling, every)
                if packets:
                    put("plan", f"{name}-{sampling}", packets)
            if name == "still.gif":
                small = content
    parts = "\r\n".join(["--x", 'Content-Disposition: form-data; name="email"', "", "ann@example.org", "--x",
                         'Content-Disposition: form-data; name="sample_every"', "", "20", "--x",
                         'Content-Disposition: form-data; name="video"; filename="a.mp4"', "Content-Type: video/mp4", "", ""])
    form = parts.encode() + b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(40) + b"\r\n--x--\r\n"
    put("form", "plain", b"\0\xff?language=de&gaze=off\n" + form)
    put("form", "skip", b"\2\x07speech=on\n" + form)
    put("form", "gzip", b"\1\xff\n" + gzip.compress(form, mtime=0))
    put("form", "members", b"\1\x10\n" + gzip.compress(form[:90], mtime=0) + gzip.compress(form[90:], mtime=0))
    text = base64.b64encode(small[:120]).decode()
    for number, body in enumerate([
        {"encoding": "base64", "format": ".MP4", "fps": 30, "content": text},
        {"format": "video/webm;codecs=vp8", "fps": "29.97", "duration": "2.5", "content": f"data:video/webm;codecs=vp8,opus;base64,{text}"},
        {"encoding": "base64url", "format": "gif", "duration": 3, "content": base64.urlsafe_b64encode(small[:60]).decode(), "more": [1]},
    ]):
        put("clip", str(number), json.dumps(body).encode())
        put("base64", str(number), body["content"].encode())
    put("base64", "escaped", b"DATA:;charset=utf-8; base64 ,AP8C%2Fvs%3D")
    for number, text in enumerate(["20", "2e1", " 0.5", "on", "500 MB", "2 GiB", "de-DE", "AAAAAAAAAAE", "gzip, identity",
                                   "multipart/form-data; boundary=\"x\"", "text/csv;q=0.9, application/json;q=0.5"]):
        put("values", str(number), text.encode())
    for number, text in enumerate(["ann@example.org", " Ann.Lee+x@Mail.Example.ORG ", "ann@münchen.de", "ann@例え。テスト", "\"ann lee\"@example.org",
                                   "ann@[127.0.0.1]", "Ann <ann@example.org>, bob@example.org"]):
        put("address", str(number), text.encode())
    put("headers", "matrix", struct.pack("=9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30))
    put("headers", "ratio", struct.pack(">4i2IH", 4, 3, 1, 1, 1440, 1080, 0))
    put("headers", "box", struct.pack(">I4sQ", 1, b"mdat", 1 << 33))
    put("headers", "element", bytes.fromhex("1f43b675 01 00000000001234"))
    for channels, padding in ((16, True), (24, False), (8, True)):
        put("onnx", f"{channels}", onnx(channels, padding))
    conv = lambda padding, stride, activation: (1, {0: bytes([padding]), 1: int32(stride), 2: int32(stride), 3: bytes([activation])})
    networks = {
        "conv": (3, [[1, 4, 4, 2], [2, 3, 3, 2], [2]], [1, 2, 2, 2], conv(0, 2, 1)),
        "depthwise": (4, [[1, 1, 3, 2], [1, 1, 2, 2]], [1, 1, 2, 2], (2, {0: b"\1", 1: int32(1), 2: int32(1), 3: int32(1)})),
        "pool": (17, [[1, 1, 4, 2]], [1, 1, 2, 2], (5, {0: b"\1", 1: int32(2), 2: int32(1), 3: int32(2), 4: int32(1)})),
        "prelu": (54, [[1, 2, 2, 4], [1, 1, 4]], [1, 2, 2, 4]),
        "add": (0, [[2, 2], [2, 2]], [2, 2], (11, {0: b"\3"})),
        "logistic": (14, [[1, 4]], [1, 4]),
        "concatenation": (2, [[1, 2], [1, 2]], [1, 4], (10, {0: int32(1)})),
        "reshape": (22, [[1, 4], [2]], [2, 2], (17, {0: bytes(4)}), (1,)),
        "pad": (34, [[1, 2, 2, 1], [4, 2]], [3, 4, 4, 3], None, (1,)),
        "transpose": (39, [[1, 2], [2]], [2, 1], None, (1,)),
        "mean": (40, [[1, 2, 2, 1], [2]], [1, 1], (27, {0: b"\1"}), (1,)),
        "slice": (45, [[1, 4], [2], [2], [2]], [1, 1], (32, {0: int32(0)}), (1, 2, 3)),
    }
    for name, network in networks.items():
        put("tflite", name, tflite(*network))


main()
