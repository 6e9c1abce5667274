package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/host"
	"github.com/umbra-vss/umbra/internal/host/attach/iscsi"
	"github.com/umbra-vss/umbra/internal/host/attach/loop"
	"github.com/umbra-vss/umbra/internal/host/attach/nbd"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// arrays are the storage systems this machine has joined: one bundle file each
// in a folder.
type arrays struct {
	dir  string
	host string
	log  *slog.Logger

	// joined is called when there is a new client: what is attached needs its keys
	// before anybody asks for more.
	joined func()

	mu      sync.Mutex
	bundles map[vss.ID]client.Bundle
	clients map[vss.ID]*client.Client
}

func openArrays(dir, hostName string, log *slog.Logger) (*arrays, error) {
	a := &arrays{dir: dir, host: hostName, log: log, bundles: map[vss.ID]client.Bundle{}, clients: map[vss.ID]*client.Client{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "read joined arrays", Object: dir, Reason: "the folder cannot be made", Remedy: "Check --state-dir", Err: err}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.bundle"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil {
			var b client.Bundle
			if b, err = client.ParseBundle(raw); err == nil {
				err = a.use(b)
			}
		}
		if err != nil { // one bad bundle does not keep the others from working
			log.Error("a joined array cannot be used", "file", f, "err", err)
		}
	}
	return a, nil
}

// use makes the client of a bundle, replacing an older one.
func (a *arrays) use(b client.Bundle) error {
	c, err := client.Dial(b)
	if err != nil {
		return err
	}
	a.mu.Lock()
	old := a.clients[b.ArrayID]
	a.clients[b.ArrayID], a.bundles[b.ArrayID] = c, b
	a.mu.Unlock()
	if old != nil {
		old.Close()
	}
	if a.joined != nil {
		a.joined()
	}
	return nil
}

// Join checks a bundle against the array itself and keeps it. Before the array
// is used cover hides its LUNs.
func (a *arrays) Join(ctx context.Context, raw []byte, cover func(context.Context, ...hide.Family) error) (id, name string, err error) {
	b, err := client.ParseBundle(raw)
	if err != nil {
		return "", "", err
	}
	if b.Host != a.host {
		return "", "", &vss.Error{Code: vss.E_INVALIDARG, Op: "join", Object: b.ArrayName, Reason: "the bundle was made for host " + b.Host + ", this is " + a.host,
			Remedy: "Run umbra array enroll " + a.host + " on the array and join with that bundle"}
	}
	c, err := client.Dial(b)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	dctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if _, err := c.Describe(dctx, ""); err != nil {
		return "", "", err
	}
	if err := cover(ctx, familyOf(b)); err != nil {
		return "", "", err
	}
	if err := writeDurably(filepath.Join(a.dir, b.ArrayID.Bare()+".bundle"), raw); err != nil {
		return "", "", &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "join", Object: b.ArrayName, Reason: "the bundle cannot be kept", Remedy: "Check the disk of --state-dir", Err: err}
	}
	return b.ArrayID.String(), b.ArrayName, a.use(b)
}

// familyOf is how the array's LUNs are called.
func familyOf(b client.Bundle) hide.Family { return hide.Family(identity.OUI + b.Prefix) }

// families are those of all joined arrays.
func (a *arrays) families() []hide.Family {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []hide.Family
	for _, b := range a.bundles {
		out = append(out, familyOf(b))
	}
	return out
}

// writeDurably writes a file that is there whole after a crash, or not at all.
func writeDurably(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// List asks every array whether it answers.
func (a *arrays) List(ctx context.Context) []service.ArrayStatus {
	a.mu.Lock()
	var out []service.ArrayStatus
	var cs []*client.Client
	for id, b := range a.bundles {
		out = append(out, service.ArrayStatus{ID: id.String(), Name: b.ArrayName, Endpoints: b.Endpoints})
		cs = append(cs, a.clients[id])
	}
	a.mu.Unlock()
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() {
			dctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, out[i].Err = c.Describe(dctx, "")
			if t := c.Trouble(); t != nil && out[i].Err != nil {
				out[i].Since = t.Since
			}
		})
	}
	wg.Wait()
	return out
}

// Clients are the joined arrays.
func (a *arrays) Clients() []*client.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*client.Client
	for _, c := range a.clients {
		out = append(out, c)
	}
	return out
}

// Close drops all connections.
func (a *arrays) Close() {
	for _, c := range a.Clients() {
		c.Close()
	}
}

// initiators gives each joined array its initiator.
func (a *arrays) initiators(w waysHere) func() []host.Initiator {
	var mu sync.Mutex
	made := map[*client.Client]host.Initiator{}
	return func() []host.Initiator {
		mu.Lock()
		defer mu.Unlock()
		var out []host.Initiator
		for _, c := range a.Clients() {
			in, ok := made[c]
			if !ok {
				in = newInitiator(w, c)
				made[c] = in
			}
			out = append(out, in)
		}
		return out
	}
}

func newInitiator(w waysHere, c *client.Client) host.Initiator {
	t := newTransport(w, c)
	return host.Initiator{
		Initiator: t,
		Owns: func(l lun.Info) bool {
			n, ok := l.NAA()
			return ok && c.Owns(n)
		},
		Unmasked: func(ctx context.Context) ([]lun.Info, error) {
			ls, err := c.ReportLUNs(ctx)
			var out []lun.Info
			for _, l := range ls {
				if !l.Copy { // copies come by ImportSnapshots only
					out = append(out, identity.Info(l.NAA))
				}
			}
			return out, err
		},
		Ready: t.Ready,
	}
}

func loopReady() error {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "attach", Object: "/dev/loop-control", Reason: "this kernel has no loop devices", Remedy: "Load the loop module", Err: err}
	}
	return nil
}

// target gives the initiators what the array gives.
type target struct{ c *client.Client }

// OpenLUNs is for the loop initiator: descriptors.
func (t target) OpenLUNs(ctx context.Context, naas []lun.NAA) ([]loop.Opened, error) {
	os, err := t.c.OpenLUNs(ctx, naas)
	out := make([]loop.Opened, 0, len(os))
	for _, o := range os {
		out = append(out, loop.Opened(o))
	}
	return out, err
}

// ExportLUNs is for the iSCSI initiator.
func (t target) ExportLUNs(ctx context.Context, naas []lun.NAA) (iscsi.Exports, error) {
	e, err := t.c.ExportLUNs(ctx, export.ISCSI, naas)
	out := iscsi.Exports{Target: e.Target, Portals: e.Portals}
	for _, l := range e.LUNs {
		out.LUNs = append(out.LUNs, iscsi.Exported{NAA: l.NAA, Number: l.Number, Size: l.Size, ReadOnly: l.ReadOnly})
	}
	return out, err
}

// nbdTarget is what the NBD initiator takes.
type nbdTarget struct{ target }

// ExportLUNs is for the NBD initiator.
func (t nbdTarget) ExportLUNs(ctx context.Context, naas []lun.NAA) (nbd.Exports, error) {
	e, err := t.c.ExportLUNs(ctx, export.NBD, naas)
	out := nbd.Exports{Portals: e.Portals}
	for _, l := range e.LUNs {
		out.LUNs = append(out.LUNs, nbd.Exported{NAA: l.NAA, Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly})
	}
	return out, err
}

func (t target) CloseLUNs(ctx context.Context, naas []lun.NAA) error { return t.c.CloseLUNs(ctx, naas) }
