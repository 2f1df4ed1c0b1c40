#!/usr/bin/env bash
# FFmpeg 5.1 sometimes returns a concealed picture of H.264 as if it were sound, if several threads decode.
#
# Expected: a picture whose damage the decoder has concealed carries AVFrame.decode_error_flags, however many threads decode. The pixels are the same
# with one thread and with several, so the flags should be, too.
# Seen: with frame threads, a picture that waits for its turn in presentation order (a P picture before B pictures) is often returned by another
# thread than the one that decodes it. That thread took its copy of the flags when the other one had only begun. Whether the flags arrive depends on
# chance: of 40 runs on the same bytes, 22 to 29 flag the damaged picture with two threads, 9 to 25 with four. The others return it unmarked.
# Versions: FFmpeg 5.1 (libavcodec 59.37.100, in the wheel of opencv-python-headless 4.10.0.84). Not so in FFmpeg 6.1 and 7.1 (libavcodec 60.31.102 and
# 61.19.101, in the wheels of PyAV 12.3.0 and 15.1.0).
# Why it matters here: a face in a picture that was made up by the concealment is read as a face with an expression, and nobody is told. visage
# decodes such streams with one thread where FFmpeg is older than 6.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fetch() { python3 -m pip download -q --no-deps --only-binary=:all: --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --python-version 3.11 -d "$@"; }
fetch encoder imageio-ffmpeg==0.6.0
fetch old opencv-python-headless==4.10.0.84
fetch middle av==12.3.0
fetch new av==15.1.0
for folder in encoder old middle new; do
    python3 -m zipfile -e "$folder"/*.whl "$folder"
done
encoder=$(echo encoder/imageio_ffmpeg/binaries/ffmpeg-linux-*)
chmod +x "$encoder"
"$encoder" -loglevel error -f lavfi -i testsrc2=size=320x240:rate=25:duration=16 -c:v libx264 -threads 1 -bf 3 -x264-params keyint=1000:scenecut=0:log-level=none \
    -pix_fmt yuv420p video.h264
cat >try.py <<'PYTHON'
import ctypes, glob, re, sys

folder, flags_at, runs = sys.argv[1], int(sys.argv[2]), 20


def library(name):
    return ctypes.CDLL(glob.glob(f"{folder}/*.libs/lib{name}-*")[0])


util, codec = library("avutil"), library("avcodec")
pointer = ctypes.c_void_p
for function, result, arguments in [
    (codec.avcodec_version, ctypes.c_uint, []),
    (codec.avcodec_find_decoder_by_name, pointer, [ctypes.c_char_p]),
    (codec.avcodec_alloc_context3, pointer, [pointer]),
    (codec.avcodec_open2, ctypes.c_int, [pointer, pointer, pointer]),
    (codec.avcodec_send_packet, ctypes.c_int, [pointer, pointer]),
    (codec.avcodec_receive_frame, ctypes.c_int, [pointer, pointer]),
    (codec.avcodec_free_context, None, [ctypes.POINTER(pointer)]),
    (codec.av_packet_alloc, pointer, []),
    (codec.av_new_packet, ctypes.c_int, [pointer, ctypes.c_int]),
    (codec.av_packet_free, None, [ctypes.POINTER(pointer)]),
    (util.av_frame_alloc, pointer, []),
    (util.av_frame_free, None, [ctypes.POINTER(pointer)]),
    (util.av_opt_set, ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]),
    (util.av_log_set_level, None, [ctypes.c_int]),
]:
    function.restype, function.argtypes = result, arguments
util.av_log_set_level(-8)


def number(kind, structure, at):
    return kind.from_address(structure + at)


# One slice a picture: a packet is everything up to the end of a slice.
stream = open("video.h264", "rb").read()
starts = [found.start() for found in re.finditer(b"\0\0\1", stream)] + [len(stream)]
packets, begun = [], 0
for start, end in zip(starts, starts[1:]):
    if stream[start + 3] & 31 in (1, 5):
        packets.append(stream[begun:end])
        begun = end
# The largest of some packets in the middle is a P picture. Its end is lost.
hurt = max(range(200, 212), key=lambda at: len(packets[at]))
packets[hurt] = packets[hurt][:len(packets[hurt]) // 3] + bytes(len(packets[hurt]) * 2 // 3)


def flagged(threads):
    """The number of pictures, and of those with error flags."""
    context = codec.avcodec_alloc_context3(codec.avcodec_find_decoder_by_name(b"h264"))
    for name, value in ((b"threads", str(threads).encode()), (b"thread_type", b"frame")):
        assert util.av_opt_set(context, name, value, 0) == 0
    assert codec.avcodec_open2(context, None, None) == 0
    frame, count, marked = util.av_frame_alloc(), 0, 0
    for packet in [*packets, None]:
        sent = codec.av_packet_alloc() if packet else None
        if packet:
            assert codec.av_new_packet(sent, len(packet)) == 0
            ctypes.memmove(number(pointer, sent, 24).value, packet, len(packet))  # AVPacket.data
        codec.avcodec_send_packet(context, sent)
        if sent:
            codec.av_packet_free(ctypes.byref(pointer(sent)))
        while codec.avcodec_receive_frame(context, frame) == 0:
            count += 1
            marked += number(ctypes.c_int, frame, flags_at).value != 0
    util.av_frame_free(ctypes.byref(pointer(frame)))
    codec.avcodec_free_context(ctypes.byref(pointer(context)))
    return count, marked


version = codec.avcodec_version()
name = ".".join(str(version >> shift & 255) for shift in (16, 8, 0))
one, several = flagged(1), [flagged(4) for _ in range(runs)]
told = sum(marked > 0 for _, marked in several)
print(f"libavcodec {name}: {one[0]} pictures; one thread flags {one[1]}; four threads flag some in {told} of {runs} runs")
assert one[1] > 0 and all(count == one[0] for count, _ in several)
if version >> 16 < 60:
    assert told < runs, "every run flags the damaged picture now"
else:
    assert told == runs, "some runs lose the flags"
PYTHON
# The offset of AVFrame.decode_error_flags, from the headers of each version.
for of in old:376 middle:376 new:344; do
    LD_LIBRARY_PATH=$(echo "${of%:*}"/*.libs) python3 try.py "${of%:*}" "${of#*:}"
done
echo "as described"
