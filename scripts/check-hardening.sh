#!/usr/bin/env bash
# Checks that `systemd-analyze security` gives every systemd unit an exposure level below 2.0 (of 10), and that every
# service of docker-compose.yml is confined. Without systemd-analyze, it checks docker-compose.yml only.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

require python3
limit=2.0
if have systemd-analyze; then
    for unit in "$root"/deploy/systemd/*.service; do
        score=$(systemd-analyze security --offline=true --no-pager "$unit" 2>&1 |
            sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
        [ -n "$score" ] || die "systemd-analyze gives no exposure level for $unit"
        awk -v score="$score" -v limit="$limit" 'BEGIN { exit !(score < limit) }' ||
            die "$unit has an exposure level of $score, which is not below $limit (systemd-analyze security --offline=true $unit)"
    done
else
    say "systemd-analyze is not installed, so the systemd units were not checked"
fi

python3 - "$root/docker-compose.yml" <<'PYTHON'
import re, sys

text = open(sys.argv[1], encoding="utf-8").read()
for line in ["cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]', "read_only: true", "mem_limit: ", "pids_limit: "]:
    if line not in text.split("x-visage:")[0]:
        sys.exit(f"docker-compose.yml: x-confined lacks {line}")
if "<<: *confined" not in text.split("x-visage:")[1].split("services:")[0]:
    sys.exit("docker-compose.yml: x-visage is not confined")
services = text.split("\nservices:\n")[1].split("\nvolumes:\n")[0]
names = re.findall(r"^  (\w+):\n((?:    .*\n|\n|  #.*\n)*)", services, re.M)
for name, body in names:
    if not re.search(r"^    <<: \*(visage|confined)$", body, re.M):
        sys.exit(f"docker-compose.yml: the service {name} is not confined")
    for setting in ["privileged:", "read_only: false", "cap_drop: []"]:
        if setting in body:
            sys.exit(f"docker-compose.yml: the service {name} has {setting}")
if len(names) < 6:
    sys.exit("docker-compose.yml: services were not found")
PYTHON
