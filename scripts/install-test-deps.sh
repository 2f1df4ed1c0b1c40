#!/usr/bin/env bash
# Installs the packages of the tests beyond those of the build: ffmpeg makes clips, the tests start and stop Postgres
# (unless VISAGE_TEST_POSTGRES names a server), a browser with its driver opens the pages, axe-core checks their
# accessibility, Node.js runs the unit tests of their scripts, poppler reads printed pages, Vulkan on the CPU replaces a
# GPU that decodes, and Python runs the clients of tests/clients.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if have apt-get && ! has_part postgres; then
    # The packages of Debian and Ubuntu would otherwise start a database at once.
    apt_install postgresql-common
    as_root sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
fi

if have apt-get && ! { has_part chromium && has_part chromedriver; }; then
    apt_update
    # The package of Ubuntu only installs the snap, which cannot read the temporary files of the tests or their
    # profiles.
    [ -n "$(apt-cache madison chromium-driver)" ] ||
        die "Ubuntu has Chromium only as a snap, which the tests cannot control. Install chromium and chromium-driver from another source of
        packages (such as ppa:xtradeb/apps), or Google Chrome and the chromedriver of its version, and run this again"
fi

require "${test_parts[@]}"
"$root/scripts/fetch-axe.sh"
"$root/scripts/install-s3-servers.sh"
