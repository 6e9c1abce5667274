package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// machine is what the kernel's command line says of this one.
type machine struct{ name, role, address string }

// bringUp does what Debian's own start does as far as the scenarios need it, in
// that order, and returns what did not work. The lab decides what that means.
func bringUp() (trouble []string) {
	try := func(err error) {
		if err != nil {
			trouble = append(trouble, err.Error())
			say("%v", err)
		}
	}
	os.Clearenv()
	for _, e := range environment() {
		k, v, _ := strings.Cut(e, "=")
		os.Setenv(k, v)
	}
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		try(mount(m[0], m[1]))
	}
	for link, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		try(os.Symlink(to, link))
	}
	for _, dir := range []string{"/run/lock/iscsi", "/run/lvm", "/run/lock/lvm", "/var/lib/iscsi"} {
		try(os.MkdirAll(dir, 0o755))
	}
	m, err := self()
	try(err)
	try(unix.Sethostname([]byte(m.name)))
	try(loadModules("/lab/modules." + m.role))
	if _, err := os.Stat("/sys/kernel/config"); err == nil {
		try(mount("configfs", "/sys/kernel/config"))
	}
	try(network(m))
	try(os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName=iqn.2026-01.io.umbra:"+m.name+"\n"), 0o600))
	if m.role == "host" {
		try(do("/lib/systemd/systemd-udevd", "--daemon"))
		try(do("udevadm", "trigger", "--action=add", "--subsystem-match=block", "--subsystem-match=net", "--subsystem-match=virtio-ports"))
		try(do("udevadm", "settle", "--timeout=20"))
		try(do("iscsid"))
	}
	return trouble
}

func self() (machine, error) {
	b, err := os.ReadFile("/proc/cmdline")
	m := machine{name: "nameless", role: "host"}
	for _, w := range strings.Fields(string(b)) {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "lab.name":
			m.name = v
		case "lab.role":
			m.role = v
		case "lab.address":
			m.address = v
		}
	}
	return m, err
}

func mount(kind, at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, at, kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// loadModules loads what a list names, one file a line, each after those that
// it needs.
func loadModules(list string) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	var errs []error
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m, err := os.Open(lines.Text())
		if err == nil {
			err = unix.FinitModule(int(m.Fd()), "", 0)
			m.Close()
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("module %s: %w", filepath.Base(lines.Text()), err))
		}
	}
	return errors.Join(errs...)
}

// network brings up loopback, and the one card with this machine's address.
func network(m machine) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name != "lo" {
			addr, err := netlink.ParseAddr(m.address)
			if err == nil {
				err = netlink.AddrAdd(l, addr)
			}
			if err != nil {
				return fmt.Errorf("network: %s: %w", m.address, err)
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
