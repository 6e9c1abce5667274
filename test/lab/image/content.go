package image

// What a machine has. Names are those of an installed system; the lists are
// part of what the base's digest is made of.

// programs come with the libraries that they are linked to. A link comes with
// what it points to.
var programs = []string{
	"usr/bin/dash", "usr/bin/busybox", "usr/bin/kmod", "usr/sbin/modprobe", "usr/sbin/insmod", "usr/sbin/rmmod", "usr/sbin/lsmod", "usr/sbin/modinfo",
	"usr/bin/udevadm", "usr/lib/systemd/systemd-udevd",
	"usr/bin/mount", "usr/bin/umount", "usr/bin/findmnt", "usr/bin/lsblk", "usr/bin/nsenter", "usr/bin/unshare", "usr/bin/flock", "usr/bin/setpriv",
	"usr/sbin/losetup", "usr/sbin/blkid", "usr/sbin/fsfreeze", "usr/sbin/blockdev", "usr/sbin/wipefs", "usr/sbin/sfdisk", "usr/sbin/blkdiscard", "usr/sbin/fstrim",
	"usr/sbin/dmsetup", "usr/sbin/lvm", "usr/sbin/vgs", "usr/sbin/lvs", "usr/sbin/pvs", "usr/sbin/pvcreate", "usr/sbin/vgcreate", "usr/sbin/lvcreate", "usr/sbin/vgchange", "usr/sbin/lvchange", "usr/sbin/lvremove", "usr/sbin/lvextend", "usr/sbin/vgremove", "usr/sbin/pvscan", "usr/sbin/vgimportclone",
	"usr/sbin/iscsid", "usr/sbin/iscsiadm",
	"usr/sbin/mkfs.ext4", "usr/sbin/mke2fs", "usr/sbin/e2fsck", "usr/sbin/fsck.ext4", "usr/sbin/dumpe2fs", "usr/sbin/tune2fs", "usr/sbin/debugfs",
	"usr/sbin/mkfs.xfs", "usr/sbin/xfs_repair", "usr/sbin/xfs_io", "usr/sbin/xfs_db",
	"usr/bin/mkfs.btrfs", "usr/sbin/mkfs.btrfs", "usr/bin/btrfs",
	"usr/sbin/nvme", "usr/sbin/multipath", "usr/sbin/multipathd", "usr/sbin/kpartx", "usr/sbin/nbd-client",
	"usr/sbin/exportfs", "usr/sbin/rpc.nfsd", "usr/sbin/rpc.mountd", "usr/sbin/mount.nfs", "usr/sbin/mount.nfs4", "usr/sbin/umount.nfs", "usr/sbin/umount.nfs4",
	"usr/lib/systemd/systemd-journald", "usr/bin/journalctl",
	"usr/lib/systemd/systemd", "usr/lib/systemd/systemd-shutdown", "usr/lib/systemd/system-generators/systemd-fstab-generator", "usr/bin/systemctl", "usr/bin/systemd-sysusers", "usr/bin/systemd-analyze",
	"usr/bin/sg_inq", "usr/bin/sg_vpd", "usr/bin/sg_luns", "usr/bin/ip",
}

// trees are folders taken whole. The programs among them bring their libraries.
var trees = []string{
	"usr/lib/udev", "usr/lib/multipath", "usr/lib/modprobe.d", "usr/share/mke2fs", "etc/lvm", "etc/nvme", "etc/iscsi", "etc/udev", "etc/mke2fs.conf", "etc/netconfig", "var/lib/nfs", "usr/lib/open-iscsi",
}

// unneeded is left out of the trees.
var unneeded = []string{"usr/lib/udev/hwdb.d", "usr/lib/udev/rules.d/60-nfs.rules", "usr/lib/udev/rules.d/99-nfs.rules"} // NFS: a program for each device, and most hosts have none of it

// units are those of Debian's that a machine with systemd has: what brings it up
// and down, and what the scenarios need. (All of them would take a minute.)
var units = []string{
	"basic.target", "sysinit.target", "local-fs.target", "local-fs-pre.target", "remote-fs.target", "remote-fs-pre.target", "swap.target", "slices.target", "sockets.target", "timers.target", "paths.target",
	"network.target", "network-pre.target", "network-online.target", "multi-user.target", "shutdown.target", "reboot.target", "poweroff.target", "umount.target", "final.target",
	"systemd-reboot.service", "systemd-poweroff.service", "systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
	"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"iscsid.service", "iscsid.socket", "open-iscsi.service",
}

// enabled are links that Debian makes when the packages are installed.
var enabled = map[string]string{
	"etc/systemd/system/sockets.target.wants/iscsid.socket":      "/lib/systemd/system/iscsid.socket",
	"etc/systemd/system/sysinit.target.wants/open-iscsi.service": "/lib/systemd/system/open-iscsi.service",
}

// libraries are opened by name, when a program needs them.
var libraries = []string{"libgcc_s.so.1"}

// modules are in the machine, by folder or file of the kernel's tree, with what
// they depend on. The kernel finds ciphers and filesystems among them by itself,
// through modprobe.
var modules = []string{
	"arch/x86/crypto", "crypto", "lib", "drivers/block", "drivers/md", "drivers/nvme", "drivers/scsi", "drivers/target", "drivers/virtio", "drivers/char",
	"drivers/net/virtio_net.ko", "drivers/net/veth.ko", "fs/btrfs", "fs/configfs", "fs/fuse", "fs/nfs", "fs/nfsd", "fs/overlayfs", "fs/xfs",
}

// loaded are the modules that a machine of a role starts with.
var loaded = map[string][]string{
	"array": {"virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "loop", "configfs", "dm_mod", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod"},
	"host":  {"virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "loop", "configfs", "dm_mod", "sd_mod", "sg", "iscsi_tcp"},
}

// files are written by the lab.
var files = map[string]string{
	"etc/machine-id": "0123456789abcdef0123456789abcdef\n", // without one, systemd enables whatever there is
	// What a machine with systemd boots into before it is somebody; what is enabled
	// starts after that (guest/become.go).
	"usr/lib/systemd/system/lab.target": `[Unit]
Description=Nobody's machine
Requires=basic.target
Wants=lab-agent.service
After=basic.target lab-agent.service
AllowIsolate=yes
`,
	"usr/lib/systemd/system/lab-agent.service": `[Unit]
Description=The lab's hand
[Service]
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
ExecStartPre=/bin/udevadm trigger --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=virtio-ports
ExecStartPre=/bin/udevadm settle --timeout=20
ExecStart=/init agent
StandardError=append:/dev/console
OOMScoreAdjust=-1000
TimeoutStopSec=5s
`,
	"etc/exports": "", // exportfs wants one
	"etc/hosts":   "127.0.0.1 localhost\n",
	"etc/nsswitch.conf": `passwd: files
group: files
hosts: files
services: files
protocols: files
`,
	// As an administrator would set it up for a SAN: nothing is logged into or
	// scanned unasked.
	"etc/iscsi/iscsid.conf": `node.startup = manual
node.leading_login = No
node.session.scan = manual
node.session.timeo.replacement_timeout = 20
node.conn[0].timeo.login_timeout = 10
node.conn[0].timeo.logout_timeout = 10
node.conn[0].timeo.noop_out_interval = 5
node.conn[0].timeo.noop_out_timeout = 5
node.session.err_timeo.abort_timeout = 10
node.session.err_timeo.lu_reset_timeout = 20
node.session.initial_login_retry_max = 2
`,
}
