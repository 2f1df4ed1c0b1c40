#!/usr/bin/env bash
# Installs cargo, rustfmt and clippy, unless they are there in the rust-version of Cargo.toml or a newer one. The Rust of
# Debian 12 is too old, so rustup, the installer of the Rust project, installs Rust in the user's home.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Succeeds if the installed cargo is `wanted` or newer.
new_enough() {
    local version
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) && [ -n "$version" ] || return 1
    [ "$(printf '%s\n' "$wanted" "$version" | sort -V | head -n1)" = "$wanted" ]
}

if new_enough && cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
    exit 0
fi

components=(--profile minimal --component rustfmt --component clippy)
if have rustup; then
    say "installing Rust $wanted with rustup"
    rustup toolchain install "$wanted" "${components[@]}" --no-self-update ||
        die "rustup could not install Rust $wanted; see the messages above"
else
    case $(uname -m) in
        x86_64) target=x86_64-unknown-linux-gnu ;;
        aarch64) target=aarch64-unknown-linux-gnu ;;
        *) die "install Rust $wanted for $(uname -m) by hand: https://rustup.rs" ;;
    esac
    say "installing Rust $wanted with rustup in ${CARGO_HOME:-$HOME/.cargo}"
    server=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for file in rustup-init rustup-init.sha256; do
        curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$work/$file" "$server/dist/$target/$file" ||
            die "the installer of rustup cannot be fetched from $server. Install Rust $wanted or newer by hand (https://rustup.rs) and try again"
    done
    # Only the checksum is compared, because the file names the program with the folder in which it was built.
    [ "$(cut -d' ' -f1 "$work/rustup-init.sha256")" = "$(sha256sum "$work/rustup-init" | cut -d' ' -f1)" ] ||
        die "the installer of rustup is damaged (its sha256 differs); try again"
    chmod +x "$work/rustup-init"
    "$work/rustup-init" -y -q --no-modify-path --no-update-default-toolchain --default-toolchain "$wanted" "${components[@]}" ||
        die "rustup could not install Rust $wanted; see the messages above"
fi
new_enough || die "cargo is still older than Rust $wanted; is an older one first in PATH? ($(command -v cargo))"
