package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// Options of the demo.
type Options struct {
	Out     io.Writer
	Binary  string // the umbra program; "" is this one
	Verbose bool   // also print the services' logs
}

// Run tells the story and removes everything, also when ctx ends or a step
// fails.
func Run(ctx context.Context, o Options) (err error) {
	opts := site.Options{Binary: o.Binary}
	if o.Verbose {
		opts.Log = o.Out
	}
	s, err := site.New(opts)
	if err != nil {
		return err
	}
	t := &teller{out: o.Out, s: s, begun: time.Now()}
	defer func() {
		t.step("Remove everything this demo made")
		cerr := s.Close()
		if cerr == nil {
			t.say("no mount, loop device, namespace, process or file is left")
		}
		if ctx.Err() != nil {
			err = errors.New("the demo was interrupted") // and whatever it was doing failed for that
		}
		err = errors.Join(err, cerr)
		if err == nil {
			fmt.Fprintf(o.Out, "\nDone in %s.\n", time.Since(t.begun).Round(100*time.Millisecond))
		}
	}()
	return t.story(ctx)
}

// teller prints the story and keeps what later steps need.
type teller struct {
	out   io.Writer
	s     *site.Site
	n     int
	begun time.Time
}

func (t *teller) step(title string) {
	t.n++
	fmt.Fprintf(t.out, "\n%2d. %s\n", t.n, title)
}

func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "    "+format+"\n", args...)
}

// made is the part of `umbra create --output json` the story needs.
type made struct {
	SetID     vss.ID `json:"set_id"`
	Snapshots []struct {
		ID     vss.ID `json:"id"`
		Volume string `json:"volume"`
	} `json:"snapshots"`
	Timeline []requester.Phase `json:"timeline"`
}

// brought is the part of `umbra import --output json` the story needs.
type brought struct {
	Result   string             `json:"result"`
	Copies   []vss.SnapshotProp `json:"copies"`
	Timeline []requester.Phase  `json:"timeline"`
}

func (t *teller) story(ctx context.Context) (err error) {
	t.step("An array, machine A and machine B, each in namespaces of its own")
	if err := t.s.StartArray(ctx, nil); err != nil {
		return err
	}
	a, err := t.s.AddHost(ctx, "hosta")
	if err != nil {
		return err
	}
	b, err := t.s.AddHost(ctx, "hostb")
	if err != nil {
		return err
	}
	t.say("the array serves hosts over mutual TLS; hosta and hostb have joined it")

	t.step("Two LUNs for A, formatted ext4 and xfs")
	db, err := t.volume(ctx, a, "db", "ext4")
	if err != nil {
		return err
	}
	log, err := t.volume(ctx, a, "log", "xfs")
	if err != nil {
		return err
	}

	t.step("A workload on A: numbered records, alternately to both volumes, each durable before the next")
	w, err := StartWorkload(ctx, a.Path(filepath.Join(db, "records")), a.Path(filepath.Join(log, "records")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	for w.Written() < 200 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.done:
			return w.err
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.say("%d records so far, and it goes on", w.Written())

	t.step("A makes a transportable shadow copy set of both volumes, under load")
	doc := filepath.Join(t.s.Dir, "set.umbra")
	t.say("$ umbra create %s %s --transportable --context app-rollback --document set.umbra", db, log)
	before := w.Written()
	text, err := a.Umbra(ctx, "create", db, log, "--transportable", "--context", "app-rollback", "--document", doc, "--output", "json")
	if err != nil {
		return err
	}
	after := w.Written()
	var m made
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	t.say("set %s; %d records were durable before, %d after", m.SetID, before, after)
	t.timeline(m.Timeline, "end-prepare", "flush", "hold", "commit", "thaw", "post-commit")
	fi, err := os.Stat(doc)
	if err != nil {
		return err
	}
	t.say("set.umbra (%d bytes) is all that travels; the copies are masked from everybody", fi.Size())

	t.step("A's service is stopped: B needs nothing of A")
	a.StopDaemon()

	t.step("B checks, then imports the set from the document alone")
	t.say("$ umbra import set.umbra --check")
	if _, err := b.Umbra(ctx, "import", doc, "--check"); err != nil {
		return err
	}
	t.say("$ umbra import set.umbra")
	counted := readCounters()
	if text, err = b.Umbra(ctx, "import", doc, "--output", "json"); err != nil {
		return err
	}
	var im brought
	if err := json.Unmarshal([]byte(text), &im); err != nil {
		return err
	}
	t.say("%s: %d copies, hidden and read-only", im.Result, len(im.Copies))
	t.timeline(im.Timeline, "locate", "arrive", "match", "verify", "record", "mount")

	t.step("Not one byte was copied")
	if err := t.proveShared(ctx, im.Copies, counted); err != nil {
		return err
	}

	t.step("B exposes the copies and reads them")
	var files []string
	for i, c := range im.Copies {
		folder := filepath.Join(t.s.Dir, "hostb", fmt.Sprintf("mnt%d", i))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		t.say("$ umbra expose %s %s", c.SnapshotID, folder)
		if _, err := b.Umbra(ctx, "expose", c.SnapshotID.String(), folder); err != nil {
			return err
		}
		files = append(files, b.Path(filepath.Join(folder, "records")))
		if err := os.WriteFile(b.Path(filepath.Join(folder, "intruder")), nil, 0o600); err == nil {
			return errors.New("the copy can be written to")
		}
	}
	if len(files) != 2 {
		return fmt.Errorf("%d copies, want 2", len(files))
	}
	n, err := VerifyPrefix(files[0], files[1])
	if err != nil {
		return fmt.Errorf("the copy is torn: %w", err)
	}
	if n < before {
		return fmt.Errorf("the copy has %d records, but %d were durable before it was made", n, before)
	}
	t.say("records 1 to %d are there, none is missing, torn or from later: one instant across both volumes", n)
	t.say("meanwhile A has written %d; its volumes never stopped", w.Written())

	t.step("B deletes the set; the array takes the LUNs back")
	t.say("$ umbra delete set %s", m.SetID)
	if _, err := b.Umbra(ctx, "delete", "set", m.SetID.String()); err != nil {
		return err
	}
	luns, err := t.s.Array(ctx, "lun", "list", "--output", "json")
	if err != nil {
		return err
	}
	if strings.Contains(luns, `"copy": true`) {
		return fmt.Errorf("the array still has copies:\n%s", luns)
	}
	t.say("the array has no copy left; the originals are untouched and in use")
	return nil
}

// volume makes a LUN, attaches it on h, formats and mounts it; it returns the
// mount point on h.
func (t *teller) volume(ctx context.Context, h *site.Host, name, fs string) (string, error) {
	naa, device, err := h.NewLUN(ctx, name, "512M")
	if err != nil {
		return "", err
	}
	mount, err := h.Format(ctx, device, name, fs)
	if err != nil {
		return "", err
	}
	t.say("%s is %s on %s, %s mounted at %s", naa, device, h.Name, fs, mount)
	return mount, nil
}

func (t *teller) timeline(phases []requester.Phase, names ...string) {
	for _, name := range names {
		for _, p := range phases {
			if p.Name == name && p.Object == "" {
				t.say("  %-12s %10s", name, p.Duration.Round(10*time.Microsecond))
			}
		}
	}
}

// proveShared shows that the copies' files on the array share their blocks
// with the originals, and how little B's devices have moved.
func (t *teller) proveShared(ctx context.Context, copies []vss.SnapshotProp, before counters) error {
	text, err := t.s.Array(ctx, "lun", "list", "--output", "json")
	if err != nil {
		return err
	}
	var luns []struct {
		NAA  string `json:"naa"`
		Copy bool   `json:"copy"`
	}
	if err := json.Unmarshal([]byte(text), &luns); err != nil {
		return err
	}
	for _, l := range luns {
		if !l.Copy {
			continue
		}
		shared, allocated, err := sharedBytes(t.s.LUNFile(l.NAA))
		if err != nil {
			return err
		}
		t.say("%s: %d of %d KiB shared with its original", l.NAA, shared>>10, allocated>>10)
		if shared*10 < allocated*5 {
			return fmt.Errorf("%s shares only %d of %d bytes", l.NAA, shared, allocated)
		}
	}
	now := readCounters()
	for _, c := range copies {
		read, written := now.since(before, c.BlockDevice)
		t.say("%s: import and mount read %d KiB (superblocks, roots) and wrote %d", c.BlockDevice, read>>10, written>>10)
		if written != 0 {
			return fmt.Errorf("%s was written to", c.BlockDevice)
		}
	}
	return nil
}
