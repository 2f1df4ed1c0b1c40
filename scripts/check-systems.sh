#!/usr/bin/env bash
# usage: check-systems.sh [--test] [--in FOLDER] bookworm|trixie|noble
#
# Tests the installation on a bare Debian 12 or 13 or Ubuntu 24.04. Makes a root file system with debootstrap, clones
# the committed state into it, runs `make demo` there and checks its result. With --test it runs `make test`, too.
# Needs root. The root file system is FOLDER/SUITE. An existing one is used again, with a new clone. Without --in it
# is made in /var/tmp and removed at the end.
#
# Mirrors and certificates are those of this machine: MIRROR names the package mirror of the system (default: the one
# in apt's sources). pip's configuration, the certificate bundle, the homes of cargo and rustup, proxies and VISAGE_*
# variables are passed in, and also the folder that VISAGE_MODELS__MIRROR names, for models whose origins cannot be
# reached.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() { die "usage: check-systems.sh [--test] [--in FOLDER] bookworm|trixie|noble"; }

folder='' tests='' suite=''
while [ $# -gt 0 ]; do
    case $1 in
        --test) tests=yes ;;
        --in) folder=$(mkdir -p "$2" && realpath "$2") && shift ;;
        bookworm | trixie | noble) suite=$1 ;;
        *) usage ;;
    esac
    shift
done
[ -n "$suite" ] || usage
[ "$(id -u)" -eq 0 ] || die "debootstrap needs root: run this script as root"

# The rest runs in new namespaces, so that its mounts and processes end with this script.
if [ -z "${IN_NAMESPACE:-}" ]; then
    [ -n "$folder" ] || { folder=$(mktemp -d -p /var/tmp) && temporary=yes; }
    status=0
    IN_NAMESPACE=yes unshare --mount --propagation private --pid --fork --kill-child \
        "$0" ${tests:+--test} --in "$folder" "$suite" || status=$?
    [ -z "${temporary:-}" ] || rm -rf --one-file-system "$folder"
    exit "$status"
fi

# The first process of a namespace ignores signals without a handler. All other processes in the namespace end with it.
trap 'exit 130' INT TERM

origin=Debian components=main recipe=sid
[ "$suite" != noble ] || { origin=Ubuntu components=main,universe recipe=gutsy; }
# shellcheck disable=SC2016 # apt replaces these variables
# The address of the package mirror in apt's sources, if they are of the same distribution as the suite.
mirror=${MIRROR:-$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' "Created-By: Packages" 2>/dev/null |
    sed -n "s/^$origin $origin //p" | sort -u | tail -n 1)}
[ -n "$mirror" ] || die "apt's sources here have no mirror of $origin: name one in MIRROR"

system=$folder/$suite
if [ ! -e "$system/made" ]; then
    have debootstrap || apt_install debootstrap
    say "making a root file system of $suite in $system"
    rm -rf "$system"
    # The recipe is named, because a debootstrap that is older than the suite does not know the name of the suite.
    debootstrap --variant=minbase --include=ca-certificates,git,make --components="$components" \
        "$suite" "$system" "$mirror" "/usr/share/debootstrap/scripts/$recipe" >"$folder/$suite.log" 2>&1 ||
        { tail -n 5 "$folder/$suite.log" >&2 && die "debootstrap failed; see $folder/$suite.log"; }
    touch "$system/made"
fi

# Copies a file to the same path in the new system, if it exists here.
pass_in() { [ ! -f "$1" ] || install -D -m 644 "$1" "$system$1"; }

pass_in /etc/resolv.conf
pass_in /etc/ssl/certs/ca-certificates.crt
pass_in /etc/pip.conf
pass_in "$HOME/.config/pip/pip.conf"
pass_in "$HOME/.pip/pip.conf"

# Mounts a folder at the same path in the new system.
mount_in() { mkdir -p "$system$1" && mount --bind "$1" "$system$1"; }

mkdir -p "$system"/{proc,sys,dev}
mount -t proc proc "$system/proc"
mount --rbind /sys "$system/sys"
mount --rbind /dev "$system/dev"
for home in "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}" "${VISAGE_MODELS__MIRROR:-}" "${PIP_FIND_LINKS:-}"; do
    [ ! -d "$home" ] || mount_in "$home"
done

rm -rf "$system/srv"
mkdir "$system/srv"
git clone --quiet "file://$(git -C "$root" rev-parse --path-format=absolute --git-common-dir)" "$system/srv/visage"
git -C "$system/srv/visage" checkout --quiet --detach "$(git -C "$root" rev-parse HEAD)"

variables=(HOME="$HOME" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)
while IFS= read -r -d '' variable; do
    case $variable in
        PIP_* | CARGO_HOME=* | RUSTUP_* | VISAGE_* | SSL_CERT_* | CURL_CA_BUNDLE=* | REQUESTS_CA_BUNDLE=* | *_proxy=* | *_PROXY=*) variables+=("$variable") ;;
    esac
done < <(env --null)

# Runs a command in the clone in the new system.
there() { chroot "$system" env -i "${variables[@]}" sh -c 'cd /srv/visage && exec "$@"' sh "$@"; }

say "$suite: make demo"
began=$SECONDS
there make demo
took=$((SECONDS - began))
# The expected result for a smiling face that looks into the camera, with every model installed.
# shellcheck disable=SC2016 # these are variables of jq
there jq -e '
    .analysis as $a | [$a.models[].name] as $models |
    def holds($fact; f): if f then empty else $fact end;
    [
        holds("one person is seen"; ($a.faces | length) == 1),
        holds("the dominant emotion is happy"; $a.summary.dominant_emotion == "happy"),
        holds("the landmark model was used"; $models | index("face_landmarks")),
        holds("eye contact was judged by the eyes throughout"; ($a.summary.eye_contact_coverage // 0) > 0.9),
        holds("eye contact is high"; ($a.summary.eye_contact // 0) > 80),
        holds("no warning mentions a missing model"; [$a.warnings[] | tostring | select(test("model|landmark"))] == [])
    ] | if . == [] then true else error("not true of the demo: " + join(", ")) end
' data/demo-result.json >/dev/null
there target/debug/visage doctor | sed -n '/^[a-z]* *video /p; /^[a-z]* *detector /p'
say "$suite: the demo took $took s, and its result is correct"

if [ -n "$tests" ]; then
    say "$suite: make test"
    began=$SECONDS
    there make test
    say "$suite: the tests took $((SECONDS - began)) s"
fi
