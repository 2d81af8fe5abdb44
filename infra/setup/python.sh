#!/bin/sh
# Installs the Python tools of the tests into a virtual environment, once per requirements file.
# Usage: infra/setup/python.sh FOLDER
set -eu

folder=${1:?usage: $0 FOLDER}
wanted=$(dirname "$0")/requirements.txt
[ ! -f "$folder/installed.txt" ] || ! cmp -s "$wanted" "$folder/installed.txt" || exit 0
python3 -m venv "$folder"
"$folder/bin/pip" install -q --disable-pip-version-check -r "$wanted"
cp "$wanted" "$folder/installed.txt"
