package array

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// The records of the database. A record in memory is never changed; a
// transaction puts a changed copy in its place.

type arrayRecord struct {
	ID        vss.ID
	Name      string
	Prefix    string
	Created   time.Time
	CACert    []byte // DER
	CAKey     []byte // PKCS#8
	TicketKey []byte // Ed25519 seed
	Backend   string `json:",omitempty"` // where its LUNs are: file, lvmthin

	Generation uint64 // the last one given
	Slot       uint32 // the last one given to a host
}

type hostRecord struct {
	Name    string
	Cluster string
	Serial  string // hexadecimal, of the one certificate that is valid
	Slot    uint32 // holder number in the store
	Lane    uint16 `json:",omitempty"` // no other host's, see export.Peer; 0: enrolled while the array had no portals

	Secrets map[export.Kind]secrets `json:",omitempty"` // of each transport the array had when it was enrolled
	CHAP    *secrets                `json:",omitempty"` // the same of iSCSI, as earlier versions wrote it

	LastNumber uint16 `json:",omitempty"` // LUN number given to it last
	Enrolled   time.Time
	Expires    time.Time
}

type lunRecord struct {
	NAA        lun.NAA
	Name       string
	Size       uint64
	Copy       bool
	Source     lun.NAA `json:",omitzero"` // of a copy
	Set        vss.ID  // of a copy
	MadeBy     string  // of a copy
	Generation uint64
	ReadOnly   bool
	Created    time.Time
	Masks      []string   // sorted
	Exports    []exported `json:",omitempty"` // who has it attached over the network
}

func (l *lunRecord) masked(host string) bool {
	_, ok := slices.BinarySearch(l.Masks, host)
	return ok
}

// withMask returns a copy of the record that host may or may not see.
func (l *lunRecord) withMask(host string, visible bool) *lunRecord {
	c := *l
	i, ok := slices.BinarySearch(l.Masks, host)
	switch {
	case visible && !ok:
		c.Masks = slices.Insert(slices.Clone(l.Masks), i, host)
	case !visible && ok:
		c.Masks = slices.Delete(slices.Clone(l.Masks), i, i+1)
	}
	if !visible { // what a host may not see it does not have
		c.Exports = l.withoutExport(host).Exports
	}
	return &c
}

const (
	setPreparing = "preparing"
	setCommitted = "committed"
)

type target struct {
	Source, Target lun.NAA
	Size           uint64
	Snapshots      []vss.ID
}

type binding struct {
	Host     string
	ImportID vss.ID
	At       time.Time
}

type setRecord struct {
	ID         vss.ID
	Host       string // that makes it
	Context    vss.Context
	State      string
	Created    time.Time
	Committed  time.Time
	Generation uint64
	Targets    []target
	Bound      *binding
	Digest     []byte // of the last ticket's set description; nil before the first
}

// state is the database with a mirror of it in memory: reads never wait for a
// disk, and everything one operation changes is one transaction.
type state struct {
	db     *bolt.DB
	writer sync.Mutex // held from reading to committing by whoever changes something

	mu     sync.RWMutex // guards the maps below
	array  *arrayRecord
	hosts  map[string]*hostRecord
	luns   map[lun.NAA]*lunRecord
	sets   map[vss.ID]*setRecord
	trash  map[lun.NAA]bool // files of deleted LUNs, perhaps not removed yet
	broken error

	// removed are LUNs of the trash whose files are gone; the next transaction
	// that writes anyway forgets them. Guarded by writer.
	removed map[lun.NAA]bool
}

var (
	bucketArray = []byte("array")
	bucketHosts = []byte("hosts")
	bucketLUNs  = []byte("luns")
	bucketSets  = []byte("sets")
	bucketTrash = []byte("trash")
	keyArray    = []byte("array")
	keyVersion  = []byte("version")
)

const schemaVersion = 1

// openState opens or makes the database. A new one gets its identity from
// fresh, in its first transaction.
func openState(path string, fresh func() (*arrayRecord, error)) (*state, error) {
	refuse := func(reason, remedy string, err error) error {
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "open array", Object: path, Reason: reason, Remedy: remedy, Err: err}
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "open array", Object: path,
			Reason: "another array process uses this folder", Remedy: "Stop it, or give this one another folder", Err: err}
	}
	if err != nil {
		return nil, refuse("the database cannot be opened", "Check the array's folder; if the file is damaged restore it from a backup", err)
	}
	s := &state{db: db, hosts: map[string]*hostRecord{}, luns: map[lun.NAA]*lunRecord{}, sets: map[vss.ID]*setRecord{}, trash: map[lun.NAA]bool{}, removed: map[lun.NAA]bool{}}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketArray, bucketHosts, bucketLUNs, bucketSets, bucketTrash} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		b := tx.Bucket(bucketArray)
		if v := b.Get(keyVersion); v == nil {
			rec, err := fresh()
			if err != nil {
				return err
			}
			s.array = rec
			if err := put(b, keyArray, rec); err != nil {
				return err
			}
			return b.Put(keyVersion, binary.BigEndian.AppendUint32(nil, schemaVersion))
		} else if len(v) != 4 {
			return refuse("the database does not say what version it is of", "Restore it from a backup", nil)
		} else if n := binary.BigEndian.Uint32(v); n != schemaVersion {
			return refuse(fmt.Sprintf("the database is of version %d, this version of Umbra knows %d", n, schemaVersion), "Run the version of Umbra that wrote it; nothing was changed, and the hosts' disks go on", nil)
		}
		s.array = new(arrayRecord)
		if err := json.Unmarshal(b.Get(keyArray), s.array); err != nil {
			return err
		}
		if err := load(tx.Bucket(bucketHosts), func(h *hostRecord) { s.hosts[h.Name] = h }); err != nil {
			return err
		}
		if err := load(tx.Bucket(bucketLUNs), func(l *lunRecord) { s.luns[l.NAA] = l }); err != nil {
			return err
		}
		if err := load(tx.Bucket(bucketSets), func(r *setRecord) { s.sets[r.ID] = r }); err != nil {
			return err
		}
		return tx.Bucket(bucketTrash).ForEach(func(k, _ []byte) error {
			if len(k) == 16 {
				s.trash[lun.NAA(k)] = true
			}
			return nil
		})
	})
	if err != nil {
		db.Close()
		var e *vss.Error
		if errors.As(err, &e) {
			return nil, e
		}
		return nil, refuse("the database cannot be read", "Restore "+path+" from a backup", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		db.Close()
		return nil, refuse("the database cannot be protected", "Check the array's folder", err)
	}
	return s, nil
}

func put(b *bolt.Bucket, key []byte, rec any) error {
	v, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return b.Put(key, v)
}

func load[T any](b *bolt.Bucket, keep func(*T)) error {
	return b.ForEach(func(_, v []byte) error {
		rec := new(T)
		if err := json.Unmarshal(v, rec); err != nil {
			return err
		}
		keep(rec)
		return nil
	})
}

func (s *state) close() { s.db.Close() }

func (s *state) identity() arrayRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return *s.array
}

func (s *state) host(name string) *hostRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hosts[name]
}

func (s *state) lun(n lun.NAA) *lunRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.luns[n]
}

func (s *state) set(id vss.ID) *setRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sets[id]
}

func (s *state) allHosts() []*hostRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.hosts))
}

func (s *state) allLUNs() []*lunRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.luns))
}

func (s *state) allSets() []*setRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.sets))
}

// hostOfSlot finds who a holder number of the store belongs to.
func (s *state) hostOfSlot(slot uint32) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, h := range s.hosts {
		if h.Slot == slot {
			return h.Name
		}
	}
	return "(removed host)"
}

// txn collects what one operation changes. Reads see its own writes. A nil
// value is a deletion.
type txn struct {
	s     *state
	array *arrayRecord
	hosts map[string]*hostRecord
	luns  map[lun.NAA]*lunRecord
	sets  map[vss.ID]*setRecord
	trash map[lun.NAA]bool
}

func (t *txn) host(name string) *hostRecord {
	if h, ok := t.hosts[name]; ok {
		return h
	}
	return t.s.host(name)
}

func (t *txn) lun(n lun.NAA) *lunRecord {
	if l, ok := t.luns[n]; ok {
		return l
	}
	return t.s.lun(n)
}

func (t *txn) set(id vss.ID) *setRecord {
	if r, ok := t.sets[id]; ok {
		return r
	}
	return t.s.set(id)
}

func (t *txn) putHost(h *hostRecord)       { t.hosts[h.Name] = h }
func (t *txn) dropHost(name string)        { t.hosts[name] = nil }
func (t *txn) putLUN(l *lunRecord)         { t.luns[l.NAA] = l }
func (t *txn) putSet(r *setRecord)         { t.sets[r.ID] = r }
func (t *txn) dropSet(id vss.ID)           { t.sets[id] = nil }
func (t *txn) setTrash(n lun.NAA, is bool) { t.trash[n] = is }

// dropLUN deletes the record, notes that its file is to be removed, and takes
// a copy out of its set; a set without copies is gone.
func (t *txn) dropLUN(l *lunRecord) {
	t.luns[l.NAA] = nil
	t.trash[l.NAA] = true
	t.leaveSet(l)
}

func (t *txn) leaveSet(l *lunRecord) {
	r := t.set(l.Set)
	if !l.Copy || r == nil {
		return
	}
	c := *r
	c.Targets = slices.DeleteFunc(slices.Clone(r.Targets), func(tg target) bool { return tg.Target == l.NAA })
	if len(c.Targets) == 0 {
		t.dropSet(c.ID)
		return
	}
	t.putSet(&c)
}

func (t *txn) edit() *arrayRecord {
	if t.array == nil {
		c := *t.s.array // writers are serial, so this is the latest
		t.array = &c
	}
	return t.array
}

// generation gives the next one. It is never given twice.
func (t *txn) generation() uint64 {
	a := t.edit()
	a.Generation++
	return a.Generation
}

// newNAA draws a name no LUN, set in preparation or deleted file has.
func (t *txn) newNAA() (lun.NAA, error) {
	for {
		n, err := identity.New(t.s.array.Prefix)
		if err != nil {
			return n, err
		}
		used := t.lun(n) != nil || t.trash[n]
		t.s.mu.RLock()
		used = used || t.s.trash[n]
		for _, r := range t.s.sets {
			used = used || slices.ContainsFunc(r.Targets, func(tg target) bool { return tg.Target == n })
		}
		t.s.mu.RUnlock()
		if !used {
			return n, nil
		}
	}
}

// update runs f and makes what it changed durable, or nothing of it. A
// transaction that changes nothing writes nothing. Once a commit failed its
// outcome is unknown, and the database refuses to change until the array is
// started again.
func (s *state) update(ctx context.Context, op string, f func(*txn) error) error {
	return s.run(ctx, op, f, true)
}

// rehearse runs f and forgets what it changed.
func (s *state) rehearse(ctx context.Context, op string, f func(*txn) error) error {
	return s.run(ctx, op, f, false)
}

func (s *state) run(ctx context.Context, op string, f func(*txn) error, write bool) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if ctx.Err() != nil {
		return given(ctx, op)
	}
	if s.broken != nil {
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: s.db.Path(), Reason: "the database failed before",
			Remedy: "Free space on the array's disk and restart the array", Err: s.broken}
	}
	t := &txn{s: s, hosts: map[string]*hostRecord{}, luns: map[lun.NAA]*lunRecord{}, sets: map[vss.ID]*setRecord{}, trash: map[lun.NAA]bool{}}
	if err := f(t); err != nil {
		return err
	}
	if !write || t.array == nil && len(t.hosts)+len(t.luns)+len(t.sets)+len(t.trash) == 0 {
		return nil
	}
	for n := range s.removed {
		if _, ok := t.trash[n]; !ok {
			t.trash[n] = false
		}
	}
	if err := s.db.Update(t.write); err != nil {
		s.broken = err
		return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: s.db.Path(), Reason: "the database cannot be written",
			Remedy: "Free space on the array's disk and restart the array", Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.array != nil {
		s.array = t.array
	}
	apply(s.hosts, t.hosts)
	apply(s.luns, t.luns)
	apply(s.sets, t.sets)
	for n, is := range t.trash {
		if is {
			s.trash[n] = true
		} else {
			delete(s.trash, n)
			delete(s.removed, n)
		}
	}
	return nil
}

// emptied notes that the files of these deleted LUNs are gone.
func (s *state) emptied(luns ...lun.NAA) {
	s.writer.Lock()
	defer s.writer.Unlock()
	for _, n := range luns {
		s.removed[n] = true
	}
}

func apply[K comparable, V any](to, from map[K]*V) {
	for k, v := range from {
		if v == nil {
			delete(to, k)
		} else {
			to[k] = v
		}
	}
}

func (t *txn) write(tx *bolt.Tx) error {
	if t.array != nil {
		if err := put(tx.Bucket(bucketArray), keyArray, t.array); err != nil {
			return err
		}
	}
	if err := writeAll(tx.Bucket(bucketHosts), t.hosts, func(k string) []byte { return []byte(k) }); err != nil {
		return err
	}
	if err := writeAll(tx.Bucket(bucketLUNs), t.luns, func(k lun.NAA) []byte { return k[:] }); err != nil {
		return err
	}
	if err := writeAll(tx.Bucket(bucketSets), t.sets, func(k vss.ID) []byte { return k[:] }); err != nil {
		return err
	}
	b := tx.Bucket(bucketTrash)
	for n, is := range t.trash {
		var err error
		if is {
			err = b.Put(n[:], []byte{1})
		} else {
			err = b.Delete(n[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeAll[K comparable, V any](b *bolt.Bucket, changes map[K]*V, key func(K) []byte) error {
	for k, v := range changes {
		var err error
		if v == nil {
			err = b.Delete(key(k))
		} else {
			err = put(b, key(k), v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// given is the error of a call its caller gave up.
func given(ctx context.Context, op string) error {
	return &vss.Error{Code: vss.E_ABORT, Op: op, Reason: "the call was given up", Remedy: "Repeat it with more time", Err: context.Cause(ctx)}
}

func (s *state) trashed(n lun.NAA) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.trash[n]
}

func (s *state) committed(id vss.ID) bool {
	r := s.set(id)
	return r != nil && r.State == setCommitted
}
