package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// machine is a servicetest.Machine with what only these tests do to it.
type machine struct{ *servicetest.Machine }

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{servicetest.NewMachine(t)}
}

func is(t testing.TB, what string, err error, want vss.HResult) {
	t.Helper()
	if vss.CodeOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
		return
	}
	if e := vss.AsError("", err); e != nil && (e.Reason == "" || e.Remedy == "") {
		t.Errorf("%s: no reason or remedy: %+v", what, e)
	}
}

const childEnv = "SERVICE_TEST_CHILD"

// TestMain is also the client that tests kill, or run as another user:
// "import SOCKET DOCUMENT", "create SOCKET VOLUME", "open SOCKET".
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	var job, socket, arg string
	_, _ = fmt.Sscan(os.Getenv(childEnv), &job, &socket, &arg)
	ctx := context.Background()
	bc, err := requester.CreateBackupComponents(ctx, requester.Endpoint(socket))
	if err == nil {
		switch job {
		case "import":
			var xml []byte
			if xml, err = os.ReadFile(arg); err == nil {
				err = bc.InitializeForBackup(ctx, xml)
			}
			if err == nil {
				_, err = bc.ImportSnapshots(ctx)
			}
		case "create":
			err = errors.Join(bc.InitializeForBackup(ctx, nil), bc.SetContext(ctx, vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)))
			if err == nil {
				_, err = bc.StartSnapshotSet(ctx)
			}
			if err == nil {
				_, err = bc.AddToSnapshotSet(ctx, arg, vss.GUIDNull)
			}
		}
	}
	if err != nil {
		fmt.Println(uint32(vss.CodeOf(err)))
		os.Exit(1)
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
}
