#!/usr/bin/env bash
# Installs what the tests need beside the build: ffmpeg (test clips), Postgres (unless one answers on this machine or
# its programs are there: the tests start one of their own), a browser with its driver and what looks for barriers in
# pages, what reads printed pages, Vulkan on the CPU (its frames stand in for those of a GPU that decodes), Python for the
# clients in tests/clients, and tools of the scripts' own checks.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

apt_install ffmpeg curl jq openssl python3 python3-venv shellcheck chromium chromium-driver poppler-utils fonts-dejavu-core \
    mesa-vulkan-drivers
"$root/scripts/fetch-axe.sh"

postgres_answers() { (exec 3<>/dev/tcp/127.0.0.1/5432) 2>/dev/null; }

postgres_programs() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

if [ -z "${VISAGE_TEST_POSTGRES:-}" ] && ! postgres_answers && ! postgres_programs; then
    # Only the programs are wanted, not a database that runs from now on: that is Debian's way to say so.
    apt_install postgresql-common
    as_root sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    apt_install postgresql
fi
