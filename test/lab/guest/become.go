package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/test/lab/wire"
)

// become makes this machine the one that it is to be. It may have begun with
// another's memory, whose clock has stood, and which others began with too: what
// is random must not be the same on all of them, and neither the boot's ID,
// which tells a boot from the last one.
func become(m wire.Machine) error {
	now := unix.NsecToTimeval(m.Time.UnixNano())
	if err := unix.Settimeofday(&now); err != nil {
		return fmt.Errorf("the time: %w", err)
	}
	if err := reseed(m.Seed); err != nil {
		return fmt.Errorf("what is random: %w", err)
	}
	if m.Already {
		return nil
	}
	if err := os.WriteFile("/run/boot_id", []byte(m.BootID+"\n"), 0o444); err != nil {
		return err
	}
	if err := unix.Mount("/run/boot_id", "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("the boot's ID: %w", err)
	}
	if systemd() {
		if err := ownState(); err != nil {
			return fmt.Errorf("what outlives its power: %w", err)
		}
	}
	if err := errors.Join(unix.Sethostname([]byte(m.Name)), os.WriteFile("/etc/hosts", []byte(m.Hosts), 0o644), network(m),
		os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName=iqn.2026-01.io.umbra:"+m.Name+"\n"), 0o600)); err != nil {
		return err
	}
	role, err := role()
	if err == nil && role == "array" {
		err = lookAgain("/dev/vda")
	}
	switch {
	case err != nil:
		return err
	case systemd(): // what is enabled on this machine
		return errors.Join(do("systemctl", "daemon-reload"), do("systemctl", "start", "multi-user.target"))
	case role == "host":
		return do("iscsid")
	}
	return nil
}

// ownState puts what this machine wrote to /etc and /var over what all have there.
func ownState() error {
	disk, err := stateDisk()
	if err == nil {
		err = lookAgain(disk)
	}
	if err != nil {
		return err
	}
	if do("blkid", disk) != nil { // new
		if err := do("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", disk); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll("/lab/state", 0o755), unix.Mount(disk, "/lab/state", "ext4", 0, "")); err != nil {
		return err
	}
	for _, d := range []string{"etc", "var"} {
		upper, work := "/lab/state/"+d, "/lab/state/"+d+".work"
		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755), do("modprobe", "overlay"),
			unix.Mount("overlay", "/"+d, "overlay", 0, "lowerdir=/"+d+",upperdir="+upper+",workdir="+work)); err != nil {
			return fmt.Errorf("/%s: %w", d, err)
		}
	}
	return nil
}

func stateDisk() (string, error) {
	all, _ := filepath.Glob("/sys/block/vd*/serial")
	for _, s := range all {
		if b, err := os.ReadFile(s); err == nil && string(bytes.TrimSpace(b)) == "state" {
			return "/dev/" + filepath.Base(filepath.Dir(s)), nil
		}
	}
	return "", errors.New("it has no disk for it")
}

func reseed(seed []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(seed); err != nil {
		return err
	}
	const reseed = 0x5207 // RNDRESEEDCRNG: what was mixed in counts now, not in a minute
	return unix.IoctlSetInt(int(f.Fd()), reseed, 0)
}

// lookAgain forgets what was read of a disk, which is another machine's now.
func lookAgain(disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
}

// network brings up loopback, and the one card with this machine's addresses.
func network(m wire.Machine) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name != "lo" {
			mac, err := net.ParseMAC(m.Hardware)
			if err == nil {
				err = netlink.LinkSetHardwareAddr(l, mac)
			}
			if err != nil {
				return fmt.Errorf("network: %s: %w", m.Hardware, err)
			}
			addr, err := netlink.ParseAddr(m.Address)
			if err == nil {
				err = netlink.AddrAdd(l, addr)
			}
			if err != nil {
				return fmt.Errorf("network: %s: %w", m.Address, err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("network: %s: %w", l.Attrs().Name, err)
		}
	}
	if len(links) < 2 {
		return errors.New("network: no card")
	}
	return nil
}
