#!/bin/sh
# This script builds the image: sh appliance/image.sh IMAGE BASE [ENGINE...]
#
# ENGINE is podman or docker, with options if needed. The default is podman, or docker if podman is
# not installed.
# If pip needs a private CA on this machine (variable PIP_CERT), the build gets the CA as a secret.
set -eu

if [ $# -lt 2 ]; then
    echo "image.sh: usage: image.sh IMAGE BASE [ENGINE...]" >&2
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
    echo "image.sh: neither podman nor docker is installed; install one" >&2
    exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
case ${1##*/} in
    # Only the docker format of images supports a health check.
    podman*) set -- "$@" build --format docker ;;
    *) export DOCKER_BUILDKIT=1; set -- "$@" build ;;
esac
if [ -s "${PIP_CERT:-}" ]; then
    set -- "$@" --secret "id=pip_ca,src=$PIP_CERT"
fi
exec "$@" --file Containerfile --build-arg "BASE=$base" --build-arg "VERSION=$version" \
    --tag "$image" .
