#!/usr/bin/env bash
# usage: client-types.sh [--check]
#
# Writes the types of the client libraries from the OpenAPI document of target/debug/visage. With --check, fails if they
# would change.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

scripts/install-api-checks.sh
PATH=$PWD/.runtime/api-checks/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The defaults, whatever this machine is set to.
touch "$work/visage.toml"
env -i PATH="$PATH" VISAGE_CONFIG="$work/visage.toml" target/debug/visage openapi >"$work/openapi.json"

# Results are dictionaries as the service sent them, so a newer service with more members does not break a client.
datamodel-codegen --input "$work/openapi.json" --input-file-type openapi --output "$work/types.py" \
    --output-model-type typing.TypedDict --target-python-version 3.10 --use-union-operator --enum-field-as-literal all \
    --disable-timestamp --disable-warnings --openapi-scopes schemas --use-double-quotes --wrap-string-literal --formatters builtin
tests/clients/node_modules/.bin/openapi-typescript "$work/openapi.json" --output "$work/schema.d.ts" >/dev/null

compare() {
    if [ "${1:-}" = --check ]; then
        cmp -s "$work/$2" "$3" || die "$3 differs from the OpenAPI document: run scripts/client-types.sh"
    else
        cp "$work/$2" "$3"
    fi
}
compare "${1:-}" types.py clients/python/src/visage_client/types.py
compare "${1:-}" schema.d.ts clients/javascript/schema.d.ts
