#!/bin/sh
# Installs Python tools into a virtual environment, once per requirements file.
# Usage: infra/setup/python.sh FOLDER [REQUIREMENTS], by default those of the tests
set -eu

folder=${1:?usage: $0 FOLDER [REQUIREMENTS]}
wanted=${2:-$(dirname "$0")/requirements.txt}
[ ! -f "$folder/installed.txt" ] || ! cmp -s "$wanted" "$folder/installed.txt" || exit 0
python3 -m venv "$folder"
"$folder/bin/pip" install -q --disable-pip-version-check -r "$wanted"
cp "$wanted" "$folder/installed.txt"
