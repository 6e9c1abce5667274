package array

import (
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// What was asked for must be one backend, whole.
func TestBackendIsChosen(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // "" is refused
	}{
		{Config{}, "file"},
		{Config{Backend: "file"}, "file"},
		{Config{Backend: "lvmthin", VG: "san"}, "lvmthin"},
		{Config{Backend: "lvmthin", PoolData: "/dev/a", PoolMetadata: "/dev/b"}, "lvmthin"},
		{Config{Backend: "lvmthin"}, ""},
		{Config{Backend: "lvmthin", PoolData: "/dev/a"}, ""},
		{Config{Backend: "lvmthin", VG: "san", PoolData: "/dev/a"}, ""},
		{Config{Backend: "lvmthin", VG: "san", PoolData: "/dev/a", PoolMetadata: "/dev/b"}, ""},
		{Config{VG: "san"}, ""},
		{Config{Backend: "file", VG: "san"}, ""},
		{Config{Backend: "tape"}, ""},
	} {
		c.cfg.Dir, c.cfg.AdminSocket, c.cfg.DataSocket = "/d", "/a", "/b"
		got, err := c.cfg.complete()
		if (err == nil) != (c.want != "") || err == nil && got.Backend != c.want {
			t.Errorf("%+v: %s, %v", c.cfg, got.Backend, err)
		}
		if err != nil {
			wantCode(t, err, vss.E_INVALIDARG)
		}
	}
}

// An array keeps the backend it was made with: with another all LUNs were lost.
func TestBackendIsKept(t *testing.T) {
	r := newRig(t)
	r.shutdown()
	other := r.cfg
	other.Backend, other.VG = "lvmthin", "no-such-group"
	a, err := Open(t.Context(), other)
	if err == nil {
		a.Close()
	}
	wantCode(t, err, vss.VSS_E_BAD_STATE, "backend file")
	r.start()
}
