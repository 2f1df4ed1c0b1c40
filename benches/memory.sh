#!/usr/bin/env bash
# Checks that memory does not grow with the length of a video: compares the peak memory of `visage analyze` for an
# hour and for a minute of the same clip. Fails if the hour takes over 10 % more. VISAGE names another program to
# measure.
set -euo pipefail
cd "$(dirname "$0")/.."

visage=${VISAGE:-target/release/visage}
minute=target/bench/360p30-1min.mp4
hour=target/bench/360p30-60min.mp4
[ -x "$visage" ] || { echo "$visage is missing: make build" >&2; exit 4; }
benches/clip.sh "$minute" 640 360 2M 60
if [ ! -s "$hour" ]; then
    ffmpeg -nostdin -loglevel error -y -stream_loop 59 -i "$minute" -c copy -movflags +faststart "$hour.part.mp4"
    mv "$hour.part.mp4" "$hour"
fi

# Prints the largest resident set of a run, in KiB, as counted by the kernel.
peak() {
    VISAGE_LOG=error python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$visage" analyze "$1"
}

of_minute=$(peak "$minute")
of_hour=$(peak "$hour")
awk -v minute="$of_minute" -v hour="$of_hour" 'BEGIN {
    printf "peak memory: %.1f MiB for 1 minute, %.1f MiB for 60 minutes (%+.1f %%)\n",
        minute / 1024, hour / 1024, 100 * (hour / minute - 1)
    exit hour > 1.1 * minute
}'
