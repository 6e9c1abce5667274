#!/bin/sh
# Tells umbra's story: with this machine's own loop devices as root, else on
# virtual machines (test/lab/demo), with no rights. demo.sh [lab]: on these.
set -eu
cd "$(dirname "$0")/.."

# native says why this machine's own devices will not do.
native() {
	[ "$(id -u)" = 0 ] || { echo "you are not root"; return 1; }
	[ -c /dev/loop-control ] || { echo "there are no loop devices"; return 1; }
	unshare --mount true 2>/dev/null || { echo "root may not mount here"; return 1; }
	for fs in ext4 xfs; do
		grep -qw $fs /proc/filesystems || modprobe -q $fs 2>/dev/null || { echo "the kernel has no $fs"; return 1; }
	done
}

if [ "${1:-}" = lab ]; then
	why="that was asked for"
elif why=$(native); then
	./build/deps.sh
	exec ./bin/umbra demo
fi
echo "On virtual machines, because $why. They are emulated: times mean nothing."
./build/lab-deps.sh
export UMBRA_BINARY="${UMBRA_BINARY:-$PWD/bin/umbra}"
exec go run ./test/lab/demo
