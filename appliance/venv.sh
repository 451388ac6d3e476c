#!/bin/sh
# This script creates the virtual environment that Entrepot runs in:
#
#     sh appliance/venv.sh PYTHON VENV LOCK
#
# The script installs only the packages in the lock file LOCK, verified by hash, and the build tools
# in requirements/build.txt. Entrepot itself is installed in editable mode, so the environment refers
# to this folder. A second run keeps the packages that are already installed.
set -eu

say() {
    echo "venv.sh: $*" >&2
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Print the requested Python if it is new enough, or else the first such Python in PATH.
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

# Check that Python has the module venv. Debian has this module in a separate package; if possible,
# install the package.
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
