#!/usr/bin/env bash
# usage: install-api-checks.sh
#
# Installs the programs that check the API and its clients: Python packages, Node.js among them, in
# .runtime/api-checks, and JavaScript packages in tests/clients/node_modules.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

checks=tests/clients
venv=.runtime/api-checks
wanted=$(cat "$checks/requirements.txt" "$checks/package-lock.json" clients/python/pyproject.toml | sha256sum)
[ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ] || exit 0

say "installing programs that check the API in $venv"
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$checks/requirements.txt" \
    --editable 'clients/python[live,pandas]'
(
    # npm starts the Node.js that it came with.
    PATH=$PWD/$venv/bin:$PATH
    npm ci --prefix "$checks" --silent --no-audit --no-fund
)
echo "$wanted" >"$venv/installed"
