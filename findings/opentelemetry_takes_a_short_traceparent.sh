#!/usr/bin/env bash
# The Rust crate opentelemetry_sdk takes a traceparent whose ids are too short.
#
# Expected: W3C Trace Context (3.2.2) has 32 hexadecimal digits of a trace id and 16 of a span id. A receiver must ignore other lengths, as the
# library for Python does.
# Seen: TraceContextPropagator takes 00-1-2-01 as trace 00000000000000000000000000000001, and a plus sign as a digit.
# Versions: opentelemetry 0.33.1 and opentelemetry_sdk 0.33.1 (Rust); opentelemetry-api 1.39.1 (Python) to compare.
# Why it matters here: requests of many clients with the same broken header would be one trace. visage checks the form of the header itself
# (src/telemetry/trace.rs).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name taken --vcs none taken
cd taken
cargo add --quiet opentelemetry@=0.33.1 opentelemetry_sdk@=0.33.1
cat >src/main.rs <<'RUST'
use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;

fn main() {
    for header in ["00-1-2-01", "00-+1-+2-01"] {
        let carrier = HashMap::from([("traceparent".to_owned(), header.to_owned())]);
        let context = TraceContextPropagator::new().extract(&carrier);
        let span = context.span().span_context().clone();
        println!("{header}: valid {}, trace {}", span.is_valid(), span.trace_id());
    }
}
RUST
rust=$(cargo run --quiet)
echo "Rust, opentelemetry_sdk $(cargo tree --depth 1 --prefix none | sed -n 's/^opentelemetry_sdk v//p')"
echo "$rust"

python3 -m venv ../env
../env/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.39.1
python=$(../env/bin/python -c "
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
for header in ['00-1-2-01', '00-+1-+2-01']:
    context = TraceContextTextMapPropagator().extract({'traceparent': header})
    print(f'{header}: valid', get_current_span(context).get_span_context().is_valid)")
echo "Python, opentelemetry-api 1.39.1"
echo "$python"
seen="00-1-2-01: valid true, trace 00000000000000000000000000000001
00-+1-+2-01: valid true, trace 00000000000000000000000000000001"
if [ "$rust" != "$seen" ] || [ "$python" != "00-1-2-01: valid False
00-+1-+2-01: valid False" ]; then
    echo changed
    exit 1
fi
