package loop

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
)

func TestLook(t *testing.T) {
	ctx := context.Background()
	i := New(block.HostTag("look"), nil)
	i.Look(ctx)
	if i.looked(ctx) == nil {
		t.Fatal("nothing was seen")
	}
	if i.looked(ctx) != nil {
		t.Error("one look was used twice")
	}
	i.Look(ctx)
	i.changed()
	if i.looked(ctx) != nil {
		t.Error("a look from before a change was believed")
	}
	closed := make(chan struct{})
	close(closed)
	seen := map[lun.NAA]block.Device{}
	for what, l := range map[string]*look{
		"an old look":   {at: time.Now().Add(-lookLife - time.Second), done: closed, here: seen},
		"a failed look": {at: time.Now(), done: closed, err: errors.New("no")},
	} {
		i.seen = l
		if i.looked(ctx) != nil {
			t.Errorf("%s was believed", what)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	i.seen = &look{at: time.Now(), done: make(chan struct{}), here: seen}
	if i.looked(gone) != nil {
		t.Error("a look that was not over was believed")
	}
}
