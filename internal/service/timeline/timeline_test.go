package timeline

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		outer := r.Start("outer", "")
		time.Sleep(time.Second)
		inner := r.Start("inner", "x")
		time.Sleep(2 * time.Second)
		inner()
		outer()
		ps := r.Phases()
		if len(ps) != 2 || ps[0].Name != "outer" || ps[0].Duration != 3*time.Second || ps[1].Start != time.Second || ps[1].Object != "x" {
			t.Errorf("%+v", ps)
		}
	})
}

// TestProgress: a follower sees the last report, whatever it missed.
func TestProgress(t *testing.T) {
	p := NewProgress()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				u, changed := p.Next()
				if u.Result != vss.VSS_S_ASYNC_PENDING {
					if u.Result != vss.VSS_S_ASYNC_FINISHED || u.Done != 99 || u.Total != 100 {
						t.Errorf("last %+v", u)
					}
					return
				}
				<-changed
			}
		})
	}
	for i := range 100 {
		p.Report("copy", "", i, 100)
	}
	p.Close(vss.VSS_S_ASYNC_FINISHED)
	wg.Wait()
}
