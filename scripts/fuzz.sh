#!/usr/bin/env bash
# usage: fuzz.sh SECONDS [TARGET ...]
#
# Fuzzes the parsers: the given targets of fuzz/, or all of them, one after another. A stable compiler suffices,
# because without a sanitizer cargo-fuzz only needs the unstable flags that RUSTC_BOOTSTRAP allows. Inputs that fail
# are stored in fuzz/artifacts.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=0.13.2
seconds=${1:?"usage: fuzz.sh SECONDS [TARGET ...]"}
shift
cd "$root"
[ "$(cargo fuzz --version 2>/dev/null)" = "cargo-fuzz $version" ] || cargo install --locked --version "$version" cargo-fuzz
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ $# -eq 0 ] || targets=("$@")
fuzz/seeds.py
export RUSTC_BOOTSTRAP=1
failed=()
for target in "${targets[@]}"; do
    cargo fuzz build --sanitizer none "$target"
    say "fuzzing $target for $seconds s"
    # An input fails if it takes longer than -timeout (seconds) or more memory than -rss_limit_mb. FFmpeg asks for gigabytes
    # for some files of a few kilobytes; as in the decoder processes of the service, a limit makes it fail instead.
    prlimit --data=$((3 << 29)) cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || die "failed inputs are in fuzz/artifacts, of these targets: ${failed[*]}"
