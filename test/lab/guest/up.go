package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bringUp does what Debian's own start does as far as the scenarios need it, in
// that order, and returns what did not work. The lab decides what that means.
// The machine is nobody yet, and not on the network.
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
	role, err := role()
	try(err)
	try(loadModules("/lab/modules." + role))
	if _, err := os.Stat("/sys/kernel/config"); err == nil {
		try(mount("configfs", "/sys/kernel/config"))
	}
	if role == "host" && !systemd() {
		try(do("/lib/systemd/systemd-udevd", "--daemon"))
		try(do("udevadm", "trigger", "--action=add", "--subsystem-match=block", "--subsystem-match=net", "--subsystem-match=virtio-ports"))
		try(do("udevadm", "settle", "--timeout=20"))
	}
	return trouble
}

// systemd reports whether this machine is to have systemd for its first process.
func systemd() bool {
	b, _ := os.ReadFile("/proc/cmdline")
	return strings.Contains(string(b), "lab.first=systemd")
}

// handOver makes this process systemd, which starts the agent as a service.
func handOver(trouble []string) error {
	if err := os.WriteFile(troubleFile, []byte(strings.Join(trouble, "\n")), 0o600); err != nil {
		return err
	}
	return unix.Exec("/lib/systemd/systemd", []string{"/lib/systemd/systemd"}, nil)
}

// troubleFile tells the agent what did not work.
const troubleFile = "/run/lab-trouble"

// role is what the kernel's command line says of this machine.
func role() (string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	for _, w := range strings.Fields(string(b)) {
		if role, ok := strings.CutPrefix(w, "lab.role="); ok {
			return role, nil
		}
	}
	return "host", err
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
