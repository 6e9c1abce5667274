package underway

import (
	"context"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

func TestWaits(t *testing.T) {
	session, at := vss.NewID(), time.Now().Add(time.Minute)
	ctx, cancel := context.WithDeadline(WithSession(t.Context(), session), at)
	defer cancel()
	first := Begin(ctx, Wait{Kind: Provider, What: "CommitSnapshots", Who: "sample"})
	second := Begin(t.Context(), Wait{Kind: Mount, What: "umount", Object: "/mnt"})
	ws := Waits()
	if len(ws) != 2 || ws[0].What != "CommitSnapshots" || ws[0].Session != session || !ws[0].Deadline.Equal(at) || time.Since(ws[0].Since) > time.Minute {
		t.Fatalf("%+v", ws)
	}
	if ws[1].Object != "/mnt" || !ws[1].Session.IsNull() || !ws[1].Deadline.IsZero() {
		t.Errorf("%+v", ws[1])
	}
	first()
	first() // nobody else's
	if ws = Waits(); len(ws) != 1 || ws[0].What != "umount" {
		t.Errorf("%+v", ws)
	}
	second()
	if ws = Waits(); len(ws) != 0 {
		t.Errorf("%+v", ws)
	}
}
