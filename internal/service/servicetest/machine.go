package servicetest

import (
	"context"
	"errors"
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
	"github.com/umbra-vss/umbra/internal/service/originals"
	"github.com/umbra-vss/umbra/internal/service/recovery"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// Machine is a whole service on a real socket, above a machine and arrays in
// memory, with a real catalogue. It ends with the test.
type Machine struct {
	T       testing.TB
	Dir     string
	Socket  string
	Journal *Journal
	A, B    *Array
	Host    *Host
	Shares  *Shares
	Catalog *catalog.Catalog
	Keeper  *copies.Keeper
	Service *service.Service
	Stop    func() // ends this life of the service; Boot begins another

	volumes string
}

// NewMachine starts the machine's first life. The test is skipped for
// everybody but root, whom alone the service answers.
func NewMachine(t testing.TB) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the service answers root only; run as root")
	}
	m := &Machine{T: t, Dir: tempDir(t, "/tmp"), Journal: &Journal{}}
	m.Socket = filepath.Join(m.Dir, "s")
	m.A, m.B = NewArray(1, m.Journal), NewArray(2, m.Journal)
	m.Host = NewHost(m.Journal, m.A, m.B)
	m.Shares = NewShares(m.Host)
	m.Boot("boot1")
	t.Cleanup(func() { m.Stop() })
	return m
}

// tempDir is short, as a socket's path must be, and open to other users.
func tempDir(t testing.TB, in string) string {
	t.Helper()
	dir, err := os.MkdirTemp(in, "svc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Boot starts a life of the service, recovery first.
func (m *Machine) Boot(bootID string) {
	m.T.Helper()
	cat, err := catalog.Open(filepath.Join(m.Dir, "catalog.db"))
	if err != nil {
		m.T.Fatal(err)
	}
	m.Catalog = cat
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	providers := registry.New(m.A, m.B)
	im := importing.New(importing.Importer{Host: m.Host, Providers: providers, Catalog: cat, HostName: "h", BootID: bootID, CopiesDir: filepath.Join(m.Dir, "copies"), ArrivalTimeout: 300 * time.Millisecond})
	m.Keeper = &copies.Keeper{Host: m.Host, Providers: providers, Catalog: cat, BootID: bootID, DeviceObject: im.DeviceObject, Resurface: im.Resurface, Shares: m.Shares}
	m.Service = &service.Service{HostName: "h", StateDir: m.Dir, RunDir: m.Dir, Version: "test", Catalog: cat, Providers: providers, Importer: im, Keeper: m.Keeper, Host: m.Host, Log: log, Originals: originals.New(m.Host, cat), Arrays: noArrays{},
		Creator: &create.Creator{Host: m.Host, Providers: providers, Catalog: cat, Importer: im, HostName: "h", BootID: bootID, HoldDir: m.Dir, FlushTime: time.Second}}
	rec := &recovery.Recovery{Host: m.Host, Catalog: cat, Providers: providers, Importer: im, Keeper: m.Keeper, BootID: bootID, Log: log}
	rec.Run(m.T.Context(), nil)

	base, cancel := context.WithCancel(context.Background())
	m.Service.Start(base)
	l, err := rpc.ListenUnix(m.Socket, 0o666)
	if err != nil {
		m.T.Fatal(err)
	}
	server := rpc.NewUnixServer(m.Service.Handler())
	served := make(chan struct{})
	go func() { _ = server.Serve(l); close(served) }()
	svc := m.Service
	done := false
	m.Stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		ctx, end := context.WithTimeout(context.Background(), 10*time.Second)
		defer end()
		svc.Stop(ctx)
		server.Close()
		<-served // the next life listens on the same socket
		if err := cat.Close(); err != nil {
			m.T.Error(err)
		}
	}
}

// Volume mounts an original of array A under a folder that is there, so that
// sets can be made of it, and returns the folder's name.
func (m *Machine) Volume(name string) string {
	m.T.Helper()
	if m.volumes == "" {
		// In memory, where a flush costs nothing.
		m.volumes = tempDir(m.T, "/dev/shm")
	}
	p := filepath.Join(m.volumes, name)
	if err := os.Mkdir(p, 0o755); err != nil {
		m.T.Fatal(err)
	}
	m.Host.AddVolume(p, m.A.Add(Size, Ext4()))
	return p
}

// Ext4 is a filesystem as large as a LUN of NewSet.
func Ext4() filesystem.Identity {
	return filesystem.Identity{Type: "ext4", UUID: vss.NewID().Bare(), Size: Size, DeviceSize: Size, Devices: 1}
}

// Open opens an object; it is closed with the test.
func (m *Machine) Open() *requester.BackupComponents {
	m.T.Helper()
	bc, err := requester.CreateBackupComponents(m.T.Context(), requester.Endpoint(m.Socket))
	if err != nil {
		m.T.Fatal(err)
	}
	m.T.Cleanup(func() { _ = bc.Close() })
	return bc
}

// Loaded is an object with a document.
func (m *Machine) Loaded(d *document.Document) *requester.BackupComponents {
	m.T.Helper()
	bc := m.Open()
	if err := bc.InitializeForBackup(m.T.Context(), m.XML(d)); err != nil {
		m.T.Fatal(err)
	}
	return bc
}

// XML is the document as SaveAsXML would give it.
func (m *Machine) XML(d *document.Document) []byte {
	m.T.Helper()
	xml, err := document.Marshal(d)
	if err != nil {
		m.T.Fatal(err)
	}
	return xml
}

// Imported imports a set and returns the object.
func (m *Machine) Imported(d *document.Document, want vss.HResult) *requester.BackupComponents {
	m.T.Helper()
	bc := m.Loaded(d)
	op, err := bc.ImportSnapshots(m.T.Context())
	if err != nil {
		m.T.Fatal(err)
	}
	if code, err := op.Wait(m.T.Context()); code != want {
		m.T.Fatalf("import: %v, %v, want %v", code, err, want)
	}
	return bc
}

// Initialised is an object for a new backup, or for administration.
func (m *Machine) Initialised(c vss.Context) *requester.BackupComponents {
	m.T.Helper()
	bc := m.Open()
	if err := errors.Join(bc.InitializeForBackup(m.T.Context(), nil), bc.SetContext(m.T.Context(), c)); err != nil {
		m.T.Fatal(err)
	}
	return bc
}

// Eventually waits, not for long, until something is so.
func (m *Machine) Eventually(what string, ok func() bool) {
	m.T.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.T.Fatalf("%s did not come to be", what)
}

// Count counts what the catalogue holds.
func (m *Machine) Count() (copies, luns, intents int) {
	m.T.Helper()
	_ = m.Catalog.View(func(t *catalog.Tx) error {
		cs, _ := t.Copies()
		ls, _ := t.LUNs()
		is, _ := t.Intents()
		copies, luns, intents = len(cs), len(ls), len(is)
		return nil
	})
	return
}

// HasEvent reports whether such an event was written.
func (m *Machine) HasEvent(name string) bool {
	found := false
	_ = m.Catalog.View(func(t *catalog.Tx) error {
		es, err := t.Events("", vss.GUIDNull, 1000)
		for _, e := range es {
			found = found || e.Name == name
		}
		return err
	})
	return found
}
