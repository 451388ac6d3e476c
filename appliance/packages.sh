#!/bin/sh
# This script installs the system programs that Entrepot needs:
#
#     sh appliance/packages.sh run|test|soak|bench
#
# If all programs are installed, the script does nothing. If a program is missing, the script
# installs its package with apt-get, which only root can do. The script keeps the packages from
# starting services, because the service of docker-registry would occupy port 5000.
set -eu

# The PATH of a plain user may lack these folders.
PATH="$PATH:/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman"
policy=/usr/sbin/policy-rc.d

# Print one line for each program: a command, and the Debian package that contains it.
needed() {
    echo "haproxy haproxy"
    [ "$1" = run ] && return
    if [ "$1" = bench ]; then
        echo "docker-registry docker-registry
nginx nginx-light
wrk wrk"
        return
    fi
    echo "podman podman
skopeo skopeo
buildah buildah
runc runc
netavark netavark
aardvark-dns aardvark-dns
cc gcc
catatonit catatonit
iptables iptables
mmdebstrap mmdebstrap
containerd containerd
dockerd docker.io
docker-registry docker-registry
htpasswd apache2-utils
chromium chromium
nginx nginx-light"
    [ "$1" = soak ] || return 0
    echo "npm npm"
}

missing() {
    needed "$1" | while read -r command package; do
        command -v "$command" >/dev/null 2>&1 || echo "$package"
    done
}

say() {
    echo "packages.sh: $*" >&2
}

# Keep packages from starting services until `allow_services` is called. Debian's packages start a
# service through invoke-rc.d, which first runs the script below; exit code 101 forbids the start.
forbid_services() {
    if [ -e "$policy" ]; then
        kept=$(mktemp -d)/policy-rc.d
        mv "$policy" "$kept"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

allow_services() {
    rm -f "$policy"
    if [ -n "$kept" ]; then
        mv "$kept" "$policy"
        rmdir "${kept%/*}"
        kept=
    fi
}

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1
}

update() {
    apt-get update --quiet=2 -o DPkg::Lock::Timeout=120 >"$log" 2>&1
}

# Keep the services of the installed packages from starting at the next boot.
disable_services() {
    [ -d /run/systemd/system ] || return 0
    for each in "$@"; do
        [ "$each" != docker.io ] || systemctl disable --quiet docker.service docker.socket >/dev/null 2>&1 || true
        systemctl disable --quiet "$each.service" >/dev/null 2>&1 || true
    done
}

# haproxy.cfg needs HAProxy 2.6 or newer.
check_haproxy() {
    version=$(haproxy -v | sed -n 's/^HAProxy version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    # shellcheck disable=SC2086 # two words
    set -- ${version:-0 0}
    [ "$1" -gt 2 ] || [ "$1" -eq 2 -a "$2" -ge 6 ] && return
    say "HAProxy $1.$2 is too old; install 2.6 or newer"
    exit 1
}

level=${1:-}
case $level in
    run | test | soak | bench) ;;
    *) say "usage: packages.sh run|test|soak|bench"; exit 2 ;;
esac

# shellcheck disable=SC2046 # the packages are separate words
set -- $(missing "$level")
if [ $# -gt 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing (Debian package names): $*; install them"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "missing: $*; install them: sudo apt-get install --no-install-recommends $*"
        exit 1
    fi
    say "installing $*"
    kept=
    log=$(mktemp)
    trap 'allow_services; rm -f "$log"' EXIT
    trap 'exit 130' INT TERM HUP
    forbid_services
    # If the installation fails, apt-get's package lists may be missing or old: update them, and try
    # again.
    install "$@" || { update && install "$@"; } || {
        cat "$log" >&2
        say "installation failed: $*"
        exit 1
    }
    disable_services "$@"
fi
check_haproxy
