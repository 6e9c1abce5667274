package service_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// made makes a set of one volume on this machine and returns the object.
func (m *machine) made(c vss.Context, volume string, want vss.HResult) (*requester.BackupComponents, error) {
	m.T.Helper()
	ctx := m.T.Context()
	bc := m.Initialised(c)
	done := func(op *requester.Async, err error) error {
		if err != nil {
			return err
		}
		code, err := op.Wait(ctx)
		if err == nil && code != vss.VSS_S_ASYNC_FINISHED {
			err = code
		}
		return err
	}
	err := bc.SetBackupState(ctx, false, false, vss.BT_COPY, false)
	if c.Writers() {
		err = errors.Join(err, done(bc.GatherWriterMetadata(ctx)))
	}
	_, serr := bc.StartSnapshotSet(ctx)
	_, aerr := bc.AddToSnapshotSet(ctx, volume, vss.GUIDNull)
	err = errors.Join(err, serr, aerr)
	if c.Writers() {
		err = errors.Join(err, done(bc.PrepareForBackup(ctx)))
	}
	if err != nil {
		m.T.Fatal(err)
	}
	err = done(bc.DoSnapshotSet(ctx))
	if vss.CodeOf(err) != want {
		m.T.Fatalf("DoSnapshotSet: %v, want %v", err, want)
	}
	return bc, err
}

// only returns the one copy there is.
func (m *machine) only() (c catalog.Copy) {
	m.T.Helper()
	_ = m.Catalog.View(func(t *catalog.Tx) error {
		cs, err := t.Copies()
		if len(cs) != 1 {
			m.T.Fatalf("%d copies, %v", len(cs), err)
		}
		c = cs[0]
		return err
	})
	return c
}

// TestLifetimes: how long a copy lives follows from the context its set was
// created in, on the machine that imported it and, if it does not travel, on
// the one that made it.
func TestLifetimes(t *testing.T) {
	for _, c := range []vss.Context{vss.CTX_BACKUP, vss.CTX_FILE_SHARE_BACKUP, vss.CTX_APP_ROLLBACK, vss.CTX_NAS_ROLLBACK} {
		for _, how := range []string{"imported", "made here"} {
			t.Run(c.String()+" "+how, func(t *testing.T) {
				m := newMachine(t)
				originals := 0
				attributes := c.Attributes() | vss.ATTR_HARDWARE_ASSISTED | vss.ATTR_NOT_SURFACED
				var bc *requester.BackupComponents
				if how == "imported" {
					bc = m.Imported(servicetest.NewSet(c, m.A), vss.VSS_S_ASYNC_FINISHED)
					attributes |= vss.ATTR_IMPORTED | vss.ATTR_TRANSPORTABLE
				} else {
					bc, _ = m.made(c, m.Volume("v"), vss.S_OK)
					originals = 1
				}
				there := func(when, boot string) {
					t.Helper()
					k := m.only()
					if k.Prop.Attributes != attributes || k.AutoRelease != c.AutoRelease() || k.BootID != boot || k.Prop.DeviceObject == "" {
						t.Errorf("%s: attributes %s, want %s: %+v", when, k.Prop.Attributes, attributes, k)
					}
					if a, n := len(m.Host.Attached()), len(m.Host.Mounts()); a < 1 || n != 1 || !slices.Contains(m.Host.Hidden(), k.Attachments[0].LUN.Name()) {
						t.Errorf("%s: %d disks attached, %d mounted, hidden %v", when, a, n, m.Host.Hidden())
					}
				}
				there("while its requester lives", "boot1")
				if err := bc.Close(); err != nil {
					t.Fatal(err)
				}
				if c.AutoRelease() {
					if cs, ls, is := m.Count(); cs+ls+is != 0 || len(m.A.Names()) != originals || len(m.Host.Mounts()) != 0 {
						t.Errorf("its requester has gone: %d copies, %d LUNs, %d intents; on the array %v", cs, ls, is, m.A.Names())
					}
					return
				}
				there("when its requester has gone", "boot1")
				m.Stop()
				m.Boot("boot1")
				if k := m.only(); k.Prop.Attributes != attributes || k.BootID != "boot1" {
					t.Errorf("after a restart: %+v", k)
				}
				m.Stop()
				m.Host.Reboot()
				m.Boot("boot2")
				there("after a reboot", "boot2")
				if e := m.Host.Exposed(); len(e) != 0 {
					t.Errorf("udev saw %v", e)
				}
				id := m.only().Prop.SnapshotSetID
				d, _, err := m.Initialised(vss.CTX_ALL).DeleteSnapshots(t.Context(), id, vss.OBJECT_SNAPSHOT_SET, false)
				if cs, ls, _ := m.Count(); err != nil || d != 1 || cs+ls != 0 || len(m.A.Names()) != originals {
					t.Errorf("deleted %d, %v; %d copies and %d LUNs left", d, err, cs, ls)
				}
				if how == "made here" && m.createdState(id) != catalog.SetDeleted {
					t.Errorf("the set's record says %s", m.createdState(id))
				}
			})
		}
	}
}

// TestLifeEndsAtBoot: a copy that is neither persistent nor auto-release
// outlives its requester and the service, and ends with the boot.
func TestLifeEndsAtBoot(t *testing.T) {
	m := newMachine(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
	_ = m.Imported(d, vss.VSS_S_ASYNC_FINISHED).Close()
	// No context that can be set has such copies.
	c := m.only()
	c.Prop.Attributes &^= vss.ATTR_PERSISTENT
	if err := m.Catalog.Update(t.Context(), func(tx *catalog.Tx) error { return tx.PutCopy(c) }); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	m.Boot("boot1")
	if m.only(); len(m.A.Names()) != 1 || len(m.Host.Mounts()) != 1 {
		t.Error("it went with the service")
	}
	m.Stop()
	m.Host.Reboot()
	m.Boot("boot2")
	if cs, ls, is := m.Count(); cs+ls+is != 0 || len(m.A.Names()) != 0 || len(m.Host.Hidden()) != 0 {
		t.Errorf("%d copies, %d LUNs, %d intents left; on the array %v", cs, ls, is, m.A.Names())
	}
	if !m.HasEvent("recovery.auto-released") {
		t.Error("no event")
	}
}

// TestMadeHere: the copies are attached when the hold is long over, and by the
// steps of an import.
func TestMadeHere(t *testing.T) {
	m := newMachine(t)
	v := m.Volume("v")
	bc, _ := m.made(vss.CTX_NAS_ROLLBACK, v, vss.S_OK)
	j := m.Journal
	order := []int{j.Index("Freeze"), j.Index("Thaw"), j.Index("Hide 1"), j.Index("Watch"), j.Index("BeginImport"), j.Index("LocateLUNs"), j.Index("Rescan 1"), j.Index("SetReadOnly"), j.Index("MountClone")}
	if !slices.IsSorted(order) || order[0] < 0 {
		t.Errorf("order of calls: %v", j.Calls())
	}
	c := m.only()
	p, err := bc.GetSnapshotProperties(t.Context(), c.Prop.SnapshotID)
	if err != nil || p.OriginalVolumeName != v || p.OriginatingMachine != "h" || p.DeviceObject == "" {
		t.Errorf("%+v, %v", p, err)
	}
	folder := m.folder("exposed")
	if _, err := bc.ExposeSnapshot(t.Context(), c.Prop.SnapshotID, "", vss.ATTR_EXPOSED_LOCALLY, folder); err != nil {
		t.Error(err)
	}
	var luns []catalog.LUN
	_ = m.Catalog.View(func(t *catalog.Tx) (err error) { luns, err = t.LUNs(); return err })
	if len(luns) != 1 || luns[0].State != catalog.LUNImported {
		t.Errorf("%+v", luns)
	}
	// Without a ticket nobody else may import it, and its document says so.
	xml, err := bc.SaveAsXML(t.Context())
	if err != nil || strings.Contains(string(xml), "<ticket") {
		t.Errorf("%v: %s", err, xml)
	}
	imp := m.Open()
	if err := imp.InitializeForBackup(t.Context(), xml); err != nil {
		t.Fatal(err)
	}
	wait(t, "import where it was made", vss.VSS_E_NONTRANSPORTABLE_BCD)(imp.ImportSnapshots(t.Context()))
}

// TestMadeHereFails: a copy that cannot be shown fails the whole set, in a code
// that DoSnapshotSet has, and nothing is left.
func TestMadeHereFails(t *testing.T) {
	veto := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Object: "lun", Reason: "its original is attached in the cluster", Remedy: "Import outside the cluster"}
	for name, c := range map[string]struct {
		cause func(m *machine)
		want  vss.HResult
		held  bool // writes were held by then
	}{
		"the array refuses":                    {func(m *machine) { m.A.Fail("LocateLUNs", veto) }, vss.VSS_E_PROVIDER_VETO, true},
		"the provider answers what it may not": {func(m *machine) { m.A.Fail("LocateLUNs", errors.New("boom")) }, vss.VSS_E_UNEXPECTED_PROVIDER_ERROR, true},
		"no memory": {func(m *machine) {
			m.Host.Fail("Hide", &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "hide", Object: "rules", Reason: "no memory", Remedy: "Free some"})
		}, vss.E_OUTOFMEMORY, true},
		"a LUN does not come": {func(m *machine) {
			m.A.On("LocatedLUNs", func(context.Context) error {
				for _, n := range m.A.Names() {
					m.Host.Delay(n, servicetest.Never)
				}
				return nil
			})
		}, vss.VSS_E_UNEXPECTED, true},
		"another filesystem is on it": {func(m *machine) {
			m.A.On("LocatedLUNs", func(context.Context) error {
				for _, n := range m.A.Names() {
					m.A.Change(n, func(l *servicetest.LUN) { l.Filesystem = filesystem.Identity{Type: "xfs"} })
				}
				return nil
			})
		}, vss.VSS_E_UNEXPECTED, true},
		"the provider panics":       {func(m *machine) { m.A.On("LocatedLUNs", func(context.Context) error { panic("boom") }) }, vss.VSS_E_UNEXPECTED, true},
		"the machine cannot attach": {func(m *machine) { m.Host.Fail("Ready", errors.New("no loop devices")) }, vss.VSS_E_PROVIDER_VETO, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			v := m.Volume("v")
			c.cause(m)
			_, err := m.made(vss.CTX_NAS_ROLLBACK, v, c.want)
			is(t, "DoSnapshotSet", err, c.want)
			if e := vss.AsError("", err); e.EventID == "" && c.held {
				t.Errorf("no event: %+v", e)
			}
			if held := m.Journal.Index("Freeze") >= 0; held != c.held {
				t.Errorf("writes were held: %t", held)
			}
			if cs, ls, in := m.Count(); cs+ls+in != 0 || len(m.A.Names()) != 1 || len(m.Host.Attached()) != 1 || len(m.Host.Hidden()) != 1 || len(m.Host.Mounts()) != 0 {
				t.Errorf("%d copies, %d LUNs, %d intents; array %v, attached %v, hidden %v, mounts %v", cs, ls, in, m.A.Names(), m.Host.Attached(), m.Host.Hidden(), m.Host.Mounts())
			}
		})
	}
}

// TestSetContext: every context and modifier as requester.md 5.1 and 5.2 have
// them, asked of the service.
func TestSetContext(t *testing.T) {
	m := newMachine(t)
	v := m.Volume("v")
	for _, c := range []struct {
		context    vss.Context
		add        vss.Attributes
		set, start vss.HResult
		addVolume  vss.HResult
	}{
		{vss.CTX_BACKUP, 0, vss.S_OK, vss.S_OK, vss.S_OK},
		{vss.CTX_NAS_ROLLBACK, vss.ATTR_DIFFERENTIAL | vss.ATTR_NOT_TRANSACTED | vss.ATTR_NO_AUTORECOVERY, vss.S_OK, vss.S_OK, vss.S_OK},
		{vss.CTX_APP_ROLLBACK, vss.ATTR_ROLLBACK_RECOVERY | vss.ATTR_TXF_RECOVERY, vss.S_OK, vss.S_OK, vss.S_OK},
		{vss.CTX_CLIENT_ACCESSIBLE, 0, vss.S_OK, vss.S_OK, vss.VSS_E_VOLUME_NOT_SUPPORTED},
		{vss.CTX_CLIENT_ACCESSIBLE_WRITERS, 0, vss.S_OK, vss.S_OK, vss.VSS_E_VOLUME_NOT_SUPPORTED},
		{vss.CTX_ALL, 0, vss.S_OK, vss.VSS_E_BAD_STATE, 0},
		{vss.CTX_CLIENT_ACCESSIBLE, vss.ATTR_NO_AUTORECOVERY, vss.E_INVALIDARG, 0, 0},
		{vss.CTX_CLIENT_ACCESSIBLE_WRITERS, vss.ATTR_TRANSPORTABLE, vss.E_INVALIDARG, 0, 0},
		{vss.CTX_NAS_ROLLBACK, vss.ATTR_DIFFERENTIAL | vss.ATTR_PLEX, vss.E_INVALIDARG, 0, 0},
		{vss.CTX_APP_ROLLBACK, vss.ATTR_AUTORECOVER, vss.E_INVALIDARG, 0, 0},
		{vss.CTX_APP_ROLLBACK, vss.ATTR_AUTORECOVER | vss.ATTR_TRANSPORTABLE, vss.VSS_E_UNSUPPORTED_CONTEXT, 0, 0},
		{vss.CTX_APP_ROLLBACK, vss.ATTR_ROLLBACK_RECOVERY | vss.ATTR_TRANSPORTABLE, vss.VSS_E_UNSUPPORTED_CONTEXT, 0, 0},
		{vss.CTX_BACKUP, vss.ATTR_NO_AUTO_RELEASE, vss.E_INVALIDARG, 0, 0},
	} {
		name := c.context.String() + " | " + c.add.String()
		bc := m.Open()
		if err := bc.InitializeForBackup(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		err := bc.SetContext(t.Context(), c.context|vss.Context(c.add))
		is(t, name+": SetContext", err, c.set)
		if err != nil {
			continue
		}
		_, err = bc.StartSnapshotSet(t.Context())
		is(t, name+": StartSnapshotSet", err, c.start)
		if err == nil {
			_, err = bc.AddToSnapshotSet(t.Context(), v, vss.GUIDNull)
			is(t, name+": AddToSnapshotSet", err, c.addVolume)
			ok, serr := bc.IsVolumeSupported(t.Context(), vss.GUIDNull, v)
			if serr != nil || ok != (err == nil) {
				t.Errorf("%s: IsVolumeSupported: %t, %v", name, ok, serr)
			}
			if c.addVolume == vss.VSS_E_VOLUME_NOT_SUPPORTED {
				_, err = bc.AddToSnapshotSet(t.Context(), v, m.A.ID)
				is(t, name+": AddToSnapshotSet with a provider", err, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER)
			}
		}
		if err := errors.Join(bc.AbortBackup(t.Context()), bc.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestEmptySet: a backup of writers that have no files on volumes goes through
// all its calls; without writers an empty set is a mistake (requester.md 2.2).
func TestEmptySet(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	wait := func(op *requester.Async, err error) error {
		t.Helper()
		if err == nil {
			_, err = op.Wait(ctx)
		}
		return err
	}
	transportable := vss.Context(vss.ATTR_TRANSPORTABLE)
	bc := m.Initialised(vss.CTX_BACKUP | transportable)
	err := bc.SetBackupState(ctx, true, false, vss.BT_FULL, false)
	if err == nil {
		err = wait(bc.GatherWriterMetadata(ctx))
	}
	if err == nil {
		_, err = bc.StartSnapshotSet(ctx)
	}
	if err == nil {
		err = errors.Join(wait(bc.PrepareForBackup(ctx)), wait(bc.DoSnapshotSet(ctx)), wait(bc.BackupComplete(ctx)))
	}
	if err == nil {
		_, err = bc.SaveAsXML(ctx)
	}
	if err != nil {
		t.Errorf("with writers: %v", err)
	}
	without := m.Initialised(nasTransportable)
	if _, err := without.StartSnapshotSet(ctx); err != nil {
		t.Fatalf("the place was not given back: %v", err)
	}
	is(t, "without writers", wait(without.DoSnapshotSet(ctx)), vss.VSS_E_BAD_STATE)
}
