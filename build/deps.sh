#!/bin/sh
# Installs what building and testing need beyond Go, git and make, on Debian.
# Does nothing when all of it is there.
set -eu
need=""
add() { command -v "$1" >/dev/null 2>&1 || need="$need $2"; }
add mkfs.ext4 e2fsprogs
add mkfs.xfs xfsprogs
add mkfs.btrfs btrfs-progs
add fsfreeze util-linux
add nsenter util-linux
add mount mount
add gcc gcc
add xmllint libxml2-utils
add udevadm udev
[ -e /usr/include/stdio.h ] || need="$need libc6-dev"
[ -n "$need" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "These packages are needed and apt-get is not here to install them:$need" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "These packages are needed; run as root, or install them:$need" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $need
