#!/bin/sh
# This script creates the virtual environment that Entrepot runs in: sh appliance/venv.sh PYTHON
# VENV LOCK
#
# The script installs only packages of LOCK, verified by hash, and build tools of
# requirements/build.txt. Entrepot itself is installed in editable mode: the environment refers to
# this folder. The script may be run again: installed packages stay.
set -eu

say() {
    echo "venv.sh: $*" >&2
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Print the requested Python, or the first one in PATH that is new enough.
choose() {
    for each in "$1" python3 python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$each"; then
            echo "$each"
            return
        fi
    done
    say "Python 3.11 or newer is needed; $1 is $("$1" --version 2>&1 || true)"
    return 1
}

# Debian puts the module venv, and pip for it, into a separate package. Install that package.
check_venv() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing $package"
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq -y --no-install-recommends "$package" >/dev/null 2>&1 && return
        apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package" >/dev/null
    else
        say "$1 has no module venv; install it: sudo apt-get install $package"
        return 1
    fi
}

if [ $# -ne 3 ]; then
    say "usage: venv.sh PYTHON VENV LOCK"
    exit 2
fi
venv=$2 lock=$3
root=$(cd "$(dirname "$0")/.." && pwd)

if ! is_new_enough "$venv/bin/python"; then
    python=$(choose "$1")
    check_venv "$python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
export PIP_ROOT_USER_ACTION=ignore
# shellcheck disable=SC2086 # separate words are intended
{
    $pip install --require-hashes -r "$root/requirements/build.txt" -r "$lock"
    $pip install --no-deps --no-build-isolation --no-index --editable "$root"
}
