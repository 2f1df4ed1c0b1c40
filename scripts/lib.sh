# shellcheck shell=bash
# Functions shared by the other scripts. To be sourced, from any working directory.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root

# rustup installs cargo here, and a new shell may not have it in PATH.
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

# Updates apt's package lists, unless that was done within the last hour.
apt_update() {
    [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 -print -quit 2>/dev/null)" ] || return 0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # apt sets the server's time on a list that has not changed. The current time marks the lists as updated now.
    as_root find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -exec touch {} +
}

# Installs the missing ones of the given Debian packages. If none is missing, it does nothing and does not use the
# network.
apt_install() {
    local package missing=()
    have apt-get || die "this system has no apt-get; install the equivalents of these Debian packages: $*"
    for package in "$@"; do
        case $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii*) ;;
            *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt_update
    say "installing with apt-get: ${missing[*]}"
    # Without this setting, a question of a package would wait for ever on Debian's minimal images.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]} (names are those of Debian 12 and 13 and Ubuntu 24.04)"
}

# shellcheck source=scripts/parts.sh
. "$root/scripts/parts.sh"
