#!/bin/sh
# Installs the tools of the tests that come from npm, once per lock file.
# Usage: infra/setup/node.sh FOLDER
set -eu

folder=${1:?usage: $0 FOLDER}
wanted=$(dirname "$0")/node
[ ! -f "$folder/installed.json" ] || ! cmp -s "$wanted/package-lock.json" "$folder/installed.json" || exit 0
mkdir -p "$folder"
cp "$wanted/package.json" "$wanted/package-lock.json" "$wanted/.npmrc" "$folder/"
npm ci --prefix "$folder" --silent
cp "$wanted/package-lock.json" "$folder/installed.json"
