package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/internal/site/sitetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// lab is the site the benchmarks share. It is built by the first that needs
// it, and removed when all are done, or when one wants a new one.
type lab struct {
	ctx     context.Context
	dir     string
	site    *site.Site
	a, b    *site.Host
	volumes map[string]*volume
	clones  int
}

var (
	labMu sync.Mutex
	shop  *lab
)

// theLab returns the lab, building it if need be.
func theLab(b *testing.B) *lab {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("namespaces, mounts and loop devices need root")
	}
	labMu.Lock()
	defer labMu.Unlock()
	if shop != nil {
		return shop
	}
	l := &lab{ctx: context.Background(), volumes: map[string]*volume{}}
	shop = l
	must(b, l.build())
	return l
}

func (l *lab) build() (err error) {
	if l.dir, err = os.MkdirTemp("/tmp", "umbra-bench-"); err != nil {
		return err
	}
	program, err := sitetest.Program("..", l.dir)
	if err != nil {
		return err
	}
	if l.site, err = site.New(site.Options{Binary: program, Dir: l.dir}); err != nil {
		return err
	}
	if err := l.site.StartArray(l.ctx, nil, "--clone-limit", "8s", "--store-size", "24G"); err != nil {
		return err
	}
	if l.a, err = l.site.AddHost(l.ctx, "hosta"); err != nil {
		return err
	}
	if l.b, err = l.site.AddHost(l.ctx, "hostb"); err != nil {
		return err
	}
	return os.Mkdir(l.store("bare"), 0o700)
}

func closeLab() error {
	labMu.Lock()
	defer labMu.Unlock()
	l := shop
	shop = nil
	if l == nil || l.dir == "" {
		return nil
	}
	for _, v := range l.volumes {
		v.rescue()
		_ = unix.Close(v.fd)
	}
	var err error
	if l.site != nil {
		err = l.site.Close()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// store is a path in the array's store, as this process can open it.
func (l *lab) store(name string) string {
	return l.site.ArrayPath(filepath.Join(l.site.ArrayDir(), "store", name))
}

// volume is a LUN of the array, formatted and mounted on host A.
type volume struct {
	name  string // mount point, as the host says it
	path  string // the same, as this process can open it
	lun   string // the file behind it
	fd    int    // opened before anything is frozen, to thaw in case of trouble
	stamp byte
}

func (v *volume) rescue() { _ = unix.IoctlSetInt(v.fd, fithaw, 0) }

// volume makes a volume, or returns the one of that name. mkfs is a program
// with its arguments, but for the device.
func (l *lab) volume(name, size string, mkfs ...string) (*volume, error) {
	if v := l.volumes[name]; v != nil {
		return v, nil
	}
	naa, device, err := l.a.NewLUN(l.ctx, name, size)
	if err != nil {
		return nil, err
	}
	if _, err := l.a.Run(l.ctx, mkfs[0], append(mkfs[1:], device)...); err != nil {
		return nil, err
	}
	mount := filepath.Join(l.dir, "srv", name)
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return nil, err
	}
	if _, err := l.a.Run(l.ctx, "mount", device, mount); err != nil {
		return nil, err
	}
	v := &volume{name: mount, path: l.a.Path(mount), lun: l.site.LUNFile(naa)}
	if v.fd, err = unix.Open(v.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	l.volumes[name] = v
	if err := v.dirty(); err != nil {
		return nil, err
	}
	return v, unix.Syncfs(v.fd)
}

// dirty overwrites 4 MiB of the volume, in the page cache.
func (v *volume) dirty() error {
	v.stamp++
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = v.stamp
	}
	f, err := os.OpenFile(filepath.Join(v.path, "dirty"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Close())
}

// each does something to every volume and thaws what it can if that fails.
func each(vs []*volume, do func(*volume) error) error {
	for _, v := range vs {
		if err := do(v); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

// settle waits until the store has done what it does in the background: after
// a clone is removed XFS takes its blocks back by and by.
func (l *lab) settle() error {
	var before, now unix.Statfs_t
	for quiet := 0; quiet < 3; {
		time.Sleep(40 * time.Millisecond)
		if err := unix.Statfs(l.store(""), &now); err != nil { // also makes XFS begin
			return err
		}
		if now.Bfree == before.Bfree {
			quiet++
		} else {
			quiet = 0
		}
		before = now
	}
	return nil
}

// job is the bare program's work on volumes; the targets are new.
func (l *lab) job(vs []*volume, parallel, expedite bool) bareJob {
	j := bareJob{Parallel: parallel, Expedite: expedite}
	for _, v := range vs {
		l.clones++
		j.Mounts, j.Sources = append(j.Mounts, v.path), append(j.Sources, v.lun)
		j.Targets = append(j.Targets, l.store(filepath.Join("bare", fmt.Sprint(l.clones))))
	}
	return j
}

func (j bareJob) remove() error {
	var err error
	for _, t := range j.Targets {
		err = errors.Join(err, os.Remove(t))
	}
	return err
}

// createdSet is a set made by Umbra.
type createdSet struct {
	id       vss.ID
	document []byte
	timeline []requester.Phase
}

// create makes a transportable set on host A, as a requester does.
func (l *lab) create(vs []*volume) (s createdSet, err error) {
	bc, err := requester.CreateBackupComponents(l.ctx, requester.Endpoint(l.a.Socket()))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, bc.Close()) }()
	if err := bc.InitializeForBackup(l.ctx, nil); err != nil {
		return s, err
	}
	if err := bc.SetContext(l.ctx, vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)); err != nil {
		return s, err
	}
	if s.id, err = bc.StartSnapshotSet(l.ctx); err != nil {
		return s, err
	}
	for _, v := range vs {
		if _, err := bc.AddToSnapshotSet(l.ctx, v.name, vss.GUIDNull); err != nil {
			return s, errors.Join(err, bc.AbortBackup(l.ctx))
		}
	}
	op, err := bc.DoSnapshotSet(l.ctx)
	if err != nil {
		return s, err
	}
	st, err := op.WaitFor(l.ctx, requester.Infinite)
	if err != nil {
		return s, err
	}
	if st.Code != vss.VSS_S_ASYNC_FINISHED {
		return s, fmt.Errorf("create: %s: %w", st.Code.Name(), st.Err)
	}
	s.timeline = st.Timeline
	s.document, err = bc.SaveAsXML(l.ctx)
	return s, err
}

// phase is how long a phase of a timeline took.
func phase(tl []requester.Phase, name string) time.Duration {
	for _, p := range tl {
		if p.Name == name && p.Object == "" {
			return p.Duration
		}
	}
	return 0
}

// remove deletes a set's copies on a host.
func (l *lab) remove(h *site.Host, set vss.ID) (err error) {
	bc, err := requester.CreateBackupComponents(l.ctx, requester.Endpoint(h.Socket()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bc.Close()) }()
	if err := bc.InitializeForBackup(l.ctx, nil); err != nil {
		return err
	}
	if err := bc.SetContext(l.ctx, vss.CTX_ALL); err != nil {
		return err
	}
	_, _, err = bc.DeleteSnapshots(l.ctx, set, vss.OBJECT_SNAPSHOT_SET, true)
	return err
}
