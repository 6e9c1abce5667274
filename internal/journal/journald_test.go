package journal

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

const inNamespace = "UMBRA_TEST_JOURNALD"

// TestJournald: systemd's own journal, in a mount namespace of the test's, takes
// an event, also one that goes as a file, and finds it by its fields.
func TestJournald(t *testing.T) {
	if os.Getenv(inNamespace) == "1" {
		j, err := Open(Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		set := vss.NewID()
		j.Event(catalog.Event{Time: time.Now(), Name: "import.failed", Level: "error", SetID: set, Message: "a real journal"})
		j.Event(catalog.Event{Time: time.Now(), Name: "import.failed", Level: "error", SetID: set, Message: strings.Repeat("big ", 200_000)})
		return
	}
	const journald = "/lib/systemd/systemd-journald"
	if _, err := os.Stat(journald); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and " + journald)
	}
	c := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t tmpfs none /run
mkdir -p /run/log/journal
timeout 20 `+journald+` >/run/out 2>&1 & pid=$!
trap 'kill $pid; wait $pid || true' EXIT
i=0; until [ -S /run/systemd/journal/socket ]; do i=$((i+1)); [ $i -lt 100 ] || { cat /run/out; exit 1; }; sleep 0.1; done
`+inNamespace+`=1 "$0" -test.run '^TestJournald$' >&2
journalctl --sync
journalctl --no-pager --all -D /run/log/journal -p err -o cat`, os.Args[0])
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	if got := string(out); !strings.Contains(got, "a real journal") || strings.Count(got, "big ") != 200_000 {
		t.Errorf("the journal has %d bytes: %.500s\n%s", len(got), got, stderr.String())
	}
}
