package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// template is a machine that was stopped: its memory, which machines begin with a
// copy of (page by page, as they write), the state of its devices, and what its
// disk held. A machine that begins so is up in a second, and has done all that
// this one has. There is one of each role, which has booted and is nobody yet;
// others have more behind them (Scene).
//
// Memory and state are files that have no name: they go with this process,
// however it ends.
type template struct {
	memory, state *os.File
	disks         map[string]string // files of this process's, by the disk's name; none if they are empty

	last    uint32            // the last command's number
	running map[string]uint32 // commands that run, by the name they were started with
	said    map[string]string // what they had printed
}

// path is how QEMU opens it.
func path(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

func newTemplate() (*template, error) {
	t := &template{disks: map[string]string{}, running: map[string]uint32{}, said: map[string]string{}}
	for name, f := range map[string]**os.File{"memory": &t.memory, "state": &t.state} {
		fd, err := unix.MemfdCreate("umbra-lab-"+name, unix.MFD_CLOEXEC)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("memory of a file's kind: %w", err)
		}
		*f = os.NewFile(uintptr(fd), name)
	}
	return t, nil
}

func (t *template) close() {
	_ = t.memory.Close() // nil is an error, and no panic
	_ = t.state.Close()
}

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
		to, terr := newTemplate()
		if terr != nil {
			return nil, terr
		}
		made.templates[role] = to
		results[role] = make(chan error, 1)
		m := &Machine{lab: l, Name: role + "-template", kind: role, becomes: to, processes: map[string]*Process{}}
		go func() { results[role] <- m.bootTemplate(ctx) }()
	}
	for role, r := range results {
		if rerr := <-r; rerr != nil {
			made.templates[role].close()
			delete(made.templates, role)
			err = errors.Join(err, rerr)
		}
	}
	return maps.Clone(made.templates), err
}

// bootTemplate boots, and is stopped when it is up.
func (m *Machine) bootTemplate(ctx context.Context) error {
	if err := m.prepare(); err != nil {
		return err
	}
	up, err := m.boot(ctx, nil)
	if err != nil {
		return err
	}
	defer m.kill(up.gone)
	defer up.cable.Close()
	defer up.monitor.Close()
	defer up.control.close(errors.New("it is a template"))
	if err = up.qemu.do("stop", nil, nil); err == nil {
		err = m.becomes.take(ctx, up.qemu)
	}
	if err != nil {
		return fmt.Errorf("a template for machines: %s: %w", m.Name, err)
	}
	return nil
}

// take takes the state of a machine that was stopped, and whose memory is this
// template's.
func (t *template) take(ctx context.Context, qemu *monitor) error {
	err := qemu.ignoreShared()
	if err == nil {
		err = qemu.do("migrate", map[string]any{"uri": "exec:cat >" + path(t.state)}, nil)
	}
	if err == nil {
		err = qemu.migrated(ctx)
	}
	return err
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

// inherit are the commands that run on a machine which begins with a template.
func (m *Machine) inherit(from *template) (map[string]*Process, error) {
	all := map[string]*Process{}
	for name, id := range from.running {
		f, err := os.OpenFile(filepath.Join(m.lab.logs, m.Name+"-"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		p := &Process{m: m, name: name, id: id, log: &log{file: f}}
		_, _ = io.WriteString(p.log, from.said[name])
		p.r = &running{stdout: p.log, stderr: p.log, done: make(chan struct{})}
		go func() { <-p.r.done; f.Close() }()
		all[name] = p
	}
	return all, nil
}

// copyFile copies what a file holds, and leaves its holes.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyData(out, in), out.Close())
}

func copyData(to, from *os.File) error {
	info, err := from.Stat()
	if err == nil {
		err = to.Truncate(info.Size())
	}
	if err != nil {
		return err
	}
	for at := int64(0); ; {
		begin, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole to the end
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, begin), io.NewSectionReader(from, begin, at-begin)); err != nil {
			return err
		}
	}
}
