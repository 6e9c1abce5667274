package array

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-vss/umbra/internal/array/backend"
	"github.com/umbra-vss/umbra/internal/array/backend/file"
	"github.com/umbra-vss/umbra/internal/array/backend/lvmthin"
	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/iscsi"
	"github.com/umbra-vss/umbra/internal/array/fdpass"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Config is how an array runs. Dir and the two sockets are required.
type Config struct {
	Dir         string        // state folder; the store is Dir/store, its image, if one is needed, Dir/store.img
	Name        string        // shown to people; given to a new array, an existing one keeps its own if empty
	AdminSocket string        // unix socket for root
	DataSocket  string        // unix socket that passes LUNs to hosts on this machine
	Listen      []string      // for hosts: tcp://host:port, unix:///path; mutual TLS on both
	Advertise   []string      // what join bundles say instead of Listen, when hosts see other addresses
	CloneLimit  time.Duration // the longest a set may hold writes; 0 is 2 s, at most 8 s
	Watermark   float64       // part of the store kept free, 0 is 0.05
	Lease       time.Duration // how long an unfinished set waits for its host; 0 is 15 min
	StoreSize   int64         // bytes of a new store image; 0 is 64 GiB, at most 80 % of the free space. Of a new pool; 0 is all of VG

	// Backend is where LUNs are, file or lvmthin; file if empty. An array keeps
	// the one it was made with. lvmthin needs a volume group or two devices.
	Backend                string
	VG                     string
	PoolData, PoolMetadata string

	// ISCSIPortals are where hosts of other machines get their LUNs, ADDRESS:PORT.
	// None: the array serves hosts on its own machine only.
	ISCSIPortals []string
	NBDPortals   []string // the same over NBD
	NVMePortals  []string // the same over NVMe/TCP
	configfs     string
	exporters    map[export.Kind]exporter // instead of the machine's, in tests

	Logger *slog.Logger // nil discards
}

const (
	defaultCloneLimit = 2 * time.Second
	// maxCloneLimit leaves 2 of the 10 seconds of a hold to everything else.
	maxCloneLimit    = 8 * time.Second
	defaultWatermark = 0.05
	defaultLease     = 15 * time.Minute
	maxMessage       = 4 << 20
)

var fpOpenRecovered = failpoint.New("array.open.before-recovery")

// Array is an open array. Serve runs it; its methods are safe for concurrent
// use.
type Array struct {
	cfg    Config
	log    *slog.Logger
	state  *state
	store  backend.Store
	ca     *authority
	ticket ed25519.PrivateKey
	bootID string
	now    func() time.Time

	admin net.Listener
	data  *net.UnixListener
	hosts []net.Listener
	tls   *tls.Config

	tokens tokens

	outlets     []outlet   // transports it serves
	exportMu    sync.Mutex // from reading a record to exporting it so
	differences []string   // between what was exported and the database, found at start

	pmu     sync.Mutex
	pending map[vss.ID]*pending
	lost    map[lun.NAA]bool // LUNs without a file, found at start

	closing sync.Once
}

// Open opens the array in cfg.Dir, making it if it is not there, finishes what
// an earlier process left, and listens on its sockets. It is ready to Serve;
// call Close if you do not. Errors are *vss.Error with a remedy.
func Open(ctx context.Context, cfg Config) (*Array, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "open array", Object: cfg.Dir, Reason: "the state folder cannot be made",
			Remedy: "Run the array as root, or give it another folder", Err: err}
	}
	a := &Array{cfg: cfg, log: cfg.Logger, now: time.Now, pending: map[vss.ID]*pending{}, lost: map[lun.NAA]bool{}}
	ok := false
	defer func() {
		if !ok {
			a.Close()
		}
	}()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "open array", Object: "/proc/sys/kernel/random/boot_id",
			Reason: "the boot ID cannot be read", Remedy: "Mount /proc", Err: err}
	}
	a.bootID = strings.TrimSpace(string(boot))
	if a.state, err = openState(filepath.Join(cfg.Dir, "array.db"), func() (*arrayRecord, error) { return newIdentity(cfg.Name) }); err != nil {
		return nil, err
	}
	id := a.state.identity()
	if cfg.Name != "" && cfg.Name != id.Name {
		if err := a.state.update(ctx, "rename array", func(t *txn) error { t.edit().Name = cfg.Name; return nil }); err != nil {
			return nil, err
		}
	}
	if a.ca, err = parseAuthority(id.CACert, id.CAKey); err != nil {
		return nil, err
	}
	a.ticket = ed25519.NewKeyFromSeed(id.TicketKey)
	if a.store, err = a.openStore(ctx, id); err != nil {
		return nil, err
	}
	if err := fpOpenRecovered.Hit(ctx); err != nil {
		return nil, injected("open array", err)
	}
	if err := a.recover(ctx); err != nil {
		return nil, err
	}
	if err := a.openExports(ctx); err != nil {
		return nil, err
	}
	if err := a.listen(id.ID); err != nil {
		return nil, err
	}
	ok = true
	return a, nil
}

// The kinds of backends.
const (
	backendFile = "file"
	backendThin = "lvmthin"
)

// openStore opens the store of the kind that was asked for. LUNs of an array
// that has another would all be lost.
func (a *Array) openStore(ctx context.Context, id arrayRecord) (backend.Store, error) {
	has := id.Backend
	if has == "" && len(a.state.allLUNs())+len(a.state.allSets()) > 0 {
		has = backendFile // by an older version
	}
	kind := a.cfg.Backend
	if has != "" && has != kind {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "open array", Object: a.cfg.Dir, Reason: "the array's LUNs are on backend " + has + ", not " + kind,
			Remedy: "Start it with --backend " + has + ", or make another array with another --dir"}
	}
	var s backend.Store
	switch kind {
	case backendThin:
		t, err := lvmthin.Open(ctx, lvmthin.Config{Dir: a.cfg.Dir, Array: id.ID, VG: a.cfg.VG, Data: a.cfg.PoolData, Metadata: a.cfg.PoolMetadata, Size: uint64(a.cfg.StoreSize), Log: a.log})
		if err != nil {
			return nil, err // not a Store that is nil
		}
		s = t
	default:
		f, err := file.Open(ctx, file.Config{Dir: filepath.Join(a.cfg.Dir, "store"), Image: filepath.Join(a.cfg.Dir, "store.img"), ImageSize: a.cfg.StoreSize, Log: a.log})
		if err != nil {
			return nil, err
		}
		s = f
	}
	if id.Backend != kind {
		if err := a.state.update(ctx, "open array", func(t *txn) error { t.edit().Backend = kind; return nil }); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (cfg Config) complete() (Config, error) {
	bad := func(object, reason, remedy string) (Config, error) {
		return cfg, &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: object, Reason: reason, Remedy: remedy}
	}
	if cfg.Dir == "" || cfg.AdminSocket == "" || cfg.DataSocket == "" {
		return bad("", "a folder, an admin socket and a data socket are needed", "Set dir, admin-socket and data-socket")
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return bad(cfg.Dir, "the folder has no absolute path", "Give an absolute path")
	}
	if cfg.DataSocket, err = filepath.Abs(cfg.DataSocket); err != nil {
		return bad(cfg.DataSocket, "the data socket has no absolute path", "Give an absolute path")
	}
	thin := cfg.VG != "" || cfg.PoolData != "" || cfg.PoolMetadata != ""
	switch {
	case cfg.Backend == "" && !thin:
		cfg.Backend = backendFile
	case cfg.Backend != backendFile && cfg.Backend != backendThin:
		return bad(cfg.Backend, "backends are file and lvmthin", "Choose one of them with --backend")
	case cfg.Backend == backendFile && thin:
		return bad(cfg.VG, "backend file has no use for a volume group or a pool's devices", "Choose --backend lvmthin, or leave them out")
	case cfg.Backend == backendThin && (cfg.VG == "") == (cfg.PoolData == "" || cfg.PoolMetadata == ""), cfg.Backend == backendThin && cfg.VG != "" && (cfg.PoolData != "" || cfg.PoolMetadata != ""):
		return bad(cfg.VG, "backend lvmthin needs a volume group, or a pool's two devices", "Give --vg, or --pool-data and --pool-metadata")
	}
	if cfg.CloneLimit == 0 {
		cfg.CloneLimit = defaultCloneLimit
	}
	if cfg.CloneLimit < 0 || cfg.CloneLimit > maxCloneLimit {
		return bad(cfg.CloneLimit.String(), "writes are held for 10 seconds at most, so cloning may take 8 s at most", "Choose a clone limit between 1ms and 8s")
	}
	if cfg.Watermark == 0 {
		cfg.Watermark = defaultWatermark
	}
	if cfg.Watermark < 0 || cfg.Watermark > 0.9 {
		return bad("watermark", "it is a part of the store", "Choose a watermark between 0 and 0.9")
	}
	if cfg.configfs == "" {
		cfg.configfs = iscsi.Root
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, e := range slices.Concat(cfg.Listen, cfg.Advertise) {
		if _, _, err := client.ParseEndpoint(e); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func newIdentity(name string) (*arrayRecord, error) {
	if name == "" {
		name = "array"
	}
	id := vss.NewID()
	cert, key, err := newAuthority(id)
	if err != nil {
		return nil, err
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return &arrayRecord{ID: id, Name: name, Prefix: identity.NewPrefix(), Created: time.Now().UTC(), CACert: cert, CAKey: key, TicketKey: seed}, nil
}

func (a *Array) listen(id vss.ID) error {
	cert, err := a.ca.server(id)
	if err != nil {
		return err
	}
	a.tls = a.serverTLS(cert)
	for _, p := range append([]string{a.cfg.AdminSocket, a.cfg.DataSocket}, a.cfg.Listen...) {
		if network, path, err := client.ParseEndpoint(p); err == nil && network == "unix" {
			p = path
		} else if !strings.HasPrefix(p, "/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "listen", Object: p, Reason: "its folder cannot be made", Remedy: "Choose another path", Err: err}
		}
	}
	if a.admin, err = rpc.ListenUnix(a.cfg.AdminSocket, 0o600); err != nil {
		return err
	}
	if a.data, err = listenData(a.cfg.DataSocket); err != nil {
		return err
	}
	for _, e := range a.cfg.Listen {
		network, address, err := client.ParseEndpoint(e)
		if err != nil {
			return err
		}
		var l net.Listener
		if network == "unix" {
			l, err = rpc.ListenUnix(address, 0o600)
		} else if l, err = net.Listen(network, address); err != nil {
			err = &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "listen", Object: e, Reason: "the address cannot be used",
				Remedy: "Stop what uses it, or choose another", Err: err}
		}
		if err != nil {
			return err
		}
		a.hosts = append(a.hosts, l)
	}
	return nil
}

// listenData makes the packet socket, replacing one nobody answers on.
func listenData(path string) (*net.UnixListener, error) {
	refuse := func(code vss.HResult, reason, remedy string, err error) error {
		return &vss.Error{Code: code, Op: "listen", Object: path, Reason: reason, Remedy: remedy, Err: err}
	}
	if c, err := net.DialTimeout("unixpacket", path, time.Second); err == nil {
		c.Close()
		return nil, refuse(vss.VSS_E_OBJECT_ALREADY_EXISTS, "another process serves this socket", "Stop it, or choose another socket", nil)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, refuse(vss.E_INVALIDARG, "a file that is not a socket is in the way", "Choose another path", nil)
		}
		os.Remove(path)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, refuse(vss.E_ACCESSDENIED, "the socket cannot be made", "Check that its folder is writable and the path has fewer than 108 characters", err)
	}
	return l, nil
}

// Endpoints are the addresses hosts reach the array at, as join bundles say
// them. An address that is not of one interface is named by the host's name.
func (a *Array) Endpoints() []string {
	if len(a.cfg.Advertise) > 0 {
		return a.cfg.Advertise
	}
	var out []string
	for _, l := range a.hosts {
		switch addr := l.Addr().(type) {
		case *net.UnixAddr:
			out = append(out, "unix://"+addr.Name)
		case *net.TCPAddr:
			host, port, _ := net.SplitHostPort(addr.String())
			if addr.IP.IsUnspecified() {
				if name, err := os.Hostname(); err == nil {
					host = name
				}
			}
			out = append(out, "tcp://"+net.JoinHostPort(host, port))
		}
	}
	return out
}

// Serve answers until ctx ends, then lets calls finish for up to five seconds
// and closes the array. It returns nil after an orderly end.
func (a *Array) Serve(ctx context.Context) error {
	defer a.Close()
	g, ctx := errgroup.WithContext(ctx)
	admin := rpc.NewUnixServer(a.adminHandler())
	servers := []*http.Server{admin}
	g.Go(func() error { return ended(admin.Serve(a.admin)) })
	for _, l := range a.hosts {
		srv := &http.Server{
			Handler: a.hostHandler(), TLSConfig: a.tls.Clone(), ReadHeaderTimeout: 10 * time.Second,
			HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000},
			ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, srv)
		g.Go(func() error { return ended(srv.ServeTLS(l, "", "")) })
	}
	g.Go(func() error { return ended(fdpass.Serve(ctx, a.data, a.redeem)) })
	g.Go(func() error { a.reap(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for _, s := range servers {
			all.Go(func() {
				if s.Shutdown(wait) != nil {
					s.Close()
				}
			})
		}
		all.Wait()
		return nil
	})
	a.log.Info("array serves", "id", a.state.identity().ID, "endpoints", a.Endpoints(), "admin", a.cfg.AdminSocket)
	return g.Wait()
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "serve", Reason: "a socket failed", Remedy: "Read the log and restart the array", Err: err}
	}
	return nil
}

// Close aborts unfinished sets and gives everything back. The store stays
// mounted while a LUN of it is attached, and what is exported over the network
// stays exported: the kernel serves it.
func (a *Array) Close() {
	a.closing.Do(func() {
		for _, l := range a.hosts {
			l.Close()
		}
		if a.admin != nil {
			a.admin.Close()
		}
		if a.data != nil {
			a.data.Close()
		}
		for _, p := range a.unfinished(func(*pending) bool { return true }) {
			if err := a.abortPending(context.Background(), p); err != nil {
				a.log.Warn("an unfinished set stays until the next start", "set", p.id, "error", err)
			}
		}
		for _, o := range a.outlets {
			if c, ok := o.exporter.(io.Closer); ok {
				_ = c.Close() // it stops watching; what is exported stays
			}
		}
		if a.store != nil {
			a.store.Close()
		}
		if a.state != nil {
			a.state.close()
		}
	})
}

func injected(op string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Reason: "injected", Remedy: "Disarm the failpoint", Err: err}
}
