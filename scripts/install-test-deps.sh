#!/usr/bin/env bash
# Installs what the tests need beside the build: ffmpeg makes clips, Postgres is started and stopped by the tests (unless
# VISAGE_TEST_POSTGRES names a server), a browser with its driver opens the pages, axe-core looks for barriers in them, poppler reads
# printed pages, Vulkan on the CPU stands in for a GPU that decodes, Python runs the clients of tests/clients.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if have apt-get && ! has_part postgres; then
    # The packages of Debian and Ubuntu would start a database of their own at once.
    apt_install postgresql-common
    as_root sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
fi

if have apt-get && ! { has_part chromium && has_part chromedriver; }; then
    apt_update
    # Its package on Ubuntu only installs the snap, which sees neither the temporary files of the tests nor their profiles.
    [ -n "$(apt-cache madison chromium-driver)" ] ||
        die "Ubuntu has Chromium only as a snap, which the tests cannot drive. Install chromium and chromium-driver from another source of
        packages (such as ppa:xtradeb/apps), or Google Chrome and the chromedriver of its version, and run this again"
fi

require "${test_parts[@]}"
"$root/scripts/fetch-axe.sh"
"$root/scripts/install-s3-servers.sh"
