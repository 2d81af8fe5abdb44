#!/bin/sh
# Installs the Debian packages that are missing for one purpose: run, test or lint.
# Usage: infra/setup/debian.sh run|test
set -eu

run="bubblewrap:bwrap runc:runc gcc:gcc libc6-dev:/usr/include/stdio.h binutils:ld make:make perl:perl
python3:python3 pkg-config:pkg-config xz-utils:xz patch:patch util-linux:prlimit util-linux:nsenter
ca-certificates:/etc/ssl/certs/ca-certificates.crt debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg
openssl:openssl bzip2:bzip2"
# The tool chain of the other architecture, and what runs its programs.
if [ "$(uname -m)" = x86_64 ]; then
    run="$run gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc linux-libc-dev-arm64-cross:/usr/aarch64-linux-gnu/include/asm
qemu-user-static:qemu-aarch64-static"
fi
test="$run skopeo:skopeo umoci:umoci docker.io:dockerd docker-registry:docker-registry pigz:pigz
busybox-static:/usr/share/doc/busybox-static gnupg:gpg minisign:minisign signify-openbsd:signify-openbsd
openssh-client:ssh-keygen git:git file:file unzip:unzip jq:jq"

case "${1:-}" in
run) wanted=$run ;;
test) wanted=$test ;;
*) echo "usage: $0 run|test" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=
for pair in $wanted; do
    package=${pair%%:*}
    proof=${pair#*:}
    case $proof in
    /*) [ -e "$proof" ] || missing="$missing $package" ;;
    *) command -v "$proof" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done
if [ "$1" = test ] && ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing="$missing python3-venv"
fi
[ -n "$missing" ] || exit 0

echo "installing:$missing" >&2
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >&2
