package nbd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// said is what nbdfuse and nbdkit wrote.
func (i *Initiator) said(n lun.NAA) string {
	b, _ := os.ReadFile(filepath.Join(i.folder(n), logName))
	return strings.TrimSpace(string(b))
}

// firstLine is where the trouble begins; what follows comes of it.
func firstLine(said string) string {
	first, _, _ := strings.Cut(said, "\n")
	return first
}

// wrongKey: TLS could not be agreed on.
func wrongKey(said string) bool { return strings.Contains(said, "gnutls") }

// refusal reports whether nbdkit's words mean that asking again is of no use.
func refusal(said string) bool {
	return wrongKey(said) || strings.Contains(said, "server has no export named 'naa.")
}

func (i *Initiator) refused(l Exported, said string) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: l.NAA.String(), Reason: "nbdkit could not connect: " + firstLine(said), Remedy: "See the array's log"}
	if wrongKey(said) {
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the array's server and this host have different keys"
		e.Remedy = "Run `umbra array enroll` for this host on the array and `umbra join` here; if that changes nothing, another program has the array's port"
	}
	return e
}

// stop ends what shows a LUN as a file, and removes its folder. What still uses
// the file gets errors. It is idempotent.
func (i *Initiator) stop(ctx context.Context, n lun.NAA) error {
	dir := i.folder(n)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	p := outlive.Kept(dir)
	// With the mount nbdfuse ends by itself; busy, it is killed, which ends the
	// mount.
	err := filesystem.TakeDown(ctx, i.file(n), 0)
	if err == nil {
		deadline := time.Now().Add(2 * time.Second)
		for pause := time.Millisecond; p.Alive() && time.Now().Before(deadline) && ctx.Err() == nil; pause = min(2*pause, 20*time.Millisecond) {
			time.Sleep(pause)
		}
	}
	if err := p.End(ctx, 0); err != nil {
		return i.failed(n, "its processes do not end", "End them", err)
	}
	for range 4 { // an attach that broke off may have mounted twice
		if filesystem.TakeDown(ctx, i.file(n), unix.MNT_DETACH) != nil {
			break
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return i.failed(n, "its folder cannot be removed", "Unmount what is in "+dir, err)
	}
	outlive.Leave(cgroup)
	return fpAfterStop.Hit(ctx)
}
