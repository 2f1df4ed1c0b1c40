#!/usr/bin/env bash
# FFmpeg's VP9 decoder decodes every frame when it is asked for key frames only.
#
# Expected: skip_frame = nokey (AVDISCARD_NONKEY) makes a decoder give key frames only. H.264, HEVC, VP8 and AV1 do so.
# Seen: with VP9 the setting is accepted without an error and changes nothing. All 72 frames come out, and the time that
# the setting was meant to save is spent.
# Versions: PyAV 18.1.0 (libavcodec 62.28.102); FFmpeg 5.1's libavcodec 59 does the same.
# Why it matters here: VP9 is what browsers record. A quick preview that counts on this option silently costs a full decode,
# and a program that takes every decoded frame for a key frame samples wrong times. visage leaves out the packets
# themselves instead of asking the decoder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

# SVT_LOG: the AV1 encoder reports errors only.
SVT_LOG=1 env/bin/python - <<'PYTHON'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "| libavcodec", ".".join(map(str, av.library_versions["libavcodec"])))


def encode(codec, name, options):
    """72 frames at 24 a second with a key frame a second: a bar that moves over a grey that brightens."""
    with av.open(name, "w") as file:
        stream = file.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.gop_size = 24
        for number in range(72):
            picture = np.full((120, 160, 3), number * 3, np.uint8)
            picture[:, number * 2 % 150:number * 2 % 150 + 10] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def frames(name, skip):
    with av.open(name) as file:
        file.streams.video[0].codec_context.skip_frame = skip
        return sum(1 for _ in file.decode(video=0))


def key_packets(name):
    with av.open(name) as file:
        return sum(packet.is_keyframe for packet in file.demux(video=0) if packet.size)


counts = {}
for codec, name, options in [
    ("libx264", "h264.mp4", {}),
    ("libx265", "hevc.mp4", {"x265-params": "log-level=none"}),
    ("libvpx", "vp8.webm", {"deadline": "realtime"}),
    ("libsvtav1", "av1.mp4", {"preset": "11"}),
    ("libvpx-vp9", "vp9.webm", {"deadline": "realtime", "cpu-used": "8"}),
]:
    encode(codec, name, options)
    keys, every, only_keys = key_packets(name), frames(name, "DEFAULT"), frames(name, "NONKEY")
    counts[name] = (every, only_keys == keys)
    print(f"{name:9} key frames {keys}, decoded {every}, decoded with skip_frame=nokey {only_keys}")

expected = {name: (72, name != "vp9.webm") for name in counts}
sys.exit(0 if counts == expected else 1)
PYTHON
