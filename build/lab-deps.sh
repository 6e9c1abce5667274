#!/bin/sh
# Brings what the lab's virtual machines are made of (test/lab): QEMU, unless it
# is installed, a Debian kernel and the hosts' programs. All of it is unpacked
# into a folder of its own, and nothing is installed: no rights are needed, no
# package's scripts run, and this machine is as before.
#
# lab-deps.sh [FOLDER]   FOLDER is $UMBRA_LAB_CACHE, or umbra-lab in the user's
# cache. Does nothing when all of it is there. Ends with 3 if it cannot be had
# here, so that a caller may go without.
set -eu

cache=${1:-${UMBRA_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/umbra-lab}}

# What the guests run. Whatever these depend on comes along.
packages="busybox-static dash kmod udev lvm2 dmsetup open-iscsi e2fsprogs xfsprogs
btrfs-progs nvme-cli util-linux mount fdisk sg3-utils sg3-utils-udev iproute2
multipath-tools base-passwd nbd-client nfs-kernel-server nfs-common systemd
qemu-system-common nbdkit"
kernel=linux-image-cloud-amd64

# The kind of what is unpacked: it is made anew when this file changes.
kind=$(cksum <"$0" | cut -d' ' -f1)

cannot() {
	echo "lab: $*" >&2
	exit 3
}

[ "$(uname -m)" = x86_64 ] || cannot "the guests are amd64, this machine is $(uname -m)"

is() { [ "$(cat "$cache/$1.kind" 2>/dev/null)" = "$kind" ]; }
complete() {
	is root || return 1
	command -v qemu-system-x86_64 >/dev/null 2>&1 || is qemu
}
! complete || exit 0

for tool in apt-get apt-cache dpkg-deb tar; do
	command -v $tool >/dev/null 2>&1 || cannot "Debian packages are needed, and $tool is missing"
done
mkdir -p "$cache"
# One at a time: another run may be about to make the same.
exec 9>"$cache/lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi
! complete || exit 0

# apt is told that nothing is installed, so it brings every dependency; it needs
# no rights for that, since all it writes is in our folder.
fetch() {
	apt-get -qq -y -o Dir::State::status="$cache/debs/status" -o Dir::Cache::archives="$cache/debs" \
		-o Debug::NoLocking=1 -o APT::Sandbox::User="" --no-install-recommends --download-only install "$@" >&2
}

# unpack NAME PACKAGE... makes a folder of packages, with /usr merged as on an
# installed system.
unpack() {
	name=$1
	shift
	rm -rf "$cache/$name.kind" "${cache:?}/$name" "$cache/debs"
	mkdir -p "$cache/debs/partial"
	: >"$cache/debs/status"
	fetch "$@" || { [ "$(id -u)" = 0 ] && apt-get update -qq && fetch "$@"; } || cannot "these packages cannot be had: $*"
	[ "$name" != root ] || (cd "$cache/debs" && apt-get -qq -o APT::Sandbox::User="" download "$image" >&2) || cannot "$image cannot be had"
	for d in bin sbin lib lib64; do
		mkdir -p "$cache/$name/usr/$d"
		ln -s usr/$d "$cache/$name/$d" # dpkg -x would replace these, so tar it is
	done
	for deb in "$cache"/debs/*.deb; do
		case ${deb##*/} in
		# What only the packages' scripts, or nobody, would need.
		perl* | libperl* | python* | libpython* | dpkg_* | debconf_* | adduser_* | initramfs-tools* | coreutils_* | usrmerge_*) continue ;;
		esac
		dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$cache/$name" \
			--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*'
	done
	rm -rf "$cache/debs"
}

if ! command -v qemu-system-x86_64 >/dev/null 2>&1 && ! is qemu; then
	unpack qemu qemu-system-x86
	echo "$kind" >"$cache/qemu.kind"
fi
is root && exit 0

image=$(apt-cache show $kernel 2>/dev/null | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
if [ -z "$image" ]; then
	[ "$(id -u)" = 0 ] && apt-get update -qq || cannot "apt does not know $kernel: run apt-get update"
	image=$(apt-cache show $kernel 2>/dev/null | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
fi
# shellcheck disable=SC2086
unpack root $packages
# modprobe in the guests wants depmod's indices; it is the guests' own depmod
# that makes them.
version=$(basename "$cache"/root/lib/modules/*)
"$cache/root/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$cache/root/lib/x86_64-linux-gnu" \
	"$cache/root/bin/kmod" -b "$cache/root" "$version"
echo "$kind" >"$cache/root.kind"
rm -f "$cache"/base.cpio* "$cache/kind"
