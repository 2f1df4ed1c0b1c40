#!/usr/bin/env bash
# Fuzzes the parsers, each target of fuzz/ in turn or one of them: fuzz.sh SECONDS [TARGET ...]
#
# cargo-fuzz builds with a stable compiler: without a sanitizer it needs flags that RUSTC_BOOTSTRAP allows and nothing else. An
# input that fails lies in fuzz/artifacts afterwards.
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
    say "fuzzing $target for $seconds s"
    # -timeout makes an input that takes this many seconds a failure, rss_limit_mb one that takes that much memory.
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 ||
        failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || die "inputs that fail lie in fuzz/artifacts: ${failed[*]}"
