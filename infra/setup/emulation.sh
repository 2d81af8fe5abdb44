#!/bin/sh
# Lets this machine's kernel run aarch64 programs through qemu: mounts binfmt_misc and registers the
# emulator, loaded at once (flag F), so that it also works in roots that don't hold it.
# Usage: infra/setup/emulation.sh; does nothing where it is done already or the machine is aarch64.
set -eu
[ "$(uname -m)" != aarch64 ] || exit 0
folder=/proc/sys/fs/binfmt_misc
grep -qsx 'interpreter .*/qemu-aarch64\(-static\)\?' "$folder"/* && exit 0
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
    echo "emulation.sh: no qemu-aarch64; install the Debian package qemu-user-static" >&2
    exit 1
}
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
[ -e "$folder/register" ] || $sudo mount -t binfmt_misc binfmt_misc "$folder"
# ELF, 64 bit, little endian, executable or shared object, machine 183.
magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:$emulator:F" | $sudo tee "$folder/register" >/dev/null
