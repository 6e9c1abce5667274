package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

const remotely = vss.ATTR_EXPOSED_REMOTELY

// TestExposeRemotely is requester.md 2.5, the part about shares.
func TestExposeRemotely(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	id, second := d.Set.Snapshots[0].ID, d.Set.Snapshots[1].ID
	for what, tt := range map[string]struct {
		id         vss.ID
		path, name string
		want       vss.HResult
	}{
		"unknown copy": {vss.NewID(), "", "docs", vss.VSS_E_OBJECT_NOT_FOUND},
		"wildcard":     {id, "a/*", "docs", vss.E_INVALIDARG},
		"variable":     {id, "%TEMP%", "docs", vss.E_INVALIDARG},
		"upwards":      {id, "../etc", "docs", vss.E_INVALIDARG},
		"bad name":     {id, "", "do cs", vss.E_INVALIDARG},
	} {
		got, err := bc.ExposeSnapshot(ctx, tt.id, tt.path, remotely, tt.name)
		if is(t, what, err, tt.want); got != "" {
			t.Errorf("%s: exposed as %q", what, got)
		}
	}
	m.Shares.Unconfigure(true)
	_, err := bc.ExposeSnapshot(ctx, id, "", remotely, "docs")
	is(t, "no file server", err, vss.VSS_E_NOT_SUPPORTED)
	m.Shares.Unconfigure(false)

	// A failure at any step leaves nothing.
	for _, step := range []string{"Free", "MountShare", "Publish"} {
		m.Host.Fail(step, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: step, Reason: "r", Remedy: "R"})
		_, err := bc.ExposeSnapshot(ctx, id, "", remotely, "docs")
		is(t, step, err, vss.VSS_E_UNEXPECTED)
		m.Host.Fail(step, nil)
		if _, _, n := m.Count(); n != 0 || len(m.Host.Mounts()) != 2 || len(m.Shares.Published()) != 0 {
			t.Errorf("%s: %d intents, mounts %v, shares %v", step, n, m.Host.Mounts(), m.Shares.Published())
		}
	}

	m.Journal.Reset()
	got, err := bc.ExposeSnapshot(ctx, id, "/a/b/", remotely, "docs")
	if is(t, "Expose", err, vss.S_OK); got != "docs" {
		t.Errorf("exposed as %q", got)
	}
	if c := m.Journal.Calls(); !slices.Equal(c, []string{"MountShare a/b", "Publish"}) {
		t.Errorf("calls %v", c)
	}
	p, _ := bc.GetSnapshotProperties(ctx, id)
	if p.ExposedName != "docs" || p.ExposedPath != "a/b" || !p.Attributes.Has(remotely) || p.Attributes.Has(vss.ATTR_NOT_SURFACED) || p.Attributes.Has(vss.ATTR_EXPOSED_LOCALLY) {
		t.Errorf("%+v", p)
	}
	_, err = bc.ExposeSnapshot(ctx, id, "", remotely, "more")
	is(t, "Expose again", err, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	_, err = bc.ExposeSnapshot(ctx, id, "", vss.ATTR_EXPOSED_LOCALLY, m.folder("x"))
	is(t, "Expose locally, too", err, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	_, err = bc.ExposeSnapshot(ctx, second, "", remotely, "DOCS")
	is(t, "another copy under the name", err, vss.VSS_E_OBJECT_ALREADY_EXISTS)
	got, err = bc.ExposeSnapshot(ctx, second, "", remotely, "")
	if is(t, "without a name", err, vss.S_OK); got != "umbra-"+second.Bare()[:8] {
		t.Errorf("exposed as %q", got)
	}

	// In use: the share is what the record says it is.
	m.Host.Fail("Unmount", &vss.Error{Code: vss.VSS_E_VOLUME_IN_USE, Op: "unmount", Reason: "r", Remedy: "R"})
	is(t, "Unexpose in use", bc.UnexposeSnapshot(ctx, id), vss.VSS_E_VOLUME_IN_USE)
	if !slices.Contains(m.Shares.Published(), "docs") {
		t.Error("the record says shared, and it is not")
	}
	m.Host.Fail("Unmount", nil)
	m.Journal.Reset()
	is(t, "Unexpose", bc.UnexposeSnapshot(ctx, id), vss.S_OK)
	if c := m.Journal.Calls(); !slices.Equal(c, []string{"Withdraw", "Unmount"}) {
		t.Errorf("calls %v", c)
	}
	p, _ = bc.GetSnapshotProperties(ctx, id)
	if p.ExposedName != "" || p.ExposedPath != "" || p.Attributes.Has(remotely) || !p.Attributes.Has(vss.ATTR_NOT_SURFACED) {
		t.Errorf("%+v", p)
	}
	is(t, "Unexpose again", bc.UnexposeSnapshot(ctx, id), vss.VSS_E_OBJECT_NOT_FOUND)

	// Deleting takes the share away before anything else.
	m.Journal.Reset()
	_, _, err = bc.DeleteSnapshots(ctx, second, vss.OBJECT_SNAPSHOT, false)
	is(t, "Delete", err, vss.S_OK)
	if c := m.Journal.Calls(); len(c) < 4 || !slices.Equal(c[:4], []string{"Withdraw", "Unmount", "Unmount", "Detach"}) {
		t.Errorf("calls %v", c)
	}

	auto := servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, m.B)
	bc = m.Imported(auto, vss.VSS_S_ASYNC_FINISHED)
	_, err = bc.ExposeSnapshot(ctx, auto.Set.Snapshots[0].ID, "", remotely, "auto")
	is(t, "an auto-release copy", err, vss.VSS_E_UNSUPPORTED_CONTEXT)
}

// TestUnmountedIsNotShared: a copy that has no device object has no files.
func TestUnmountedIsNotShared(t *testing.T) {
	m := newMachine(t)
	m.Host.Fail("MountClone", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "mount", Reason: "r", Remedy: "R"})
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	_, err := bc.ExposeSnapshot(t.Context(), d.Set.Snapshots[0].ID, "", remotely, "docs")
	is(t, "Expose", err, vss.VSS_E_VOLUME_NOT_SUPPORTED)
}

// TestSharesComeBack: over a reboot, with their copy; without it they are
// taken from the file server, which remembers them.
func TestSharesComeBack(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A, m.B)
	bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
	first, second := d.Set.Snapshots[0].ID, d.Set.Snapshots[1].ID
	for id, name := range map[vss.ID]string{first: "one", second: "two"} {
		if _, err := bc.ExposeSnapshot(ctx, id, "sub", remotely, name); err != nil {
			t.Fatal(err)
		}
	}
	m.Stop()
	m.Host.Reboot()
	m.Boot("boot2")
	shared := func(want ...string) {
		t.Helper()
		var mounts []string
		for _, x := range m.Host.Mounts() {
			if n, ok := strings.CutPrefix(x, "share:"); ok {
				mounts = append(mounts, n)
			}
		}
		if got := m.Shares.Published(); !slices.Equal(got, want) || !slices.Equal(mounts, want) {
			t.Errorf("shares %v, mounts %v, want %v", got, mounts, want)
		}
	}
	shared("one", "two")

	m.Stop()
	m.Host.Reboot()
	late := d.Set.Snapshots[0].LUNs[0].Target.Name()
	m.Host.Delay(late, servicetest.Never)
	m.Boot("boot3")
	shared("two")
	p, err := m.Initialised(vss.CTX_ALL).GetSnapshotProperties(ctx, first)
	if err != nil || p.ExposedName != "one" {
		t.Errorf("%+v, %v", p, err)
	}
	m.Stop()
	m.Host.Reboot()
	m.Host.Undelay(late)
	m.Boot("boot4")
	shared("one", "two")

	// A share that cannot be made again is said to be lost.
	m.Stop()
	m.Host.Reboot()
	m.Host.Fail("Publish", errors.New("broken"))
	m.Boot("boot5")
	m.Host.Fail("Publish", nil)
	shared()
	p, err = m.Initialised(vss.CTX_ALL).GetSnapshotProperties(ctx, first)
	if err != nil || p.ExposedName != "" || p.Attributes.Has(remotely) || !m.HasEvent("recovery.exposure-lost") {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestShareIsTakenBack: made, but not on record, at each point of the making.
func TestShareIsTakenBack(t *testing.T) {
	for _, point := range []string{"share.after-intent", "share.after-publish"} {
		t.Run(point, func(t *testing.T) {
			m := newMachine(t)
			d := servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A)
			bc := m.Imported(d, vss.VSS_S_ASYNC_FINISHED)
			m.cut(point, func() {
				if _, err := bc.ExposeSnapshot(t.Context(), d.Set.Snapshots[0].ID, "", remotely, "docs"); err == nil {
					t.Error("no error")
				}
			})
			if made := len(m.Shares.Published()); (made != 0) != strings.HasSuffix(point, "publish") {
				t.Fatalf("%d shares", made)
			}
			m.Boot("boot1")
			if _, _, n := m.Count(); n != 0 || len(m.Shares.Published()) != 0 || slices.Contains(m.Host.Mounts(), "share:docs") {
				t.Errorf("%d intents, shares %v, mounts %v", n, m.Shares.Published(), m.Host.Mounts())
			}
		})
	}
}
