#!/usr/bin/env bash
# Makes a clip with faces for the benchmarks, unless it exists:
#
#   benches/clip.sh OUT WIDTH HEIGHT BITRATE SECONDS [h264|hevc|vp9 [GOP [FACES]]]
#
# The clip loops a test clip with a real face. A slow pan and a little grain make the encoder use the bit rate as for a
# camera. FACES=5 shows the face five times.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$1 width=$2 height=$3 bitrate=$4 seconds=$5 coding=${6:-h264} gop=${7:-250} faces=${8:-1}
[ -s "$out" ] && exit 0
mkdir -p "$(dirname "$out")"
face=.runtime/media/sad_then_happy.mp4
scripts/fetch-test-media.sh

rate=(-b:v "$bitrate" -minrate "$bitrate" -maxrate "$bitrate" -bufsize "$bitrate" -g "$gop")
case $coding in
h264) codec=(-c:v libx264 -preset veryfast "${rate[@]}") ;;
hevc) codec=(-c:v libx265 -preset veryfast -x265-params "log-level=none:keyint=$gop" -b:v "$bitrate" -tag:v hvc1) ;;
vp9) codec=(-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -threads 2 -b:v "$bitrate" -g "$gop") ;;
*) echo "unknown codec $coding" >&2 && exit 2 ;;
esac

margin=$((width / 10 & ~1))
pan="scale=$((width + margin)):$((height + margin)):force_original_aspect_ratio=increase,fps=30,\
crop=$width:$height:x='(in_w-out_w)/2*(1+sin(t*1.3))':y='(in_h-out_h)/2*(1+cos(t))',noise=alls=14:allf=t"
if [ "$faces" = 5 ]; then
    tile="crop=in_h*1.18:in_h,scale=$((width / 3 & ~1)):$((height / 2 & ~1))"
    pan="$tile,split=5[a][b][c][d][e];[a][b][c][d][e]xstack=inputs=5:\
layout=0_0|w0_0|w0+w0_0|0_h0|w0_h0:fill=gray,$pan"
fi
part="${out%.*}.part.${out##*.}"
ffmpeg -nostdin -loglevel error -y -stream_loop -1 -i "$face" -t "$seconds" -an -filter_complex "$pan" \
    "${codec[@]}" -pix_fmt yuv420p -movflags +faststart "$part"
mv "$part" "$out"
