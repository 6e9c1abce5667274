package freeze

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// RecoveryAction is what RecoverIntents did about one filesystem.
type RecoveryAction string

// Recovery actions.
const (
	RecoveryThawed     RecoveryAction = "thawed"           // it was frozen
	RecoveryRemounted  RecoveryAction = "thawed-remounted" // it was frozen and mounted nowhere here
	RecoveryNotFrozen  RecoveryAction = "not-frozen"
	RecoveryOtherBoot  RecoveryAction = "other-boot" // the machine was booted since
	RecoveryDeviceGone RecoveryAction = "device-gone"
	RecoveryFailed     RecoveryAction = "failed" // the intent is kept; see Err
)

// Recovered is one filesystem of one intent.
type Recovered struct {
	SetID  string
	Name   string
	Path   string
	Action RecoveryAction
	Err    error
}

// maxIntentSize: an intent is small; anything larger is not one.
const maxIntentSize = 1 << 20

// RecoverIntents thaws every filesystem named by an intent in dir and removes
// the intent. It is for the daemon's start and for its unit's ExecStopPost,
// when no guard of that daemon holds any more. Calling it again is harmless.
//
// A filesystem is found by the device of its superblock in this process's
// mount table; where it is mounted nowhere (its mount namespace died, or it
// was unmounted lazily) its device is mounted privately for the moment. A
// device whose disk sequence number is another now is left alone. A freeze that
// somebody else made meanwhile on the same filesystem is thawed with ours: the
// kernel does not say whose it is.
//
// Nothing is logged or removed before the last thaw, since log and folder may
// lie on something frozen. The error joins what failed and is
// VSS_E_HOLD_WRITES_TIMEOUT when ctx ended first; those intents remain.
func RecoverIntents(ctx context.Context, dir string, log *slog.Logger) ([]Recovered, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	paths, err := filepath.Glob(filepath.Join(dir, intentPrefix+"*"+intentSuffix))
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: opRecover, Object: dir, Reason: "the folder cannot be searched",
			Remedy: "Use a folder name without pattern characters", Err: err}
	}
	var all []Recovered
	var errs []error
	done := make([]string, 0, len(paths))
	for i, found := range recoverFiles(ctx, paths) {
		failed := false
		for _, r := range found {
			if r.Err != nil {
				failed = true
				errs = append(errs, r.Err)
			}
			all = append(all, r)
		}
		if !failed {
			done = append(done, paths[i])
		}
	}
	for _, r := range all {
		level := slog.LevelInfo
		if r.Action == RecoveryThawed || r.Action == RecoveryRemounted || r.Err != nil {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "hold intent recovered", "set", r.SetID, "filesystem", r.Name, "path", r.Path, "action", string(r.Action), "error", r.Err)
	}
	for _, path := range done {
		if err := removeDurably(path); err != nil {
			errs = append(errs, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: opRecover, Object: path, Reason: "the intent cannot be removed",
				Remedy: "Check the permissions of " + dir, Err: err})
		}
	}
	if parent := cgroupParent(); parent != "" {
		sweepCgroups(parent) // of the guard that died
	}
	return all, errors.Join(errs...)
}

const opRecover = "thaw after a crash"

// recoverFiles handles all filesystems of all intents at once: one that blocks
// on another must not keep that one from being thawed.
func recoverFiles(ctx context.Context, paths []string) [][]Recovered {
	results := make([][]Recovered, len(paths))
	boot := BootID()
	var wg sync.WaitGroup
	for i, path := range paths {
		h, err := readIntent(path)
		if err != nil {
			results[i] = []Recovered{{Path: path, Action: RecoveryFailed, Err: &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: opRecover,
				Object: path, Reason: "the intent cannot be read", Remedy: "Thaw what is frozen with `fsfreeze -u`, then delete the file", Err: err}}}
			continue
		}
		if h.Expedites && h.BootID == boot {
			unexpedite()
		}
		results[i] = make([]Recovered, len(h.Filesystems))
		for j, held := range h.Filesystems {
			r := Recovered{SetID: h.SetID, Name: held.Name, Path: held.Path}
			if boot != "" && h.BootID != "" && h.BootID != boot {
				r.Action = RecoveryOtherBoot
				results[i][j] = r
				continue
			}
			wg.Go(func() {
				r.Action, r.Err = recoverWithin(ctx, held)
				results[i][j] = r
			})
		}
	}
	wg.Wait()
	return results
}

func readIntent(path string) (HoldIntent, error) {
	var h HoldIntent
	info, err := os.Stat(path)
	if err != nil {
		return h, err
	}
	if info.Size() > maxIntentSize {
		return h, errors.New("it is too large")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// recoverWithin leaves a thaw that blocks to itself when ctx ends.
func recoverWithin(ctx context.Context, held HeldFilesystem) (RecoveryAction, error) {
	type outcome struct {
		action RecoveryAction
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		action, err := recoverOne(held)
		done <- outcome{action, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return RecoveryFailed, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: opRecover, Object: held.Name, Reason: "it cannot be thawed",
				Remedy: "Run `fsfreeze -u` on a mount of " + held.Source, Err: o.err}
		}
		return o.action, nil
	case <-ctx.Done():
		return RecoveryFailed, &vss.Error{Code: vss.VSS_E_HOLD_WRITES_TIMEOUT, Op: opRecover, Object: held.Name, Reason: "it was not thawed in time",
			Remedy: "Run `umbra thaw-intents` again", Err: context.Cause(ctx)}
	}
}

func recoverOne(held HeldFilesystem) (RecoveryAction, error) {
	for _, d := range held.Devices {
		n := DeviceNumber{d.Major, d.Minor}
		if _, err := os.Stat("/sys/dev/block/" + n.String()); err != nil {
			return RecoveryDeviceGone, nil
		}
		if now := diskSeq(n); d.DiskSeq != 0 && now != d.DiskSeq {
			return RecoveryDeviceGone, nil
		}
	}
	errs, tried := []error{}, false
	mounts, err := mountsOf(held)
	if err != nil {
		errs = append(errs, err)
	}
	for _, m := range mounts {
		fd, err := openMount(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Mountpoint, err)) // mounted over, perhaps
			continue
		}
		tried = true
		errno := thawFD(fd)
		_ = unix.Close(fd)
		switch errno {
		case 0:
			return RecoveryThawed, nil
		case unix.EINVAL:
			return RecoveryNotFrozen, nil
		default:
			errs = append(errs, fmt.Errorf("%s: %w", m.Mountpoint, errno))
		}
	}
	if tried {
		return RecoveryFailed, errors.Join(errs...)
	}
	action, err := thawUnmounted(held)
	if err != nil {
		return RecoveryFailed, errors.Join(append(errs, err)...)
	}
	return action, nil
}

// mountsOf finds the filesystem's mounts in this mount namespace. The number
// alone is not enough where it is anonymous, as on btrfs: it is given out
// again.
func mountsOf(held HeldFilesystem) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		super := DeviceNumber{uint32(m.Major), uint32(m.Minor)}.String()
		return super != held.Super || m.FSType != held.FSType, false
	})
}

// openMount opens a mount point and makes sure it is that mount, and not what
// is mounted over it.
func openMount(m *mountinfo.Info) (int, error) {
	// The mount table may say that it was unlinked.
	path := strings.TrimSuffix(m.Mountpoint, "//deleted")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	id, err := mountID(fd, 0)
	if err == nil && id != uint64(m.ID) {
		err = errors.New("another mount lies over it")
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
