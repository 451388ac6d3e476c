#!/bin/sh
# Builds the image: sh appliance/image.sh IMAGE BASE [ENGINE...]
#
# ENGINE is podman or docker, whichever is there, with options of its own if need be. Where pip needs
# a private authority here (PIP_CERT), it needs it there too: it comes in as a secret.
set -eu

if [ $# -lt 2 ]; then
    echo "image.sh: say IMAGE BASE [ENGINE...]" >&2
    exit 2
fi
image=$1 base=$2
shift 2
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    for each in podman docker; do
        if command -v "$each" >/dev/null 2>&1; then
            set -- "$each"
            break
        fi
    done
fi
if [ $# -eq 0 ]; then
    echo "image.sh: neither podman nor docker is here; install one" >&2
    exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
case ${1##*/} in
    # only this format has a health check
    podman*) set -- "$@" build --format docker ;;
    *) export DOCKER_BUILDKIT=1; set -- "$@" build ;;
esac
if [ -s "${PIP_CERT:-}" ]; then
    set -- "$@" --secret "id=pip_ca,src=$PIP_CERT"
fi
exec "$@" --file Containerfile --build-arg "BASE=$base" --build-arg "VERSION=$version" \
    --tag "$image" .
