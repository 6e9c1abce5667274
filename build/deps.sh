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
add smbd samba
add smbclient smbclient
add exportfs nfs-kernel-server
add nbdkit nbdkit
add nbdfuse libnbd-bin
add qemu-storage-daemon qemu-system-common
add qemu-nbd qemu-utils
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
# The file servers are for tests, which start what they need by themselves: the
# packages' own services are not started, now or at the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
fresh=""
for s in smbd nmbd samba-ad-dc nfs-server rpcbind; do
	[ -e /lib/systemd/system/$s.service ] || fresh="$fresh $s.service"
done
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $need
for s in $fresh; do
	[ ! -e "/lib/systemd/system/$s" ] || systemctl disable -q "$s" || true
done
