package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestJournal: what a live daemon records is in the journal as well.
func TestJournal(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "journal") // short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	j, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	socket, err := live(t, Default().Access, path)
	if err != nil {
		t.Fatal(err)
	}

	xml, err := document.Marshal(servicetest.NewSet(vss.CTX_APP_ROLLBACK, servicetest.NewArray(1, &servicetest.Journal{})))
	if err != nil {
		t.Fatal(err)
	}
	bc, err := requester.CreateBackupComponents(t.Context(), requester.Endpoint(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer bc.Close()
	if err := bc.InitializeForBackup(t.Context(), xml); err != nil {
		t.Fatal(err)
	}
	op, err := bc.ImportSnapshots(t.Context())
	if err == nil {
		_, err = op.Wait(t.Context())
	}
	if err == nil {
		t.Fatal("a set of an array that is not here was imported")
	}
	if err := j.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	entry := make([]byte, 64<<10)
	n, err := j.Read(entry)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"UMBRA_EVENT=import.refused\n", "UMBRA_EVENT_NUMBER=203\n", "PRIORITY=3\n", "UMBRA_SET={", "UMBRA_SESSION={", "UMBRA_CODE=VSS_E_", "MESSAGE_ID="} {
		if !strings.Contains(string(entry[:n]), want) {
			t.Errorf("%q is not in %q", want, entry[:n])
		}
	}
}
