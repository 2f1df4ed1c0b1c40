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

# Brings apt's lists up to date, unless that was done within the last hour.
apt_update() {
    [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 -print -quit 2>/dev/null)" ] || return 0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # apt keeps the server's time on a list that has not changed: the lists count as fresh from now on.
    as_root find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -exec touch {} +
}

# Installs those of the given Debian packages that are missing; touches nothing (not even the network) if none is.
apt_install() {
    local package missing=()
    have apt-get || die "this system has no apt-get; install the counterparts of these Debian packages: $*"
    for package in "$@"; do
        case $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii*) ;;
            *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt_update
    say "installing with apt-get: ${missing[*]}"
    # On Debian's minimal images a package's question would wait for an answer for ever.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]} (names are those of Debian 12 and 13 and Ubuntu 24.04)"
}

# shellcheck source=scripts/parts.sh
. "$root/scripts/parts.sh"
