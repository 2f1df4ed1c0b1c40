#!/usr/bin/env bash
# usage: demo.sh [VIDEO]
#
# Gets from a fresh clone to a result: installs missing packages, builds, starts the service with default
# settings, uploads a video over HTTP, follows the analysis, prints the result, and stops the service. Without
# VIDEO it makes and analyzes a short clip. All its output is written to data/.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

profile=${PROFILE:-dev}
video=${1:-}
[ -z "$video" ] || [ -r "$video" ] || die "there is no video at $video"
[ -z "$video" ] || video=$(realpath "$video")
cd "$root"

server='' fetching='' started='' curl_errors=''

stop() {
    local process
    rm -f "$started" "$curl_errors"
    for process in $fetching $server; do
        if kill "$process" 2>/dev/null; then wait "$process" 2>/dev/null || true; fi
    done
    server='' fetching=''
}
trap stop EXIT
trap 'echo; exit 130' INT TERM

scripts/install-demo-deps.sh
scripts/install-rust.sh
# These files are fetched while the compiler runs, because it does not use the network. With `nice` the work on them
# waits for the end of the build, where the compiler uses one core.
{
    nice scripts/fetch-onnxruntime.sh
    [ -n "$video" ] || nice scripts/demo-clip.sh data/demo.mp4
} &
fetching=$!
cargo build --locked --bin visage --profile "$profile"
wait "$fetching"
fetching=
video=${video:-data/demo.mp4}
visage=target/$([ "$profile" = dev ] && echo debug || echo "$profile")/visage
"$visage" models pull

# The first free port from 8000 on.
port=8000
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1))
    [ "$port" -lt 8100 ] || die "the ports from 8000 to 8099 are all taken"
done
base=http://127.0.0.1:$port

mkdir -p data
log=data/demo.log
started=$(mktemp)
curl_errors=$(mktemp)

# Prints an error and the end of the service's log, and ends the demo.
fail() {
    printf '\nvisage: %s\n' "$*" >&2
    if [ -s "$log" ]; then
        printf -- '--- the end of %s\n' "$log" >&2
        tail -n 20 "$log" >&2
    fi
    echo '--- "make doctor" lists missing parts' >&2
    exit 1
}

# Prints the answer of the service. After an error, ends with the message of the service or of curl.
ask() {
    local answer problem
    if answer=$(curl --silent --show-error --fail-with-body "$@" 2>"$curl_errors"); then
        printf '%s' "$answer"
    else
        problem=$(jq -r '.detail // empty' <<<"$answer" 2>/dev/null || true)
        fail "${problem:-$(cat "$curl_errors")}"
    fi
}

say "starting the service on $base (its log: $log)"
VISAGE_HTTP__LISTEN=127.0.0.1:$port "$visage" serve >"$log" 2>&1 &
server=$!
for ((tries = 0; ; tries++)); do
    kill -0 "$server" 2>/dev/null || fail "the service ended during its start"
    curl --silent --fail --output /dev/null "$base/readyz" && break
    [ "$tries" -lt 240 ] || fail "the service is not ready after a minute"
    sleep 0.25
done

say "curl -F video=@${video#"$root"/} -F email=you@example.org $base/analyze-video"
answer=$(ask -F "video=@\"$video\"" -F email=you@example.org "$base/analyze-video")
token=$(jq -r .token <<<"$answer")

# Prints the progress: on a terminal as one line that is redrawn, otherwise as a new line for each change.
drawn=
draw() {
    local percent=$1 text=$2 bar
    bar=$(printf '%*s' "$((percent * 40 / 100))" '' | tr ' ' '#')
    text=$(printf '    [%-40s] %3d %%  %-20s' "$bar" "$percent" "$text")
    [ "$text" != "$drawn" ] || return 0
    drawn=$text
    if [ -t 1 ]; then printf '\r%s' "$text"; else printf '%s\n' "$text"; fi
}

say "curl $base/results/$token?wait=1"
while :; do
    result=$(ask "$base/results/$token?wait=1")
    read -r status percent < <(jq -r '"\(.status) \((.progress.fraction // 0) * 100 | floor)"' <<<"$result")
    case $status in
        queued | running) draw "$percent" "$status" ;;
        done) draw 100 "done" && break ;;
        *) fail "the analysis ended as $status: $(jq -r '.error.detail // "no reason given"' <<<"$result")" ;;
    esac
done
[ ! -t 1 ] || echo

ask --output data/demo-report.html "$base/results/$token/report"
mail=
for _ in $(seq 40); do
    mail=$(find data/outbox -name '*.eml' -newer "$started" 2>/dev/null | head -n 1 || true)
    [ -z "$mail" ] || break
    sleep 0.25
done

jq -r '
    def percent: (. * 10 | round) as $t | "\($t / 10 | floor).\($t % 10) %" | " " * (7 - length) + .;
    def of100: if . == null then "-" else "\(round) of 100" end;
    .analysis as $a | $a.summary as $s |
    "\n  \($a.video.duration_s * 10 | round / 10) s of video, \($a.video.width)x\($a.video.height), "
        + "\($a.video.frames_analyzed) of \($a.video.frames_total) frames analyzed, people seen: \($a.faces | length)\n",
    if $s.dominant_emotion == null then "  No face was found, so there are no figures." else
        "  dominant emotion   \($s.dominant_emotion)",
        ($s.emotions | to_entries | sort_by(-.value) | .[]
            | "    \(.key + " " * (14 - (.key | length)))\(.value | percent)"),
        "  calmness           \($s.calmness | of100)",
        "  eye contact        \($s.eye_contact | of100)",
        "  model confidence   \($s.model_confidence * 100 | round) % (mean probability of the chosen emotion)"
    end,
    ($a.warnings[] | "  note: \(.)")
' <<<"$result" || fail "the result has an unexpected format: $result"

stop
cat <<END

  the report page    data/demo-report.html
  the mail           ${mail:-not written yet: it will be sent when the service runs again}
  the result as JSON data/demo-result.json

  The service is stopped. \`make serve\` runs it on http://127.0.0.1:8000 until Ctrl-C.
END
jq . <<<"$result" >data/demo-result.json
