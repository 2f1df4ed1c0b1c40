#!/usr/bin/env bash
# usage: check-api.sh [SCHEMATHESIS OPTIONS]
#
# Checks a running service against its OpenAPI description. First, ordinary clients of the five services call it, then
# the client libraries of clients/, a client that is generated from /openapi.json, and the samples in it. Then
# schemathesis generates valid and invalid requests from it. It fails if an answer is not described there, or is a 5xx.
# Needs target/debug/visage and the models. Installs what it needs with scripts/install-api-checks.sh.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

checks=tests/clients
venv=.runtime/api-checks
scripts/install-api-checks.sh
PATH=$root/$venv/bin:$PATH

say "the types of the client libraries"
scripts/client-types.sh --check
(cd clients/python && mypy --no-error-summary --cache-dir "$root/.runtime/mypy" src)
"$checks/node_modules/.bin/tsc" --project "$checks"

scripts/demo-clip.sh data/demo.mp4
work=$(mktemp -d)
servers=()
stop() {
    for server in "${servers[@]}"; do
        if kill "$server" 2>/dev/null; then
            wait "$server" 2>/dev/null || true
        fi
    done
    rm -rf "$work"
}
trap stop EXIT

# Sixteen frames of a smiling face, and one picture of it.
ffmpeg -hide_banner -loglevel error -y -ss 5 -i data/demo.mp4 -t 0.64 -vf scale=160:120 -pix_fmt yuv420p "$work/clip.mp4"
ffmpeg -hide_banner -loglevel error -y -i "$work/clip.mp4" -frames:v 1 "$work/picture.png"
# The whole clip in more than 8 MiB, which clients send in parts.
ffmpeg -hide_banner -loglevel error -y -i data/demo.mp4 -c:v mjpeg -q:v 1 -vf scale=1280:-2 -an "$work/large.avi"
# Ten frames without a face.
ffmpeg -hide_banner -loglevel error -y -f lavfi -i testsrc=size=160x120:rate=25:duration=0.4 -c:v mpeg4 "$work/faceless.avi"

# A web server from which the service fetches the videos of batches. It is the only address of this machine that may be used.
mkdir "$work/web"
cp "$work/clip.mp4" "$work/web/a.mp4"
cp "$work/faceless.avi" "$work/web/b.mp4"
: >"$work/web.log"
python -u -m http.server 0 --bind 127.0.0.2 --directory "$work/web" >"$work/web.log" 2>&1 &
servers+=($!)
videos=
for ((tries = 0; tries < 40; tries++)); do
    videos=$(sed -n 's/.*(\(http:[^)]*[0-9]\)\/).*/\1/p' "$work/web.log")
    [ -z "$videos" ] || break
    sleep 0.25
done
[ -n "$videos" ] || die "the web server did not start: $(cat "$work/web.log")"

export VISAGE_SOURCES__PRIVATE_NETWORKS=127.0.0.2/32
export VISAGE_DATABASE__URL=sqlite://$work/visage.db VISAGE_STORAGE__FOLDER=$work/videos VISAGE_MAIL__OUTBOX=$work/outbox
export VISAGE_AUTH__REQUIRED=true VISAGE_HTTP__LISTEN=127.0.0.1:0 VISAGE_HTTP__MAX_WAIT_S=1 VISAGE_LOG__FORMAT=json
VISAGE_WEBHOOKS__SECRET=whsec_$(head -c 32 /dev/urandom | base64)
export VISAGE_WEBHOOKS__SECRET
touch "$work/visage.toml"
export VISAGE_CONFIG=$work/visage.toml
visage=target/debug/visage
key=$("$visage" keys create --name checks --scope admin 2>/dev/null | tail -n 1)

: >"$work/log"
"$visage" serve >>"$work/log" 2>&1 &
server=$!
servers+=("$server")
base=
for ((tries = 0; tries < 480; tries++)); do
    kill -0 "$server" 2>/dev/null || { tail -n 5 "$work/log" >&2; die "the service ended during its start"; }
    address=$(sed -n 's/.*"listening","address":"\([^"]*\)".*/\1/p; s/.*"address":"\([^"]*\)".*/\1/p' "$work/log" | head -n 1)
    base=http://$address
    [ -n "$address" ] && curl --silent --fail --output /dev/null "$base/readyz" && break
    sleep 0.25
done

export VISAGE_TEST_BASE=$base VISAGE_TEST_KEY=$key VISAGE_TEST_CLIP=$work/clip.mp4 VISAGE_TEST_PICTURE=$work/picture.png
export VISAGE_TEST_LONG_CLIP=$root/data/demo.mp4 VISAGE_TEST_FACELESS_CLIP=$work/faceless.avi
export VISAGE_TEST_LARGE_CLIP=$work/large.avi VISAGE_TEST_VIDEOS=$videos
say "ordinary clients of the five services, of DeepFace, and of visage itself"
python "$checks/clients.py"
say "client libraries, a generated client, and the samples"
python "$checks/python_client.py"
node "$checks/javascript_client.mjs"
python "$checks/generated.py"
python "$checks/samples.py"
curl --silent --fail "$base/openapi.json" >"$work/openapi.json"
node "$checks/lint.mjs" "$work/openapi.json"
say "schemathesis"
cd "$checks"
"$root/$venv/bin/schemathesis" --config-file schemathesis.toml run "$base/openapi.json" --header "x-api-key: $key" "$@" || {
    status=$?
    grep -E '"status":5[0-9][0-9]|"level":"ERROR"' "$work/log" | tail -n 20 >&2 || true
    exit "$status"
}
