#!/usr/bin/env bash
# usage: install-s3-servers.sh
#
# Installs the S3 servers of tests/servers/requirements.txt into .runtime/s3-servers, a virtual environment, unless
# they are installed already.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

wanted=$root/tests/servers/requirements.txt
venv=$root/.runtime/s3-servers

! cmp -s "$wanted" "$venv/requirements.txt" || exit 0
say "installing S3 servers for the tests in .runtime/s3-servers"
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$venv/requirements.txt"
