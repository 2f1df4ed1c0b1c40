#!/usr/bin/env bash
# The Rust crate prometheus-client leaves a registered metric out of its text until a label set of it was used.
#
# Expected: a counter with labels that was registered is told with its help and type, also before it has a value. So the text names every
# metric that exists. Prometheus' library for Python does it like that.
# Seen: nothing of it is in the text, neither HELP nor TYPE. After the first value all of it is. A counter without labels is there from the
# beginning.
# Versions: prometheus-client 0.26.0 (Rust); prometheus-client 0.24.1 (Python) to compare.
# Why it matters here: an alert like `rate(visage_runs_lost_total[5m]) > 0` has no data instead of 0 until the first loss, and misses the rise from
# nothing to one. A test that compares the names in dashboards with the text finds them missing. visage gives its counters their label sets
# at the start, and its test analyzes a video before it compares names.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name told --vcs none told
cd told
cargo add --quiet prometheus-client@=0.26.0
cat >src/main.rs <<'RUST'
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

fn main() {
    let mut registry = Registry::default();
    let plain = Counter::<u64>::default();
    registry.register("plain", "without labels", plain);
    let labelled = Family::<Vec<(String, String)>, Counter>::default();
    registry.register("labelled", "with labels", labelled.clone());
    for when in ["before", "after"] {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        println!("{when} the first value: plain {}, labelled {}", text.contains("# TYPE plain"), text.contains("# TYPE labelled"));
        labelled.get_or_create(&vec![("end".to_owned(), "done".to_owned())]).inc();
    }
}
RUST
rust=$(cargo run --quiet)
echo "Rust, prometheus-client $(cargo tree --depth 1 --prefix none | sed -n 's/^prometheus-client v//p')"
echo "$rust"

python3 -m venv ../env
../env/bin/pip install --quiet --disable-pip-version-check prometheus-client==0.24.1
python=$(../env/bin/python -c "
from prometheus_client import CollectorRegistry, Counter, generate_latest
registry = CollectorRegistry()
Counter('plain', 'without labels', registry=registry)
Counter('labelled', 'with labels', ['end'], registry=registry)
text = generate_latest(registry).decode()
print('before the first value: plain', '# TYPE plain' in text, 'labelled', '# TYPE labelled' in text)")
echo "Python, prometheus-client 0.24.1"
echo "$python"
seen="before the first value: plain true, labelled false
after the first value: plain true, labelled true"
if [ "$rust" != "$seen" ] || [ "$python" != "before the first value: plain True labelled True" ]; then
    echo changed
    exit 1
fi
