package share

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/vss"
)

// Types of servers.
const (
	TypeSamba = "samba"
	TypeNFS   = "nfs"
)

// Share is one shared subtree of a copy.
type Share struct {
	Type   string // of its server, which need not be the configured one any more
	Name   string
	Copy   vss.ID
	Root   string       // the copy's device object
	Path   string       // of the subtree, from there; see CleanPath
	Device block.Device // what must be mounted at Root
}

// Shares is this machine's shares of shadow copies.
type Shares struct {
	Dir     string // where subtrees are mounted, a folder of its own
	Default string // the type of new shares; "" if none may be made
	Servers map[string]Server
}

// Type is the type of new shares. VSS_E_NOT_SUPPORTED if there is none.
func (s *Shares) Type() (string, error) {
	if s.Default == "" {
		return "", &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: exposeOp, Object: "share", Reason: "no file server is configured",
			Remedy: `Set type in [share] to "samba" or "nfs" and start the daemon again, or expose locally`}
	}
	return s.Default, nil
}

func (s *Shares) target(name string) string { return filepath.Join(s.Dir, name) }

func (s *Shares) server(typ string) (Server, error) {
	if v := s.Servers[typ]; v != nil {
		return v, nil
	}
	return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: exposeOp, Object: "share type " + typ, Reason: "there is no such server", Remedy: `Use "samba" or "nfs"`}
}

// Free reports whether a new share may have the name.
func (s *Shares) Free(ctx context.Context, sh Share) error {
	v, err := s.server(sh.Type)
	if err != nil {
		return err
	}
	return v.Free(ctx, sh.Name, s.target(sh.Name))
}

// Mount mounts the subtree where it is shared. E_INVALIDARG if there is no such
// folder on the copy. What is mounted there already stays: only Umbra mounts
// there, and it unmounted what is not on record.
func (s *Shares) Mount(ctx context.Context, sh Share) error {
	target := s.target(sh.Name)
	// Who connects must be able to walk through, and has no business to look
	// around.
	if err := errors.Join(os.MkdirAll(s.Dir, 0o711), os.MkdirAll(target, 0o755)); err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: exposeOp, Object: target, Reason: "the folder of the share cannot be made", Remedy: "Check the daemon's --run-dir", Err: err}
	}
	err := filesystem.MountSubtree(ctx, filesystem.Subtree{Root: sh.Root, Path: sh.Path, Target: target, Device: sh.Device})
	if err != nil {
		_ = os.Remove(target) // if empty
	}
	return err
}

// Publish makes the mounted subtree known to its server.
func (s *Shares) Publish(ctx context.Context, sh Share) error {
	v, err := s.server(sh.Type)
	if err != nil {
		return err
	}
	return v.Publish(ctx, sh.Name, s.target(sh.Name), sh.Copy)
}

// Withdraw takes it away from the server.
func (s *Shares) Withdraw(ctx context.Context, sh Share) error {
	v, err := s.server(sh.Type)
	if err != nil {
		return err
	}
	return v.Withdraw(ctx, sh.Name, s.target(sh.Name))
}

// How long clients that were sent away may take to go.
const (
	goingTime  = 3 * time.Second
	goingPause = 50 * time.Millisecond
)

// Unmount unmounts a subtree that was withdrawn. VSS_E_VOLUME_IN_USE if
// somebody stays in it.
func (s *Shares) Unmount(ctx context.Context, sh Share) error {
	target := s.target(sh.Name)
	for end := time.Now().Add(goingTime); ; {
		err := filesystem.Unmount(ctx, target, sh.Device)
		if err == nil {
			break
		}
		if vss.CodeOf(err) != vss.VSS_E_VOLUME_IN_USE || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(goingPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.remove(target)
}

// UnmountLazily is Unmount although somebody stays in it.
func (s *Shares) UnmountLazily(ctx context.Context, sh Share) error {
	target := s.target(sh.Name)
	if err := filesystem.UnmountLazily(ctx, target, sh.Device); err != nil {
		return err
	}
	return s.remove(target)
}

func (s *Shares) remove(target string) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "UnexposeSnapshot", Object: target, Reason: "the folder of the share cannot be removed", Remedy: "See what is in it", Err: err}
	}
	return nil
}

// Sweep removes every share below Dir but those to keep, by name, and returns
// what it removed: their copies are not on this machine any more, or not yet
// again.
func (s *Shares) Sweep(ctx context.Context, keep map[string]bool) (removed []string, errs error) {
	gone := map[string]bool{}
	if _, err := os.Lstat(s.Dir); s.Default == "" && errors.Is(err, os.ErrNotExist) {
		return nil, nil // a machine that shares nothing; its servers are not disturbed
	}
	for _, v := range s.Servers {
		all, err := v.List(ctx)
		if isAbsent(err) {
			continue
		}
		errs = errors.Join(errs, err)
		for _, e := range all {
			name, ours := strings.CutPrefix(e.Path, s.Dir+"/")
			if !ours || keep[name] {
				continue
			}
			if err := v.Withdraw(ctx, e.Name, e.Path); err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			gone[name] = true
		}
	}
	folders, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = errors.Join(errs, err)
	}
	for _, f := range folders {
		if keep[f.Name()] {
			continue
		}
		target := s.target(f.Name())
		if err := filesystem.TakeDown(ctx, target, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = errors.Join(errs, &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "recover share", Object: target, Reason: "it cannot be unmounted", Remedy: "Unmount it by hand", Err: err})
			continue
		}
		if err := s.remove(target); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		gone[f.Name()] = true
	}
	for name := range gone {
		removed = append(removed, name)
	}
	return removed, errs
}
