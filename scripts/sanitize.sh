#!/usr/bin/env bash
# usage: sanitize.sh [TEST ...]
#
# Runs the unit tests under AddressSanitizer, which stops a test at an access to memory that is not allocated. Without
# names of tests, those of the modules that call C libraries are run. Decoders and ONNX Runtime are not instrumented
# themselves, but their allocations are watched. A stable compiler suffices: RUSTC_BOOTSTRAP allows the unstable flag.
# Needs the models and clips of `make fixtures`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
[ $# -gt 0 ] || set -- media:: isolation:: vision:: engine:: pipeline::
host=$(rustc --version --verbose | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address"
# Libraries keep memory until the process ends, so leaks are not reported.
export ASAN_OPTIONS=detect_leaks=0
# With --target, build scripts and macros are compiled without the sanitizer.
cargo test --locked --lib --target "$host" --target-dir target/sanitize -- "$@"
