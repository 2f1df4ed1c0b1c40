#!/usr/bin/env bash
# FFmpeg loses a short video if the function that reads its bytes clears the buffer before it reports the end.
#
# Expected: the buffer that FFmpeg hands to a read function (avio_alloc_context) is there to be filled. Whoever calls C from a safe language sets it
# to zero first, because its content may be uninitialised. If no byte is left, the function returns AVERROR_EOF, and what it did to the buffer does
# not matter.
# Seen: at the end of the source, FFmpeg hands out the start of the same buffer in which it keeps the bytes that it has read and will go back to. If
# they are cleared, an MPEG-TS or MPEG-PS file that is smaller than the buffer (32 kB) has its streams, but not a single packet. MP4 works, so tests
# with usual videos notice nothing.
# Versions: FFmpeg 8.0 and 7.1 (libavformat 62.3.100 and 61.7.100, in the wheels of PyAV 17.0.0 and 15.1.0).
# Why it matters here: decoder processes read videos through such a function. visage reads into memory of its own and copies what it got.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >try.py <<'PYTHON'
import ctypes, glob, os, sys
import av

BUFFER = 32768
EOF = -0x20464F45  # AVERROR_EOF: minus the letters "EOF " as a little-endian number
PB = 32  # the offset of AVFormatContext.pb


def make(path, container, codec):
    with av.open(path, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame(160, 120, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def library(name):
    return ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(av.__file__), "..", "av.libs", f"lib{name}-*"))[0])


util, codec, form = library("avutil"), library("avcodec"), library("avformat")
READ = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
SEEK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)
for function, result, arguments in [
    (util.av_malloc, ctypes.c_void_p, [ctypes.c_size_t]),
    (codec.av_packet_alloc, ctypes.c_void_p, []),
    (codec.av_packet_unref, None, [ctypes.c_void_p]),
    (form.avformat_alloc_context, ctypes.c_void_p, []),
    (form.avio_alloc_context, ctypes.c_void_p,
     [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, READ, ctypes.c_void_p, SEEK]),
    (form.avformat_open_input, ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]),
    (form.avformat_find_stream_info, ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]),
    (form.av_read_frame, ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]),
]:
    function.restype, function.argtypes = result, arguments


def packets(path, clears):
    """The number of packets of a file, or the number of the error of opening it."""
    content, at = open(path, "rb").read(), [0]

    def read(_, buffer, size):
        if clears:
            ctypes.memset(buffer, 0, size)
        part = content[at[0] : at[0] + size]
        if not part:
            return EOF
        ctypes.memmove(buffer, part, len(part))
        at[0] += len(part)
        return len(part)

    def seek(_, offset, whence):
        if whence & 0x10000:  # AVSEEK_SIZE
            return len(content)
        at[0] = offset + {0: 0, 1: at[0], 2: len(content)}[whence & 3]
        return at[0]

    callbacks = READ(read), SEEK(seek)
    source = form.avio_alloc_context(util.av_malloc(BUFFER), BUFFER, 0, None, callbacks[0], None, callbacks[1])
    context = ctypes.c_void_p(form.avformat_alloc_context())
    ctypes.cast(context.value + PB, ctypes.POINTER(ctypes.c_void_p))[0] = source
    code = form.avformat_open_input(ctypes.byref(context), b"", None, None)
    if code < 0:
        return code
    form.avformat_find_stream_info(context, None)
    packet, count = codec.av_packet_alloc(), 0
    while form.av_read_frame(context, packet) >= 0:
        codec.av_packet_unref(packet)
        count += 1
    return count


version = ".".join(str(part) for part in av.library_versions["libavformat"])
changed = False
for container, coder, fails in [("mpegts", "mpeg2video", True), ("mpeg", "mpeg2video", True), ("mp4", "mpeg4", False)]:
    path = f"clip.{container}"
    make(path, container, coder)
    kept, cleared = packets(path, False), packets(path, True)
    print(f"libavformat {version}, {container} of {os.path.getsize(path)} bytes: {kept} packets, "
          f"{cleared} if the read function clears the buffer first")
    changed |= kept <= 0 or (cleared <= 0) != fails
sys.exit(changed)
PYTHON
for version in 17.0.0 15.1.0; do
    python3 -m venv "env$version"
    "env$version/bin/pip" install --quiet --disable-pip-version-check "av==$version"
    "env$version/bin/python" try.py || { echo changed >&2; exit 1; }
done
