#!/usr/bin/env bash
# usage: settings-table.sh [--check]
#
# Writes docs/SETTINGS.md from config/default.toml, so that the table always agrees with the program. With --check it
# only checks that the file is up to date.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

table() {
    cat <<'END'
<!-- Written by scripts/settings-table.sh from config/default.toml; change that file. -->
# Settings

Later wins: the built-in defaults below, then `config/*.toml` in order of name (or the one file given by `--config`),
then environment variables: `VISAGE_` + section + `__` + key. A wrong key or value stops the program at start, by name.
Sizes are in bytes or as `"2 GiB"`; times carry their unit in the name; lists in the environment are separated by commas.
END
    awk '
        /^$/ { comment = "" }
        /^# / { comment = comment (comment == "" ? "" : " ") substr($0, 3); fresh = 1 }
        /^\[/ {
            section = substr($0, 2, length($0) - 2)
            printf "\n## [%s]\n\n| key | default | meaning |\n| --- | --- | --- |\n", section
            comment = ""
        }
        /^[a-z_]+ = / {
            key = $1
            value = substr($0, length(key) + 4)
            text = fresh ? comment : ""
            gsub(/\|/, "\\|", text)
            printf "| `%s` | `%s` | %s |\n", key, value, text
            comment = ""
            fresh = 0
        }' config/default.toml
}

if [ "${1:-}" = --check ]; then
    table | cmp --silent - docs/SETTINGS.md || die "docs/SETTINGS.md does not match config/default.toml: run scripts/settings-table.sh"
else
    table >docs/SETTINGS.md
fi
