#!/usr/bin/env bash
# FFmpeg reports a Matroska or WebM file that ends within its header as a disk that cannot be read.
#
# Expected: a file that is cut off is invalid data (AVERROR_INVALIDDATA), as FFmpeg says of an MP4 that is cut off. EIO says that reading failed, so a
# program that sorts errors by their numbers tries again later: the disk may be back, or the server.
# Seen: from some bytes after its start up to the end of its header, a Matroska file that is cut off opens with EIO, although every read succeeded. A
# browser's recorder that is stopped at once, and an upload that broke off, leave such files.
# Versions: FFmpeg 7.1 and 8.0 (libavformat 61.7.100 and 62.3.100, in the wheels of PyAV 15.1.0 and 17.0.0), also seen in 5.1 of Debian 12.
# Why it matters here: visage keeps a job whose storage fails, and asks clients to come back. It asked the senders of such files to come back each time.
# Now it asks its own reader whether a read failed, and does not look at the number.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >try.py <<'PYTHON'
import errno, io
import av


def made(container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame(160, 120, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def outcome(content):
    try:
        # From memory, where no read can fail.
        with av.open(io.BytesIO(content)) as video:
            return "opened" if video.streams.video else "no video"
    except av.error.FFmpegError as error:
        return {errno.EIO: "EIO"}.get(error.errno, type(error).__name__)


versions = ".".join(map(str, av.library_versions["libavformat"]))
for container, codec in (("matroska", "mpeg4"), ("webm", "libvpx"), ("mp4", "mpeg4")):
    whole = made(container, codec)
    assert outcome(whole) == "opened"
    found = [outcome(whole[:size]) for size in (60, 150, 300)]
    print(f"libavformat {versions}, {container} cut off after 60, 150 and 300 bytes: {found}")
    assert ("EIO" in found) == (container != "mp4"), "not as described any more"
PYTHON
for version in 15.1.0 17.0.0; do
    python3 -m venv "$version"
    "$version/bin/pip" -q install "av==$version"
    "$version/bin/python" try.py
done
echo "as described"
