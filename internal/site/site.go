package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/umbra-vss/umbra/internal/array/export/nbd"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/vss"
)

// Options of a site.
type Options struct {
	Binary string    // the umbra program
	Dir    string    // an empty folder for everything; "" makes one
	Log    io.Writer // also gets what the services write; nil for nobody
	// Transport is how hosts reach their LUNs: "" is the array's own choice, which
	// on one machine is loop devices; "nbd" is the network between the namespaces.
	Transport string
	Under     string // the filesystem the array's folder is made on: "" is Dir's own, else a new one of this type
}

// Site is an array and its hosts.
type Site struct {
	Dir    string
	binary string
	log    io.Writer
	own    bool // Dir is ours to remove
	under  string

	transport string

	arrayNS *namespace
	array   *process
	hosts   []*Host

	closeOnce sync.Once
	closeErr  error
}

// Host is one host of a site.
type Host struct {
	Name   string
	site   *Site
	ns     *namespace
	daemon *process
	dir    string
}

// New checks that this machine can hold a site and makes its folder.
func New(o Options) (*Site, error) {
	bad := func(object, reason, remedy string, err error) error {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "build site", Object: object, Reason: reason, Remedy: remedy, Err: err}
	}
	if os.Geteuid() != 0 {
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "build site", Object: "this machine", Reason: "namespaces, mounts and loop devices need root", Remedy: "Run it as root"}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return nil, bad("/dev/loop-control", "this kernel has no loop devices", "Load the loop module, or use a kernel that has it", err)
	}
	s := &Site{Dir: o.Dir, binary: o.Binary, log: o.Log, under: o.Under, transport: o.Transport}
	if s.binary == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		s.binary = exe
	}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("/tmp", "umbra-")
		if err != nil {
			return nil, err
		}
		s.Dir, s.own = dir, true
	}
	return s, nil
}

// ArraySocket is where the array's administrator calls.
func (s *Site) ArraySocket() string { return filepath.Join(s.Dir, "array.sock") }

// ArrayDir is the array's folder.
func (s *Site) ArrayDir() string { return filepath.Join(s.Dir, "array") }

// StartArray builds the array's namespaces on the first call and starts it.
func (s *Site) StartArray(ctx context.Context, env []string, args ...string) (err error) {
	if s.arrayNS == nil {
		if s.arrayNS, err = newNamespace("array"); err != nil {
			return err
		}
		if err := errors.Join(s.arrayNS.up(), s.arrayNS.bridge("10.77.0.1/24")); err != nil {
			return fmt.Errorf("array's network: %w", err)
		}
		if err := os.MkdirAll(s.ArrayDir(), 0o700); err != nil {
			return err
		}
		if err := s.mountUnder(ctx); err != nil {
			return err
		}
	}
	all := append([]string{"array", "serve", "--dir", s.ArrayDir(), "--name", "demo", "--array-socket", s.ArraySocket(),
		"--data-socket", filepath.Join(s.Dir, "data.sock"), "--listen", "tcp://10.77.0.1:7480"}, args...)
	if s.transport == "nbd" {
		all = append(all, "--nbd-portal", "10.77.0.1:10809")
	}
	s.array, err = start(ctx, s.arrayNS, s.log, env, s.binary, all...)
	return err
}

// Use has services that start from now on, and commands, run another program: an
// update of Umbra.
func (s *Site) Use(binary string) { s.binary = binary }

// KillArray is SIGKILL; StopArray ends it in good order.
func (s *Site) KillArray() { s.array.kill() }

// StopArray ends the array in good order.
func (s *Site) StopArray() { s.array.stop() }

// ArrayPID is the array's process.
func (s *Site) ArrayPID() int { return s.array.cmd.Process.Pid }

// ArrayDone is closed when the array has ended.
func (s *Site) ArrayDone() <-chan struct{} { return s.array.done }

// ArrayRunning reports whether the array lives.
func (s *Site) ArrayRunning() bool { return s.array.running() }

// ArrayPath is a path in the array's file tree, openable from here.
func (s *Site) ArrayPath(path string) string { return s.arrayNS.root(path) }

// Array runs an `umbra array …` command as the array's administrator.
func (s *Site) Array(ctx context.Context, args ...string) (string, error) {
	return run(ctx, s.arrayNS, s.binary, append([]string{"array", "--array-socket", s.ArraySocket()}, args...)...)
}

// OnArray runs any program on the array's machine.
func (s *Site) OnArray(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, s.arrayNS, name, args...)
}

// AddHost builds a host's namespaces, starts its daemon and joins it to the
// array.
func (s *Site) AddHost(ctx context.Context, name string) (*Host, error) {
	h := &Host{Name: name, site: s, dir: filepath.Join(s.Dir, name)}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	h.ns = ns
	s.hosts = append(s.hosts, h)
	n := len(s.hosts)
	if err := errors.Join(ns.up(), s.arrayNS.connect(ns, n, fmt.Sprintf("10.77.0.%d/24", n+10))); err != nil {
		return nil, fmt.Errorf("network of %s: %w", name, err)
	}
	if err := h.StartDaemon(ctx, nil); err != nil {
		return nil, err
	}
	bundle := filepath.Join(h.dir, "join.bundle")
	if _, err := s.Array(ctx, "enroll", name, "--bundle", bundle); err != nil {
		return nil, err
	}
	if _, err := h.Umbra(ctx, "join", bundle); err != nil {
		return nil, err
	}
	return h, os.Remove(bundle)
}

// Socket is the host's service socket.
func (h *Host) Socket() string { return filepath.Join(h.dir, "umbra.sock") }

// StateDir is the daemon's state folder.
func (h *Host) StateDir() string { return filepath.Join(h.dir, "state") }

// RunDir is the daemon's run folder.
func (h *Host) RunDir() string { return filepath.Join(h.dir, "run") }

// RulesDir is where the daemon writes its udev rules.
func (h *Host) RulesDir() string { return filepath.Join(h.dir, "rules.d") }

// StartDaemon starts the daemon; env arms failpoints in tests.
func (h *Host) StartDaemon(ctx context.Context, env []string, args ...string) (err error) {
	all := append([]string{"daemon", "--state-dir", h.StateDir(), "--run-dir", h.RunDir(), "--socket", h.Socket(), "--host-name", h.Name, "--udev-rules-dir", h.RulesDir()}, args...)
	if h.site.transport != "" {
		all = append(all, "--transport", h.site.transport)
	}
	h.daemon, err = start(ctx, h.ns, h.site.log, env, h.site.binary, all...)
	return err
}

// StopDaemon ends the daemon in good order.
func (h *Host) StopDaemon() { h.daemon.stop() }

// KillDaemon is SIGKILL.
func (h *Host) KillDaemon() { h.daemon.kill() }

// DaemonPID is the daemon's process.
func (h *Host) DaemonPID() int { return h.daemon.cmd.Process.Pid }

// DaemonDone is closed when the daemon has ended, by whatever cause.
func (h *Host) DaemonDone() <-chan struct{} { return h.daemon.done }

// DaemonLog is what the daemon wrote so far.
func (h *Host) DaemonLog() string { return h.daemon.log.String() }

// Path is a path in the host's file tree, openable from here.
func (h *Host) Path(path string) string { return h.ns.root(path) }

// Umbra runs an umbra command on the host.
func (h *Host) Umbra(ctx context.Context, args ...string) (string, error) {
	return run(ctx, h.ns, h.site.binary, append([]string{"--socket", h.Socket()}, args...)...)
}

// Run runs any program on the host.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, h.ns, name, args...)
}

// CommandError is a command of a site that failed.
type CommandError struct {
	Command string
	Code    int
	Stderr  string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: exit %d\n%s", e.Command, e.Code, strings.TrimSpace(e.Stderr))
}

func run(ctx context.Context, ns *namespace, name string, args ...string) (string, error) {
	cmd := ns.command(ctx, name, args...)
	var out, errb strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	code := -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return out.String(), &CommandError{Command: filepath.Base(name) + " " + strings.Join(args, " "), Code: code, Stderr: orText(errb.String(), err.Error())}
}

func orText(s, other string) string {
	if strings.TrimSpace(s) == "" {
		return other
	}
	return s
}

// Close removes everything the site made: processes, namespaces with their
// mounts, loop devices, files. It may be called at any time and again.
func (s *Site) Close() error {
	s.closeOnce.Do(func() {
		ctx := context.Background()
		for _, h := range s.hosts {
			h.daemon.stop()
			s.closeErr = errors.Join(s.closeErr, h.endData(ctx))
			h.ns.close() // its mounts go with it
		}
		store := s.store()
		for _, h := range s.hosts {
			s.closeErr = errors.Join(s.closeErr, s.detachAll(ctx, block.HostTag(h.Name), store))
		}
		if s.arrayNS != nil {
			s.array.stop()
			s.closeErr = errors.Join(s.closeErr, outlive.EndAll(ctx, nbd.Folder(s.ArrayDir())), s.unmountUnder(ctx))
			s.arrayNS.close()
		}
		s.closeErr = errors.Join(s.closeErr, detachUnder(ctx, s.Dir))
		if s.own {
			s.closeErr = errors.Join(s.closeErr, os.RemoveAll(s.Dir))
		}
	})
	return s.closeErr
}
