#!/usr/bin/env bash
# usage: check-api.sh [SCHEMATHESIS OPTIONS]
#
# Checks a running service against its OpenAPI description. First, ordinary clients of the five services call it. Then
# schemathesis generates valid and invalid requests from /openapi.json. It fails if an answer is not described there,
# or is a 5xx. Needs target/debug/visage and the models. Installs Python packages into .runtime/api-checks.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

checks=tests/clients
venv=.runtime/api-checks
if ! cmp -s "$checks/requirements.txt" "$venv/requirements.txt"; then
    say "installing schemathesis and requests in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$checks/requirements.txt"
    cp "$checks/requirements.txt" "$venv/requirements.txt"
fi

scripts/demo-clip.sh data/demo.mp4
work=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT

# Sixteen frames of a smiling face, and one picture of it.
ffmpeg -hide_banner -loglevel error -y -ss 5 -i data/demo.mp4 -t 0.64 -vf scale=160:120 -pix_fmt yuv420p "$work/clip.mp4"
ffmpeg -hide_banner -loglevel error -y -i "$work/clip.mp4" -frames:v 1 "$work/picture.png"
# Ten frames without a face.
ffmpeg -hide_banner -loglevel error -y -f lavfi -i testsrc=size=160x120:rate=25:duration=0.4 -c:v mpeg4 "$work/faceless.avi"

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
say "ordinary clients of the five services, of DeepFace, and of visage itself"
"$venv/bin/python" "$checks/clients.py"
say "schemathesis"
cd "$checks"
"$root/$venv/bin/schemathesis" --config-file schemathesis.toml run "$base/openapi.json" --header "x-api-key: $key" "$@" || {
    status=$?
    grep -E '"status":5[0-9][0-9]|"level":"ERROR"' "$work/log" | tail -n 20 >&2 || true
    exit "$status"
}
