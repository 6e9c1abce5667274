package deaths

import (
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/failpoint"
	// Their failpoints are what is gone through.
	_ "github.com/umbra-vss/umbra/internal/array/export/iscsi"
	_ "github.com/umbra-vss/umbra/internal/array/export/nvme"
	_ "github.com/umbra-vss/umbra/internal/host/attach/iscsi"
	_ "github.com/umbra-vss/umbra/internal/host/attach/nvme"
	"github.com/umbra-vss/umbra/test/crash"
)

// points is when who dies, in the order in which it comes.
type points struct {
	arrayImport, arrayDelete        []string // the array, while b imports and deletes
	imports, deletes, cleans, shows []string // b's daemon
}

// TestKilledISCSI: over iSCSI at each of them.
func TestKilledISCSI(t *testing.T) {
	p := points{
		arrayImport: []string{"array.locate.before-record", "array.locate.after-record", "array.export.before-record", "array.export.after-record",
			"export.iscsi.after-backstore", "export.iscsi.after-lun", "export.iscsi.after-link", "array.export.after-map"},
		arrayDelete: []string{"array.unexport.after-record", "export.iscsi.after-unmap", "export.iscsi.after-withdraw"},
		imports: []string{"import.after-intent", "import.before-locate", "import.after-locate", "host.hide.after-rule", "import.after-hide", "iscsi.after-export", "iscsi.after-login", "iscsi.after-arrive",
			"import.after-arrive", "import.after-verify", "import.after-surface", "host.mount.after-mount", "import.after-mount", "import.after-record"},
		deletes: []string{"delete.after-intent", "host.mount.after-unmount", "delete.after-unmount", "iscsi.after-remove", "iscsi.after-close", "delete.after-detach", "host.hide.after-removal", "delete.after-lun-empty"},
		cleans:  []string{"cleanup.after-intent", "cleanup.after-mask"},
		shows:   []string{"expose.after-intent", "expose.after-mount", "unexpose.after-unmount"},
	}
	through(t, p, "iscsi", "--iscsi-portal 3260")
}

// TestKilledNVMe: over NVMe, where something else is done than over iSCSI.
func TestKilledNVMe(t *testing.T) {
	p := points{
		arrayImport: []string{"array.export.after-record", "export.nvme.after-device", "export.nvme.after-namespace", "array.export.after-map"},
		arrayDelete: []string{"array.unexport.after-record", "export.nvme.after-unmap"},
		imports:     []string{"nvme.after-export", "nvme.after-connect", "nvme.after-arrive", "import.after-arrive", "import.after-mount"},
		deletes:     []string{"delete.after-unmount", "nvme.after-close", "nvme.after-gone", "delete.after-detach"},
		cleans:      []string{"cleanup.after-mask"},
		shows:       []string{"expose.after-mount"},
	}
	through(t, p, "nvme", "--nvme-portal 4420")
}

// through goes through the points, on one site.
func through(t *testing.T, p points, transport, portal string) {
	all := slices.Concat(p.arrayImport, p.arrayDelete, p.imports, p.deletes)
	for _, n := range failpoint.Names() {
		if (strings.HasPrefix(n, transport+".") || strings.HasPrefix(n, "export."+transport+".")) && !slices.Contains(all, n) {
			t.Errorf("nobody dies at %s", n)
		}
	}
	s := newSite(t, transport, portal)
	for i := range max(len(p.imports), len(p.deletes)) {
		s.host(at(p.imports, i), at(p.deletes, i))
	}
	for i := range max(len(p.cleans), len(p.shows)) {
		s.cleanAndShow(at(p.cleans, i), at(p.shows, i))
	}
	s.swap("")
	for i := range max(len(p.arrayImport), len(p.arrayDelete)) {
		s.arrays(at(p.arrayImport, i), at(p.arrayDelete, i))
	}
	s.enter()
}

func at(points []string, i int) string {
	if i < len(points) {
		return points[i]
	}
	return ""
}

// swap replaces b's daemon by one that dies at a point.
func (s *site) swap(point string) {
	s.t.Helper()
	s.daemon.Stop()
	s.live(point)
}

// host lets b's daemon die in an import, and in the deletion of what the next
// import brought.
func (s *site) host(importing, deleting string) {
	s.t.Helper()
	set := s.create()
	// What happens in a deletion only can be armed before the import.
	early, late := deleting, ""
	if !strings.HasPrefix(deleting, "delete.") {
		early, late = "", deleting
	}
	if importing != "" {
		s.swap(importing)
		told, _ := s.told(s.b, "umbra import /root/set.umbra")
		s.killed(s.daemon, importing)
		s.live(early)
		s.accounted(importing)
		after := "imported"
		if s.b.Sh("umbra list copies --output json | grep -c %s || true", strings.Trim(set, "{}")) == "0" {
			after = "nothing is imported; the LUNs are listed until `umbra cleanup`, after which the import works"
			if !strings.Contains(s.b.Sh("umbra list luns --orphaned"), "naa.") {
				after = "nothing is imported, and no LUN was unmasked; the import works after `umbra cleanup`"
			}
			s.b.Sh("umbra cleanup %s", set)
			s.nothing(importing, 1)
			s.b.Sh("umbra import /root/set.umbra")
		}
		s.whole(importing)
		s.died(importing, "B's daemon", "import", told, after)
	} else {
		s.swap(early)
		s.b.Sh("umbra import /root/set.umbra")
	}
	if late != "" {
		s.swap(late)
	}
	if deleting == "" {
		s.b.Sh("umbra delete set %s", set)
		s.nothing(importing, 0)
		return
	}
	told, _ := s.told(s.b, "umbra delete set "+set)
	s.killed(s.daemon, deleting)
	s.live("")
	after := "deleted at the start"
	if s.b.Sh("umbra list copies --output json | grep -c %s || true", strings.Trim(set, "{}")) != "0" {
		after = "what was begun is deleted at the start, the rest when the command is given again"
		s.b.Sh("umbra delete set %s", set)
	}
	s.nothing(deleting, 0)
	s.died(deleting, "B's daemon", "delete of an imported set", told, after)
}

// cleanAndShow lets it die while it cleans up after an import that was broken off,
// and while a copy is exposed.
func (s *site) cleanAndShow(cleaning, showing string) {
	s.t.Helper()
	set := s.create()
	if cleaning != "" {
		s.swap("import.after-arrive")
		s.told(s.b, "umbra import /root/set.umbra")
		s.killed(s.daemon, "import.after-arrive")
		s.live(cleaning)
		told, _ := s.told(s.b, "umbra cleanup "+set)
		s.killed(s.daemon, cleaning)
		s.live(showing)
		s.accounted(cleaning)
		s.b.Sh("umbra cleanup %s", set)
		s.nothing(cleaning, 1)
		s.b.Sh("umbra import /root/set.umbra")
		s.whole(cleaning)
		s.died(cleaning, "B's daemon", "cleanup", told, "the clean-up is given again; then the import works")
	} else {
		s.swap(showing)
		s.b.Sh("umbra import /root/set.umbra")
	}
	if showing != "" {
		id := s.b.Sh("ls /run/umbra/copies")
		command := "umbra expose " + id + " /mnt"
		if strings.HasPrefix(showing, "un") {
			s.b.Sh("%s", command)
			command = "umbra unexpose " + id
		}
		told, _ := s.told(s.b, command)
		s.killed(s.daemon, showing)
		s.live("")
		after := "not exposed"
		if s.b.Sh("test -e /mnt/data && echo yes || true") == "yes" {
			after = "exposed"
			s.b.Sh("umbra unexpose %s", id)
		}
		s.b.Sh("umbra expose %s /mnt && cd /mnt && sha256sum -c -s /root/sums && cd / && umbra unexpose %[1]s", id)
		s.died(showing, "B's daemon", strings.Fields(command)[1]+" to a folder", told, after)
	}
	s.b.Sh("umbra delete set %s", set)
	s.nothing(cleaning+showing, 0)
}

// again are points that the array passes at its start as well, for a's LUN: it dies
// there the second time.
var again = map[string]bool{"export.iscsi.after-backstore": true, "export.iscsi.after-lun": true}

// dying arms the array, does something on b meanwhile, and starts the array again as
// its unit would, as soon as it is dead.
func (s *site) dying(point, command string) (told string, ok bool) {
	s.t.Helper()
	s.served.Stop()
	which := point
	if again[point] {
		which += "=2*kill"
	}
	s.serve(which)
	ended := make(chan error, 1)
	go func() {
		_, err := s.served.Wait(s.t.Context())
		ended <- err
	}()
	p := s.b.Start("command", "%s", command)
	if err := <-ended; err != nil {
		s.t.Fatal(err)
	}
	s.killed(s.served, point)
	s.serve("")
	code, err := p.Wait(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if code == 0 {
		return "done", true
	}
	return crash.Codes(p.Log()), false
}

// arrays lets the array die in an import, and in the deletion of what the next
// import brought.
func (s *site) arrays(importing, deleting string) {
	s.t.Helper()
	set := s.create()
	if importing != "" {
		told, ok := s.dying(importing, "umbra import /root/set.umbra")
		s.accounted(importing)
		after := "imported"
		if !ok {
			after = "nothing is imported; after `umbra cleanup` the import works"
			s.b.Sh("umbra cleanup %s", set)
			s.nothing(importing, 1)
			s.b.Sh("umbra import /root/set.umbra")
		}
		s.whole(importing)
		s.died(importing, "array", "import", told, after)
	} else {
		s.b.Sh("umbra import /root/set.umbra")
	}
	if deleting == "" {
		s.b.Sh("umbra delete set %s", set)
		s.nothing(importing, 0)
		return
	}
	told, ok := s.dying(deleting, "umbra delete set "+set)
	after := "deleted"
	if !ok {
		after = "given again, it works"
		s.told(s.b, "umbra delete set "+set) // it may have been done meanwhile
	}
	s.nothing(deleting, 0)
	s.died(deleting, "array", "delete of an imported set", told, after)
}
