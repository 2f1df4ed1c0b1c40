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

visage reads settings from three sources, and each source overrides the ones before it:

1. the built-in defaults in the tables below
2. `config/*.toml` in order of name, or only the file given by `--config`
3. environment variables: `VISAGE_` + section + `__` + key

If a key or a value is wrong, visage names it and does not start. Sizes are in bytes or such as `"2 GiB"`. The key of a
time ends in its unit. Lists in environment variables are separated by commas. On SIGHUP, `limits.*`, `log.filter`,
`webhooks.secret`, `share.secret`, `mail.smtp.username` and `mail.smtp.password` are read again; all others are read at
start.
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
