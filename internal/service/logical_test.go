package service_test

import (
	"context"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/host/volume"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestLogicalVolumeMoves: LVM may move a volume whatever is frozen. A set that
// was made meanwhile is of other bytes, and fails.
func TestLogicalVolumeMoves(t *testing.T) {
	const uuid = "aUt5mI-C6Ul-ejVp-w5FO-gTFk-a1y3-Zw45ZB"
	at := func(v *volume.Volume, offset uint64) {
		v.Members[0].Segments = []lun.Segment{{Extents: []lun.Extent{{Offset: offset, Length: servicetest.Size / 4}}}}
	}
	for name, c := range map[string]struct {
		move func(m *machine, path string)
		want vss.HResult
	}{
		"it stays": {func(*machine, string) {}, vss.S_OK},
		"it moves": {func(m *machine, path string) {
			m.Host.ChangeVolume(path, func(v *volume.Volume) { at(v, servicetest.Size/2) })
		}, vss.VSS_E_HOLD_WRITES_TIMEOUT},
		"it goes to another disk": {func(m *machine, path string) {
			other := m.Volume("other")
			v, err := m.Host.Resolve(t.Context(), other)
			if err != nil {
				t.Error(err)
			}
			m.Host.ChangeVolume(path, func(x *volume.Volume) { x.Members[0].Disks = v.Members[0].Disks })
		}, vss.VSS_E_HOLD_WRITES_TIMEOUT},
		"it is gone": {func(m *machine, path string) {
			m.Host.Fail("Resolve", &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "resolve volume", Object: path, Reason: "gone", Remedy: "none"})
		}, vss.VSS_E_HOLD_WRITES_TIMEOUT},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			path := m.Volume("v")
			m.Host.ChangeVolume(path, func(v *volume.Volume) {
				at(v, 0)
				v.Members[0].Logical = &document.LogicalVolume{Group: "data", GroupUUID: uuid, Name: "db", UUID: uuid,
					Disks: []document.PhysicalVolume{{UUID: uuid}}}
			})
			m.Host.On("Thaw", func(context.Context) error { c.move(m, path); return nil })
			bc, err := m.made(vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE), path, c.want)
			if c.want == vss.S_OK {
				xml, err := bc.SaveAsXML(t.Context())
				if err != nil || !strings.Contains(string(xml), `<logicalVolume group="data"`) {
					t.Errorf("%v: the document does not say what it is called\n%s", err, xml)
				}
				return
			}
			is(t, "DoSnapshotSet", err, c.want)
			if !strings.Contains(err.Error(), "LVM moved or changed") || len(m.A.Names()) > 2 {
				t.Errorf("%v, LUNs %v", err, m.A.Names())
			}
		})
	}
}
