package array

import (
	"errors"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestNVMeBundle: an array with NVMe portals gives a part that older hosts do not
// take for less, with the secrets that its target has, and nothing in it can be
// more than a value among the kernel's options.
func TestNVMeBundle(t *testing.T) {
	o := newFakeExport()
	r := newRig(t, func(c *Config) { c.exporters = map[export.Kind]exporter{export.NVMe: o} })
	raw, err := r.admin.EnrollHost(t.Context(), "hosta", "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.ParseBundle(raw)
	if err != nil || b.Version != client.BundleVersionTransports || b.ISCSI != nil || b.NVMe == nil || !b.Remote() {
		t.Fatalf("version %d, %+v, %v", b.Version, b.NVMe, err)
	}
	p := o.peers["nqn.2026-01.io.umbra:hosta"]
	if p.Initiates.Password != b.NVMe.Secret || p.Answers.Password != b.NVMe.ArraySecret || b.NVMe.Host != p.Initiator || len(b.NVMe.Secret) < 64 {
		t.Errorf("the target has %+v, the bundle %+v", p, b.NVMe)
	}
	n, _ := r.lun(16<<20, "hosta")
	if _, err := r.dial(raw).ExportLUNs(t.Context(), export.NVMe, []lun.NAA{n}); err != nil {
		t.Error(err)
	}
	wantMaps(t, o, n, "nqn.2026-01.io.umbra:hosta#1:rw")
	for what, spoil := range map[string]func(*client.NVMe){
		"a name for a portal":         func(i *client.NVMe) { i.Portals = []string{"array:4420"} },
		"no portal":                   func(i *client.NVMe) { i.Portals = nil },
		"another option in a secret":  func(i *client.NVMe) { i.Secret += ",discovery" },
		"another option in a name":    func(i *client.NVMe) { i.Subsystem += ",hostnqn=nqn.other" },
		"no secret":                   func(i *client.NVMe) { i.ArraySecret = "" },
		"one secret for both":         func(i *client.NVMe) { i.Secret = i.ArraySecret },
		"a line in the host's name":   func(i *client.NVMe) { i.Host += "\nx" },
		"no name for the host at all": func(i *client.NVMe) { i.Host = "" },
	} {
		c := *b.NVMe
		spoil(&c)
		bad := b
		bad.NVMe = &c
		raw, err := bad.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.ParseBundle(raw); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
