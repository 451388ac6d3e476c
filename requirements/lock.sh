#!/bin/sh
# This script pins every dependency in pyproject.toml, with hashes:
#
#     sh requirements/lock.sh PYTHON
#
# PYTHON must be the oldest supported version. It needs every package that a newer version needs.
set -eu

cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check pip-tools

compile() {
    "$tools/bin/pip-compile" --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
        --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        --resolver=backtracking "$@"
}

compile --extra=storage --output-file=requirements/run.txt pyproject.toml
compile --extra=dev --constraint=requirements/run.txt --output-file=requirements/dev.txt pyproject.toml
sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml >"$tools/build.in"
compile --no-annotate --output-file="$tools/build.txt" "$tools/build.in"
{
    echo "# The packages that build Entrepot's wheel, pinned like all other dependencies."
    sed '/^#/d; /^$/d' "$tools/build.txt"
} >requirements/build.txt
