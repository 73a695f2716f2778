#!/bin/sh
# Makes the virtual environment $1 from requirements.lock: with uv where it is installed, else with
# venv and pip. On Debian or Ubuntu as root it installs python3-venv when that is what is missing.
set -eu
venv=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    echo "the lab needs Python 3.11, 3.12 or 3.13, and $python is $("$python" --version 2>&1) -> make PYTHON=/path/to/python3.12 ..." >&2
    exit 4
fi

echo "making $venv with $("$python" --version)" >&2
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" -r requirements.lock -e .
    exit 0
fi

if ! "$python" -m venv --clear "$venv" >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && [ -z "${LAB_NO_INSTALL:-}" ]; then
        echo "installing python3-venv with apt-get" >&2
        apt-get update -q >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-venv >/dev/null
        "$python" -m venv --clear "$venv"
    else
        echo "$python cannot make a virtual environment -> install python3-venv" >&2
        exit 4
    fi
fi
"$venv/bin/python" -m pip install -qq --disable-pip-version-check -r requirements.lock -e .
