#!/usr/bin/env bash
# Makes a clip with faces for the benchmarks, unless it is there: benches/clip.sh OUT WIDTH HEIGHT BITRATE SECONDS
#
# A real face, looped, slowly panned and with a little grain, so that the bit rate is used up as a camera's would be.
# The face is that of ../shared/media where that folder exists, else the demo's.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$1 width=$2 height=$3 bitrate=$4 seconds=$5
[ -s "$out" ] && exit 0
mkdir -p "$(dirname "$out")"
face=../shared/media/sad_then_happy.mp4
if [ ! -f "$face" ]; then
    face=target/bench/demo.mp4
    [ -s "$face" ] || scripts/demo-clip.sh "$face"
fi
margin=$((width / 10 & ~1))
ffmpeg -nostdin -loglevel error -y -stream_loop -1 -i "$face" -t "$seconds" -an -vf "\
scale=$((width + margin)):$((height + margin)):force_original_aspect_ratio=increase,fps=30,\
crop=$width:$height:x='(in_w-out_w)/2*(1+sin(t*1.3))':y='(in_h-out_h)/2*(1+cos(t))',noise=alls=14:allf=t" \
    -c:v libx264 -preset veryfast -b:v "$bitrate" -minrate "$bitrate" -maxrate "$bitrate" -bufsize "$bitrate" \
    -pix_fmt yuv420p -movflags +faststart "$out.part.mp4"
mv "$out.part.mp4" "$out"
