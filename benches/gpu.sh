#!/usr/bin/env bash
# Measures the speed of a GPU. Part 1: rows per second of the vision models, in 32 and 16 bits, by callers and rows
# per call. Part 2: a minute of 720p, decoded by the CPU and by the GPU. Part 1 needs neither OpenCV nor FFmpeg:
# without them, ENGINE names a build of the bench `engine` from another machine, and part 2 is left out. SECONDS_EACH
# sets the seconds of each measurement (3).
set -euo pipefail
cd "$(dirname "$0")/.."

models=${VISAGE_MODELS__FOLDER:-models}
engine=${ENGINE:-}
if [ -z "$engine" ]; then
    cargo bench --locked --no-default-features --bench engine --no-run
    engine=$(find target/release/deps -name 'engine-*' -type f -executable -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2)
fi

for precision in fp32 fp16; do
    echo "== engine.precision = $precision"
    export VISAGE_ENGINE__PRECISION=$precision VISAGE_ENGINE__DEVICE=${VISAGE_ENGINE__DEVICE:-cuda}
    measure() { "$engine" --seconds "${SECONDS_EACH:-3}" --callers 1,8,32 --rows 1,4,16 --model "$models/$1" "${@:2}"; }
    measure emotion.onnx
    measure face_landmarks.onnx
    measure yunet_n_dynamic.onnx --shape 3,384,640
done
unset VISAGE_ENGINE__PRECISION VISAGE_ENGINE__DEVICE

visage=${VISAGE:-target/release/visage}
[ -x "$visage" ] && command -v ffmpeg >/dev/null || exit 0
clip=target/bench/720p30-60s.mp4
benches/clip.sh "$clip" 1280 720 5M 60
for hwaccel in none cuda; do
    echo "== video.hwaccel = $hwaccel"
    (time VISAGE_LOG=warn VISAGE_VIDEO__HWACCEL=$hwaccel "$visage" analyze "$clip" >/dev/null) 2>&1
done
