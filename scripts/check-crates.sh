#!/usr/bin/env bash
# Checks the crates by deny.toml: licences, duplicates, wildcards, sources, and known vulnerabilities if the advisory
# database of RustSec can be reached.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

program=$("$root/scripts/fetch-cargo-deny.sh")
deny=("$program" --locked --manifest-path "$root/Cargo.toml")
"${deny[@]}" check --hide-inclusion-graph bans licenses sources
if timeout 60 "${deny[@]}" fetch db >/dev/null 2>&1; then
    "${deny[@]}" --offline check --hide-inclusion-graph advisories
else
    say "the advisory database (github.com/RustSec/advisory-db) is unreachable, so known vulnerabilities were not checked"
fi
