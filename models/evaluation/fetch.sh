#!/usr/bin/env bash
# usage: fetch.sh DIR
#
# Puts pictures into DIR/pictures and the facts about the people into DIR/people.csv. They are 102 people of the Face
# Research Lab London Set (DeBruine & Jones 2017, doi.org/10.6084/m9.figshare.5047666.v5, CC BY 4.0), each with a neutral
# and a smiling face, from a fixed commit of the repository of the R package webmorphR.stim. LONDON names another copy of
# that repository, an address or a folder.
set -euo pipefail

commit=fa8b78fda2d659bb74ce62fcd99c4407551d2a77
source=${LONDON:-https://github.com/debruine/webmorphR.stim}
dest=${1:?the folder for the pictures}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git -C "$work" init --quiet
# The id of the commit is a checksum of all files.
git -C "$work" fetch --quiet --depth 1 "$source" "$commit"
git -C "$work" checkout --quiet "$commit" -- inst/neutral_front inst/smiling_front data-raw/london_info.csv
mkdir -p "$dest/pictures"
cp "$work"/data-raw/london_info.csv "$dest/people.csv"
for expression in neutral smiling; do
    for picture in "$work/inst/${expression}_front"/*.jpg; do
        name=$(basename "$picture" .jpg)
        cp "$picture" "$dest/pictures/${name%%_*}-$expression.jpg"
    done
done
echo "$(find "$dest/pictures" -name '*.jpg' | wc -l) pictures in $dest/pictures"
