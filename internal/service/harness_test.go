package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/copies"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/importing"
	"github.com/umbra-vss/umbra/internal/service/recovery"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// machine is a whole service on a real socket, above a machine and arrays in
// memory, with a real catalogue.
type machine struct {
	t       *testing.T
	dir     string
	socket  string
	journal *servicetest.Journal
	a, b    *servicetest.Array
	host    *servicetest.Host
	cat     *catalog.Catalog
	keeper  *copies.Keeper
	svc     *service.Service
	stop    func()
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the service answers root only; run as root")
	}
	dir, err := os.MkdirTemp("/tmp", "svc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	j := &servicetest.Journal{}
	m := &machine{t: t, dir: dir, socket: filepath.Join(dir, "s"), journal: j, a: servicetest.NewArray(1, j), b: servicetest.NewArray(2, j)}
	m.host = servicetest.NewHost(j, m.a, m.b)
	m.boot("boot1")
	t.Cleanup(func() { m.stop() })
	return m
}

// boot starts a life of the service, recovery first.
func (m *machine) boot(bootID string) {
	m.t.Helper()
	cat, err := catalog.Open(filepath.Join(m.dir, "catalog.db"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.cat = cat
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	providers := registry.New(m.a, m.b)
	im := importing.New(importing.Importer{Host: m.host, Providers: providers, Catalog: cat, HostName: "h", BootID: bootID, CopiesDir: filepath.Join(m.dir, "copies"), ArrivalTimeout: 300 * time.Millisecond})
	m.keeper = &copies.Keeper{Host: m.host, Providers: providers, Catalog: cat, BootID: bootID, DeviceObject: im.DeviceObject}
	m.svc = &service.Service{HostName: "h", StateDir: m.dir, RunDir: m.dir, Version: "test", Catalog: cat, Providers: providers, Importer: im, Keeper: m.keeper, Host: m.host, Log: log,
		Creator: &create.Creator{Host: m.host, Providers: providers, Catalog: cat, HostName: "h", BootID: bootID, HoldDir: m.dir, FlushTime: time.Second}}
	rec := &recovery.Recovery{Host: m.host, Catalog: cat, Providers: providers, Importer: im, Keeper: m.keeper, BootID: bootID, Log: log}
	rec.Run(m.t.Context(), nil)

	base, cancel := context.WithCancel(context.Background())
	m.svc.Start(base)
	l, err := rpc.ListenUnix(m.socket, 0o666)
	if err != nil {
		m.t.Fatal(err)
	}
	server := rpc.NewUnixServer(m.svc.Handler())
	go func() { _ = server.Serve(l) }()
	svc := m.svc
	done := false
	m.stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		ctx, end := context.WithTimeout(context.Background(), 10*time.Second)
		defer end()
		svc.Stop(ctx)
		server.Close()
		if err := cat.Close(); err != nil {
			m.t.Error(err)
		}
	}
}

// open opens an object; it is closed with the test.
func (m *machine) open() *requester.BackupComponents {
	m.t.Helper()
	bc, err := requester.CreateBackupComponents(m.t.Context(), requester.Endpoint(m.socket))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = bc.Close() })
	return bc
}

// loaded is an object with a document.
func (m *machine) loaded(d *document.Document) *requester.BackupComponents {
	m.t.Helper()
	xml, err := document.Marshal(d)
	if err != nil {
		m.t.Fatal(err)
	}
	bc := m.open()
	if err := bc.InitializeForBackup(m.t.Context(), xml); err != nil {
		m.t.Fatal(err)
	}
	return bc
}

// imported imports a set and returns the object.
func (m *machine) imported(d *document.Document, want vss.HResult) *requester.BackupComponents {
	m.t.Helper()
	bc := m.loaded(d)
	op, err := bc.ImportSnapshots(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if code, err := op.Wait(m.t.Context()); code != want {
		m.t.Fatalf("import: %v, %v, want %v", code, err, want)
	}
	return bc
}

// initialised is an object for a new backup, or for administration.
func (m *machine) initialised(c vss.Context) *requester.BackupComponents {
	m.t.Helper()
	bc := m.open()
	if err := errors.Join(bc.InitializeForBackup(m.t.Context(), nil), bc.SetContext(m.t.Context(), c)); err != nil {
		m.t.Fatal(err)
	}
	return bc
}

func (m *machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatalf("%s did not come to be", what)
}

func (m *machine) count() (copies, luns, intents int) {
	m.t.Helper()
	_ = m.cat.View(func(t *catalog.Tx) error {
		cs, _ := t.Copies()
		ls, _ := t.LUNs()
		is, _ := t.Intents()
		copies, luns, intents = len(cs), len(ls), len(is)
		return nil
	})
	return
}

func (m *machine) hasEvent(name string) bool {
	found := false
	_ = m.cat.View(func(t *catalog.Tx) error {
		es, err := t.Events("", vss.GUIDNull, 1000)
		for _, e := range es {
			found = found || e.Name == name
		}
		return err
	})
	return found
}

func is(t *testing.T, what string, err error, want vss.HResult) {
	t.Helper()
	if vss.CodeOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
		return
	}
	if e := vss.AsError("", err); e != nil && (e.Reason == "" || e.Remedy == "") {
		t.Errorf("%s: no reason or remedy: %+v", what, e)
	}
}

const childEnv = "SERVICE_TEST_CHILD"

// TestMain is also the client that tests kill, or run as another user:
// "import SOCKET DOCUMENT", "create SOCKET VOLUME", "open SOCKET".
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	var job, socket, arg string
	_, _ = fmt.Sscan(os.Getenv(childEnv), &job, &socket, &arg)
	ctx := context.Background()
	bc, err := requester.CreateBackupComponents(ctx, requester.Endpoint(socket))
	if err == nil {
		switch job {
		case "import":
			var xml []byte
			if xml, err = os.ReadFile(arg); err == nil {
				err = bc.InitializeForBackup(ctx, xml)
			}
			if err == nil {
				_, err = bc.ImportSnapshots(ctx)
			}
		case "create":
			err = errors.Join(bc.InitializeForBackup(ctx, nil), bc.SetContext(ctx, vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)))
			if err == nil {
				_, err = bc.StartSnapshotSet(ctx)
			}
			if err == nil {
				_, err = bc.AddToSnapshotSet(ctx, arg, vss.GUIDNull)
			}
		}
	}
	if err != nil {
		fmt.Println(uint32(vss.CodeOf(err)))
		os.Exit(1)
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
}

// ext4 is a filesystem.
func ext4() filesystem.Identity {
	return filesystem.Identity{Type: "ext4", UUID: vss.NewID().Bare(), Size: servicetest.Size, DeviceSize: servicetest.Size, Devices: 1}
}
