#!/usr/bin/env bash
# Writes requirements/lock.txt anew: the newest versions that pyproject.toml allows, tried in an environment of their own.
# Call it with the oldest Python that is supported (Debian 12 has 3.11.2): what a newer one gets may refuse the older.
# Local versions (torch's +cpu) are cut off, since no index serves them; torchvision is left out, since it must match torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"${PYTHON:-python3}" -m venv "$room/venv"
"$room/venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[all]'
"$room/venv/bin/python" -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$//; /^torchvision==/d' >"$room/lock.txt"
mv "$room/lock.txt" requirements/lock.txt
