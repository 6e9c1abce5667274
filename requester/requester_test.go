package requester

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/vss"
)

// What the client does against a service is tested beside the service.

// TestNobodyThere: the error says where it was looked for and what helps.
func TestNobodyThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	_, err := CreateBackupComponents(t.Context(), Endpoint("unix://"+socket))
	if e := vss.AsError("", err); e == nil || e.Code != vss.VSS_E_UNEXPECTED || e.Object != socket || e.Remedy == "" {
		t.Errorf("%+v", e)
	}
	h := NewHost(Endpoint(socket))
	defer h.Close()
	if _, err := h.Status(t.Context()); vss.AsError("", err) == nil || vss.AsError("", err).Object != socket {
		t.Errorf("%+v", err)
	}
}

// TestSilentPeer: one that accepts and says nothing does not hold the caller
// longer than its context.
func TestSilentPeer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := CreateBackupComponents(ctx, Endpoint(socket)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestDocumentTooLarge(t *testing.T) {
	b := &BackupComponents{}
	big := make([]byte, document.MaxSize+1)
	for _, err := range []error{b.InitializeForBackup(t.Context(), big), b.InitializeForRestore(t.Context(), big)} {
		if !errors.Is(err, vss.VSS_E_INVALID_XML_DOCUMENT) {
			t.Error(err)
		}
	}
}
