# shellcheck shell=bash
# What the other scripts share. To be sourced, from any working directory.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root

# rustup puts cargo here, and a fresh shell need not know yet.
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'visage: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this step needs root: run as root, or install sudo, or run by hand: $*"
    fi
}

# Installs those of the given Debian packages that are missing; touches nothing (not even the network) if none is.
apt_install() {
    local package missing=()
    have dpkg-query || die "this system has no dpkg. visage is built on Debian 12; elsewhere install the counterparts of: $*"
    for package in "$@"; do
        case $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii*) ;;
            *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing with apt-get: ${missing[*]}"
    # On Debian's minimal images a package's question would wait for an answer for ever.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]} (names are those of Debian 12)"
}
