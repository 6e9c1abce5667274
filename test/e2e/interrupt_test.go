package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/vss"
)

// interrupted runs a command, sends it SIGINT when the file appears, and
// returns how it ended.
func (f *fixture) interrupted(h *site.Host, when string, args ...string) error {
	f.Helper()
	_ = os.Remove(when)
	full := append([]string{"--mount", "--net", "--target", strconv.Itoa(h.DaemonPID()), "--", binary, "--socket", h.Socket()}, args...)
	cmd := exec.Command("nsenter", append(full, "--output", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	f.must(cmd.Start())
	f.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(f, "the command is there", 10*time.Second, exists(when))
	f.must(cmd.Process.Signal(syscall.SIGINT))
	if err := cmd.Wait(); err == nil {
		return nil
	}
	return &site.CommandError{Command: strings.Join(args, " "), Code: cmd.ProcessState.ExitCode(), Stderr: stderr.String()}
}

// TestInterrupted: Ctrl-C gives a creation up and cancels an import, and the
// command returns when that is done.
func TestInterrupted(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	for _, point := range []string{"create.after-end-prepare", "create.in-hold", "create.before-record"} {
		f.run(point, func(g *fixture) {
			th := g.thawer(v)
			g.armOn(g.a, point+"=touch("+here+")+sleep(5s)")
			doc := filepath.Join(g.site.Dir, "never.umbra")
			err := g.interrupted(g.a, here, "create", v, "--transportable", "--document", doc)
			if th.frozen(g) {
				g.Error("the volume is frozen")
			}
			g.refused(err, vss.VSS_S_ASYNC_CANCELLED)
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies: %+v", c)
			}
			if left, _ := filepath.Glob(filepath.Join(g.site.Dir, "*never*")); len(left) != 0 {
				g.Errorf("files: %v", left)
			}
			g.armOn(g.a, "")
			g.works(v)
		})
	}
	for _, point := range []string{"import.after-hide", "import.after-arrive"} {
		f.run(point, func(g *fixture) {
			set := g.create("app-rollback", v)
			g.armOn(g.b, point+"=touch("+here+")+sleep(5s)")
			c := g.refused(g.interrupted(g.b, here, "import", set.doc), vss.VSS_S_ASYNC_CANCELLED)
			if point == "import.after-arrive" {
				g.mentions(c, "umbra cleanup "+set.SetID.String())
				if o := g.orphans(g.b); len(o) != 1 {
					g.Errorf("listed: %+v", o)
				}
				_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String())
				g.must(err)
			}
			g.nothingOn(g.b)
			g.armOn(g.b, "")
			_, err := g.importOn(g.b, set.doc)
			g.must(err)
			_, err = g.b.Umbra(g.ctx, "delete", "set", set.SetID.String())
			g.must(err)
		})
	}
	f.run("import that queues", func(g *fixture) {
		first, second := g.create("app-rollback", v), g.create("app-rollback", v)
		g.armOn(g.b, "import.after-locate=touch("+here+")+sleep(1s)")
		done := make(chan error, 1)
		_ = os.Remove(here)
		go func() { _, err := g.importOn(g.b, first.doc); done <- err }()
		eventually(g, "the first import is there", 10*time.Second, exists(here))
		cmd := g.requesterOn(g.b, "import", second.doc)
		time.Sleep(200 * time.Millisecond)
		g.must(cmd.Process.Signal(syscall.SIGINT))
		_ = cmd.Wait()
		select {
		case err := <-done:
			g.Errorf("it waited for the other import: %v", err)
		default:
		}
		g.must(<-done)
		g.armOn(g.b, "")
		_, err := g.importOn(g.b, second.doc)
		g.must(err)
		_, err = g.b.Umbra(g.ctx, "delete", "all")
		g.must(err)
		g.nothingOn(g.b)
	})
}

// TestDaemonStops: a daemon that is stopped in good order gives creations up,
// leaves imports listed, and answers its clients before it goes.
func TestDaemonStops(t *testing.T) {
	f := newFixture(t)
	v, _, _ := f.volume("v", "ext4")
	here := filepath.Join(f.site.Dir, "here")
	for _, point := range []string{"create.after-intent", "create.in-hold", "create.after-post-commit"} {
		f.run(point, func(g *fixture) {
			th := g.thawer(v)
			_ = os.Remove(here)
			g.armOn(g.a, point+"=touch("+here+")+sleep(10s)")
			done := make(chan error, 1)
			go func() { done <- g.tryMake(v) }()
			eventually(g, "the creation is there", 10*time.Second, exists(here))
			began := time.Now()
			g.a.StopDaemon()
			if took := time.Since(began); took > 5*time.Second {
				g.Errorf("stopping took %s", took)
			}
			if th.frozen(g) {
				g.Error("the volume is frozen")
			}
			g.refused(<-done, vss.VSS_E_UNEXPECTED)
			if c := g.copiesOnArray(); len(c) != 0 {
				g.Errorf("copies: %+v", c)
			}
			g.must(g.a.StartDaemon(g.ctx, nil))
			g.works(v)
		})
	}
	f.run("import", func(g *fixture) {
		set := g.create("app-rollback", v)
		_ = os.Remove(here)
		g.armOn(g.b, "import.after-arrive=touch("+here+")+sleep(10s)")
		done := make(chan error, 1)
		go func() { _, err := g.as(g.b, "import", set.doc); done <- err }()
		eventually(g, "the import is there", 10*time.Second, exists(here))
		g.b.StopDaemon()
		g.refused(<-done, vss.VSS_E_UNEXPECTED)
		g.must(g.b.StartDaemon(g.ctx, nil))
		if o := g.orphans(g.b); len(o) != 1 {
			g.Errorf("listed: %+v", o)
		}
		_, err := g.b.Umbra(g.ctx, "cleanup", set.SetID.String(), "--reclaim")
		g.must(err)
		g.nothingOn(g.b)
	})
}
