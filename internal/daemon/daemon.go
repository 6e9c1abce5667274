package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/internal/host/share"
	"github.com/umbra-vss/umbra/internal/journal"
	arrayprovider "github.com/umbra-vss/umbra/internal/providers/array"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/access"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/originals"
	"github.com/umbra-vss/umbra/internal/service/recovery"
	"github.com/umbra-vss/umbra/internal/service/registry"
	providersocket "github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// HoldDir is where hold intents lie; `umbra thaw-intents` reads it too.
func HoldDir(stateDir string) string { return filepath.Join(stateDir, "holds") }

// Run serves until ctx ends. ready, if not nil, is called when clients are
// answered.
func Run(ctx context.Context, c Config, version string, log *slog.Logger, ready func()) error {
	if err := c.check(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "start daemon", Object: c.HostName, Reason: "freezing, mounting and attaching need root", Remedy: "Run umbra daemon as root, or use the systemd unit"}
	}
	// First of all, and without the catalogue: whatever the last life may have
	// left frozen is thawed.
	holdDir := HoldDir(c.StateDir)
	thawed, err := freeze.RecoverIntents(ctx, holdDir, log)
	if err != nil {
		log.Error("thaw what the last life held", "err", err)
	}
	policy, err := access.New(c.Access, access.System{})
	if err != nil {
		return err
	}
	shares, err := share.New(filepath.Join(c.RunDir, "shares"), c.Share)
	if err != nil {
		return err
	}

	// Parents first: a folder made on the way to another would get its mode.
	for _, f := range []struct {
		dir  string
		mode os.FileMode
	}{{c.StateDir, 0o700}, {holdDir, 0o700}, {c.RunDir, 0o755}, {filepath.Dir(c.Socket), 0o755}, {filepath.Join(c.RunDir, "copies"), 0o700}} {
		if err := os.MkdirAll(f.dir, f.mode); err != nil {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "start daemon", Object: f.dir, Reason: "the folder cannot be made", Remedy: "Choose another --state-dir or --run-dir", Err: err}
		}
	}
	log, mirror, err := mirrored(c.Journal, log)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(filepath.Join(c.StateDir, "catalog.db"))
	if err != nil {
		return err
	}
	defer cat.Close()
	cat.OnEvent = mirror
	// Listening comes before recovery's slow part so that a second daemon on
	// the same socket is refused before it touches anything.
	l, err := rpc.ListenUnix(c.Socket, 0o666) // who may call is decided per call
	if err != nil {
		return err
	}
	defer l.Close() // which removes the socket, once, and not a successor's

	arrays, err := openArrays(filepath.Join(c.StateDir, "arrays"), c.HostName, log)
	if err != nil {
		return err
	}
	defer arrays.Close()
	tag := block.HostTag(c.HostName)
	initiators := arrays.initiators(waysHere{hostTag: tag, prefer: c.Transport, runDir: c.RunDir, done: ctx.Done()})
	initiators() // what is attached has somebody who looks after it
	arrays.joined = func() { initiators() }
	boot := freeze.BootID()
	providers := registry.New(arrayprovider.New(arrays.Clients))
	machine := &host.Machine{HostTag: tag, Rules: hidingRules(c.UdevRulesDir), Guard: freeze.Options{Limit: c.HoldLimit, Logger: log},
		Initiators: withForeign(initiators, tag,
			func() bool { return len(providers.Hardware()) > 1 })}
	if err := providers.Open(cat, providersocket.Options{Dir: filepath.Join(c.RunDir, "providers"), StateDir: filepath.Join(c.StateDir, "providers"), HostName: c.HostName, HostTag: tag, Log: log,
		Trouble: func(sctx context.Context, err *vss.Error) {
			_, _ = cat.Log(ctx, catalog.Event{Level: "error", Name: "provider.broken", Session: registry.SessionOf(sctx), Object: err.Object,
				Message: err.Op + ": " + err.Reason, Failure: catalog.FailureOf(err)})
		}}, boot); err != nil {
		return err
	}
	defer func() {
		ectx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		providers.Close(ectx)
	}()

	importer := importing.New(importing.Importer{Host: machine, Providers: providers, Catalog: cat, HostName: c.HostName, BootID: boot,
		CopiesDir: filepath.Join(c.RunDir, "copies"), ArrivalTimeout: c.ArrivalTimeout})
	keeper := &copies.Keeper{Host: machine, Providers: providers, Catalog: cat, BootID: boot, DeviceObject: importer.DeviceObject, Resurface: importer.Resurface, Shares: shares}
	svc := &service.Service{HostName: c.HostName, StateDir: c.StateDir, RunDir: c.RunDir, Version: version, Catalog: cat, Providers: providers,
		Creator: &create.Creator{Host: machine, Providers: providers, Catalog: cat, Importer: importer, HostName: c.HostName, BootID: boot, HoldDir: holdDir,
			OwnPaths: []string{c.StateDir, c.RunDir}, FlushTime: c.FlushTimeout},
		Importer: importer, Keeper: keeper, Originals: originals.New(machine, cat), Arrays: arrays, Host: machine, Devices: machine, Access: policy, Log: log,
		Limits: service.Limits(c.Limits), NoImport: c.Role == RoleClient}

	if err := svc.Originals.Cover(ctx, arrays.families()...); err != nil {
		log.Error("hide the unknown LUNs of joined arrays", "err", err)
		svc.Warnings = append(svc.Warnings, "LUNs of joined arrays that umbra rescan did not let through are not hidden: "+err.Error())
	}
	rec := recovery.New(recovery.Recovery{Host: machine, Catalog: cat, Providers: providers, Importer: importer, Keeper: keeper, BootID: boot, Log: log})
	svc.Creator.Leftovers = rec.Wake
	service.LogUnlisted(ctx, cat)
	rec.Run(ctx, thawed)
	if err := svc.Originals.Report(ctx); err != nil {
		log.Error("look for originals", "err", err)
	}
	// What a storage system that is still away keeps from being put right.
	lctx, giveUp := context.WithCancel(ctx)
	continued := make(chan struct{})
	go func() { defer close(continued); rec.Continue(lctx) }()
	defer func() {
		giveUp()
		select {
		case <-continued:
		case <-time.After(10 * time.Second): // the kernel keeps it; nothing is half recorded
		}
	}()

	svc.Start(ctx)
	server := rpc.NewUnixServer(svc.Handler())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	log.Info("serving", "socket", c.Socket, "host", c.HostName)
	if ready != nil {
		ready()
	}
	select {
	case <-ctx.Done():
	case err := <-failed:
		return err
	}
	// Sessions end with ctx; what they own is released before the catalogue is
	// closed.
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	svc.Stop(sctx)
	if err := server.Shutdown(sctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
		_ = server.Close()
	}
	return nil
}

// mirrored returns where events are mirrored to, and the log without what would
// be in the journal twice then. The socket lives as long as the process: the
// catalogue's last events come when it is closed.
func mirrored(socket string, log *slog.Logger) (*slog.Logger, func(catalog.Event), error) {
	if socket == "" {
		return log, nil, nil
	}
	j, err := journal.Open(socket)
	if err != nil {
		return nil, nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "start daemon", Object: socket, Reason: "no socket can be made", Remedy: "Check the limit of open files", Err: err}
	}
	if journal.HasStderr() {
		log = slog.New(journal.WithoutEvents(log.Handler()))
	}
	return log, j.Event, nil
}

// hidingRules are the rules in a folder. LVM's filter goes by links that only the
// machine's own udev makes, from its own folder.
func hidingRules(dir string) hide.Rules {
	r := hide.Rules{Dir: dir}
	if dir == hide.DefaultDir {
		r.LVM, r.Vendor = hide.LVMDir, hide.VendorDir
	}
	return r
}
