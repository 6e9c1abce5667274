#!/bin/sh
# Brings what the lab's virtual machines are made of (test/lab): QEMU onto this
# machine, and a Debian kernel and the hosts' programs, unpacked into a folder
# of their own. Nothing of the kernel or of those programs is installed: the
# packages' scripts never run.
#
# lab-deps.sh [FOLDER]   FOLDER is $UMBRA_LAB_CACHE, or umbra-lab in the user's
# cache. Does nothing when all of it is there. Ends with 3 if it cannot be had
# here, so that a caller may go without.
set -eu

cache=${1:-${UMBRA_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/umbra-lab}}

# What the guests run. Whatever these depend on comes along.
packages="busybox-static dash kmod udev lvm2 dmsetup open-iscsi e2fsprogs xfsprogs
btrfs-progs nvme-cli util-linux mount fdisk sg3-utils sg3-utils-udev iproute2
multipath-tools base-passwd nbd-client"
kernel=linux-image-cloud-amd64

# The kind of the cache: another one is made when these lines change.
kind=$(cat "$0" | cksum | cut -d' ' -f1)

cannot() {
	echo "lab: $*" >&2
	exit 3
}

[ "$(uname -m)" = x86_64 ] || cannot "the guests are amd64, this machine is $(uname -m)"

if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
	command -v apt-get >/dev/null 2>&1 || cannot "qemu-system-x86_64 is missing, and there is no apt-get to install it"
	[ "$(id -u)" = 0 ] || cannot "qemu-system-x86_64 is missing; run as root, or: apt-get install --no-install-recommends qemu-system-x86"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || cannot "apt-get update failed"
	apt-get install -y -qq --no-install-recommends qemu-system-x86 >&2 || cannot "QEMU cannot be installed"
fi

[ "$(cat "$cache/kind" 2>/dev/null)" != "$kind" ] || exit 0

for tool in apt-get apt-cache dpkg-deb tar; do
	command -v $tool >/dev/null 2>&1 || cannot "the guests are made of Debian packages, and $tool is missing"
done
mkdir -p "$cache"
# One at a time: another run may be about to make the same.
exec 9>"$cache/lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi
[ "$(cat "$cache/kind" 2>/dev/null)" != "$kind" ] || exit 0
rm -rf "$cache/kind" "$cache/root" "$cache/debs" "$cache/base.cpio"*
mkdir -p "$cache/debs/partial" "$cache/root/boot"

# apt is told that nothing is installed, so it brings every dependency; it needs
# no rights for that, since all it writes is in our folder.
: >"$cache/debs/status"
fetch() {
	apt-get -qq -y -o Dir::State::status="$cache/debs/status" -o Dir::Cache::archives="$cache/debs" \
		-o Debug::NoLocking=1 -o APT::Sandbox::User="" --no-install-recommends --download-only "$@" >&2
}
real=$(apt-cache show $kernel 2>/dev/null | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
if [ -z "$real" ]; then
	[ "$(id -u)" = 0 ] && apt-get update -qq || cannot "apt does not know $kernel: run apt-get update"
	real=$(apt-cache show $kernel 2>/dev/null | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
fi
# shellcheck disable=SC2086
fetch install $packages || { [ "$(id -u)" = 0 ] && apt-get update -qq && fetch install $packages; } ||
	cannot "the guests' packages cannot be had"
(cd "$cache/debs" && apt-get -qq -o APT::Sandbox::User="" download "$real" >&2) || cannot "$real cannot be had"

# Merged /usr, as on an installed system: dpkg -x would replace the links.
for d in bin sbin lib lib64; do
	mkdir -p "$cache/root/usr/$d"
	ln -s usr/$d "$cache/root/$d"
done
for deb in "$cache"/debs/*.deb; do
	case ${deb##*/} in
	# What only the packages' scripts, or nobody, would need.
	perl* | libperl* | python* | libpython* | libicu* | dpkg_* | debconf_* | adduser_* | initramfs-tools* | coreutils_* | usrmerge_*) continue ;;
	esac
	dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$cache/root" \
		--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*'
done
rm -rf "$cache/debs"

# modprobe in the guests wants depmod's indices; it is the guests' own depmod
# that makes them.
version=$(basename "$cache"/root/lib/modules/*)
"$cache/root/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$cache/root/lib/x86_64-linux-gnu" \
	"$cache/root/bin/kmod" -b "$cache/root" "$version"
echo "$kind" >"$cache/kind"
