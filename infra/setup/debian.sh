#!/bin/sh
# Installs the Debian packages that are missing for one purpose: run, test or lint.
# Usage: infra/setup/debian.sh run|test
set -eu

run="bubblewrap:bwrap runc:runc gcc:gcc libc6-dev:/usr/include/stdio.h binutils:ld make:make perl:perl
python3:python3 pkg-config:pkg-config xz-utils:xz patch:patch util-linux:prlimit util-linux:nsenter
ca-certificates:/etc/ssl/certs/ca-certificates.crt debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg
openssl:openssl bzip2:bzip2 git:/usr/bin/git"
# The tool chain of the other architecture, and what runs its programs.
if [ "$(uname -m)" = x86_64 ]; then
    run="$run gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc linux-libc-dev-arm64-cross:/usr/aarch64-linux-gnu/include/asm
qemu-user-static:qemu-aarch64-static"
fi
test="$run skopeo:skopeo umoci:umoci docker.io:dockerd docker-compose:docker-compose docker-registry:docker-registry pigz:pigz
busybox-static:/usr/share/doc/busybox-static gnupg:gpg minisign:minisign signify-openbsd:signify-openbsd
openssh-client:ssh-keygen diffoscope-minimal:diffoscope nodejs:node npm:npm curl:curl file:file unzip:unzip jq:jq
clamav:clamscan autoconf:autoconf automake:automake libtool:libtoolize cmake:/usr/bin/cmake ninja-build:/usr/bin/ninja meson:/usr/bin/meson
perl:/usr/bin/pod2man python3:/usr/bin/python3 python3-pip:/usr/bin/pip3 python3-build:/usr/bin/pyproject-build
python3-installer:/usr/lib/python3/dist-packages/installer python3-setuptools:/usr/lib/python3/dist-packages/setuptools
python3-wheel:/usr/lib/python3/dist-packages/wheel golang-go:/usr/bin/go rustc-web:/usr/bin/rustc cargo-web:/usr/bin/cargo"

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
