#!/usr/bin/env bash
# How long an analysis takes against merely decoding the video: one run, one clip, both in turn.
#
#   benches/run.sh [ROUNDS]
#
# Prints medians over the rounds (5 by default): ffmpeg decoding the clip to nothing, `visage analyze` with its
# defaults (starting the program and loading the models included), their ratio, and what the stages were busy with;
# these overlap, so their sum may be more than the whole. VISAGE names another program to measure.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
visage=${VISAGE:-target/release/visage}
clip=target/bench/720p30.mp4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -x "$visage" ] || { echo "$visage is not there: make build" >&2; exit 4; }
benches/clip.sh "$clip" 1280 720 5M 60

# Appends the seconds that a command took to a file.
timed() {
    local list=$1 since=$EPOCHREALTIME
    shift
    "$@"
    LC_ALL=C awk -v from="$since" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", to - from }' >>"$work/$list"
}
decode() { ffmpeg -nostdin -loglevel error -i "$clip" -an -f null - ; }
analyze() { VISAGE_LOG=error "$visage" analyze --stage-times "$clip" >"$work/result.json" 2>"$work/stages.json"; }
stage() { LC_ALL=C sed -n "s/.*\"$1_s\":\([0-9.]*\).*/\1/p" "$work/stages.json" >>"$work/$1"; }
median() { sort -n "$work/$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

for round in $(seq "$rounds"); do
    timed ffmpeg decode
    timed visage analyze || { cat "$work/stages.json" >&2; exit 1; }
    for stage in decode detect read; do stage "$stage"; done
    echo "round $round: ffmpeg $(tail -n 1 "$work/ffmpeg") s, visage $(tail -n 1 "$work/visage") s" >&2
done

frames=$(sed -n 's/.*"frames_total": \([0-9]*\).*/\1/p' "$work/result.json")
analyzed=$(sed -n 's/.*"frames_analyzed": \([0-9]*\).*/\1/p' "$work/result.json")
bits=$(ffprobe -v error -select_streams v:0 -show_entries stream=bit_rate -of csv=p=0 "$clip")
echo "clip            1280x720, 30 fps, $((bits / 1000)) kbit/s H.264, $frames frames, $analyzed analyzed; $(nproc) cores; median of $rounds"
printf 'ffmpeg -f null  %6.2f s\n' "$(median ffmpeg)"
printf 'visage analyze  %6.2f s\n' "$(median visage)"
awk -v a="$(median visage)" -v b="$(median ffmpeg)" 'BEGIN { printf "ratio           %6.2f\n", a / b }'
printf '  decode        %6.2f s busy\n' "$(median decode)"
printf '  detect        %6.2f s busy\n' "$(median detect)"
printf '  emotion       %6.2f s busy\n' "$(median read)"
