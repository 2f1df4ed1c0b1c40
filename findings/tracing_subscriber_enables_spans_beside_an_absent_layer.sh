#!/usr/bin/env bash
# With tracing-subscriber, a layer that is None switches on the spans that the filter of the only other layer switches off.
#
# Expected: `.with(None::<L>)` changes nothing. The documentation offers an optional layer for what is switched on by a setting.
# Seen: the span exists, although no layer wants it. A thread that enters it as the current span of another one has no context in its log, because
# the log skips this span and does not look for its parent.
# Versions: tracing-subscriber 0.3.23, tracing 0.1.
# Why it matters here: log lines of decoder processes lost the id of their job as soon as traces, which are off by default, were such a layer.
# visage collects the layers that it has in a list (src/telemetry/mod.rs).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name absent --vcs none absent
cd absent
cargo add --quiet tracing@0.1 tracing-subscriber@=0.3.23
cat >src/main.rs <<'RUST'
use tracing::{Span, info_span, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;

macro_rules! start {
    ($subscriber:expr) => {
        let filter = Targets::new().with_default(LevelFilter::INFO).with_target("steps", LevelFilter::OFF);
        let lines = tracing_subscriber::fmt::layer().without_time().with_target(false).with_ansi(false);
        $subscriber.with(lines.with_filter(filter)).init();
    };
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("absent") {
        start!(tracing_subscriber::registry().with(None::<Identity>));
    } else {
        start!(tracing_subscriber::registry());
    }
    let _job = info_span!("job").entered();
    let step = info_span!(target: "steps", "step");
    println!("the span that is switched off exists: {}", !step.is_disabled());
    step.in_scope(|| {
        let current = Span::current();
        std::thread::spawn(move || current.in_scope(|| warn!("a line of another thread"))).join().unwrap();
    });
}
RUST
cargo build --quiet
cargo tree --quiet --depth 1 --prefix none | sed -n '2,$p'
alone=$(target/debug/absent alone)
absent=$(target/debug/absent absent)
printf 'alone:\n%s\nbeside an absent layer:\n%s\n' "$alone" "$absent"
[[ $alone == *"exists: false"*"job: a line"* ]] || { echo "changed: the layer alone" >&2; exit 1; }
[[ $absent == *"exists: true"* && $absent != *"job:"* ]] || { echo "changed: beside an absent layer" >&2; exit 1; }
