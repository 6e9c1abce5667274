package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// template is a machine that has booted and is nobody yet: its memory, which
// machines begin with a copy of (page by page, as they write), and the state of
// its devices. A machine that begins so is up in a second, and has done all that
// one does that boots.
//
// Both are files that have no name: they go with this process, however it ends.
type template struct{ memory, state *os.File }

// path is how QEMU opens it.
func path(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// templates makes those of some roles that are not there yet.
func templates(ctx context.Context, t T, roles map[string]bool) (map[string]*template, error) {
	made.Lock()
	defer made.Unlock()
	if made.templates == nil {
		made.templates = map[string]*template{}
	}
	l := &Lab{t: t, logs: artifacts(t), image: made.image, hub: newHub(), machines: map[string]*Machine{}}
	defer l.hub.close()
	var err error
	if l.dir, err = os.MkdirTemp("", "umbra-lab-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(l.dir)
	results := map[string]chan error{}
	for role := range roles {
		if made.templates[role] != nil {
			continue
		}
		made.templates[role] = &template{}
		results[role] = make(chan error, 1)
		m := &Machine{lab: l, Name: role + "-template", kind: role}
		go func() { results[role] <- m.becomeTemplate(ctx, made.templates[role]) }()
	}
	for role, r := range results {
		if rerr := <-r; rerr != nil {
			delete(made.templates, role)
			err = errors.Join(err, rerr)
		}
	}
	return made.templates, err
}

// becomeTemplate boots, and is stopped when it is up.
func (m *Machine) becomeTemplate(ctx context.Context, to *template) error {
	for name, f := range map[string]**os.File{"memory": &to.memory, "state": &to.state} {
		fd, err := unix.MemfdCreate("umbra-lab-"+name, unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("memory of a file's kind: %w", err)
		}
		*f = os.NewFile(uintptr(fd), name)
	}
	if err := m.prepare(); err != nil {
		return err
	}
	m.template = to
	up, err := m.boot(ctx)
	if err != nil {
		return err
	}
	defer m.kill(up.gone)
	defer up.cable.Close()
	defer up.monitor.Close()
	defer up.control.close(errors.New("it is a template"))
	qemu, err := monitorOf(up.monitor)
	if err == nil {
		err = qemu.ignoreShared()
	}
	if err == nil {
		err = qemu.do("stop", nil, nil)
	}
	if err == nil {
		err = qemu.do("migrate", map[string]any{"uri": "exec:cat >" + path(to.state)}, nil)
	}
	if err == nil {
		err = qemu.migrated(ctx)
	}
	if err != nil {
		return fmt.Errorf("a template for machines: %s: %w", m.Name, err)
	}
	return nil
}

// awake lets a machine's QEMU take a template's state, and go on from there.
func awake(ctx context.Context, qemu *monitor, from *template) error {
	err := qemu.ignoreShared()
	if err == nil {
		err = qemu.do("migrate-incoming", map[string]any{"uri": "exec:cat <" + path(from.state)}, nil)
	}
	if err == nil {
		err = qemu.migrated(ctx)
	}
	if err == nil {
		err = qemu.do("cont", nil, nil)
	}
	return err
}
