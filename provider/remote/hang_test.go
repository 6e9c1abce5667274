package remote

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1/providerv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// silent is a program that answers some methods, and no others, ever.
type silent struct {
	handler http.Handler
	answers map[string]bool
}

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.answers[path.Base(r.URL.Path)] {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestEveryMethodHangs: whatever method does not come back, it is listed while it
// is out, with the provider, its program and the set, and it is given up after its
// time, with an error that says so.
func TestEveryMethodHangs(t *testing.T) {
	set, id := vss.NewID(), vss.NewID()
	luns := []lun.Info{aLUN}
	for method, tt := range map[string]struct {
		limit time.Duration
		call  func(context.Context, *Proxy) error
	}{
		"AreLUNsSupported": {callTime, func(ctx context.Context, p *Proxy) error {
			_, err := p.AreLUNsSupported(ctx, 0, nil, []lun.Info{aLUN})
			return err
		}},
		"BeginPrepareSnapshot":     {callTime, func(ctx context.Context, p *Proxy) error { return p.BeginPrepareSnapshot(ctx, id, id, 0, nil, luns) }},
		"EndPrepareSnapshots":      {prepareTime, func(ctx context.Context, p *Proxy) error { return p.EndPrepareSnapshots(ctx, set) }},
		"PreCommitSnapshots":       {quickTime, func(ctx context.Context, p *Proxy) error { return p.PreCommitSnapshots(ctx, set) }},
		"CommitSnapshots":          {quickTime, func(ctx context.Context, p *Proxy) error { return p.CommitSnapshots(ctx, set) }},
		"PostCommitSnapshots":      {callTime, func(ctx context.Context, p *Proxy) error { return p.PostCommitSnapshots(ctx, set, 1) }},
		"PreFinalCommitSnapshots":  {callTime, func(ctx context.Context, p *Proxy) error { return p.PreFinalCommitSnapshots(ctx, set) }},
		"PostFinalCommitSnapshots": {callTime, func(ctx context.Context, p *Proxy) error { return p.PostFinalCommitSnapshots(ctx, set) }},
		"AbortSnapshots":           {callTime, func(ctx context.Context, p *Proxy) error { return p.AbortSnapshots(ctx, set) }},
		"DropSet":                  {callTime, func(ctx context.Context, p *Proxy) error { return p.DropSet(ctx, set) }},
		"GetTargetLUNs":            {callTime, func(ctx context.Context, p *Proxy) error { _, err := p.GetTargetLUNs(ctx, set, nil, luns); return err }},
		"LocateLUNs":               {slowTime, func(ctx context.Context, p *Proxy) error { return p.LocateLUNs(ctx, luns) }},
		"FillInLUNInfo": {quickTime, func(ctx context.Context, p *Proxy) error {
			info := aLUN
			_, err := p.FillInLUNInfo(ctx, "/dev/x", &info)
			return err
		}},
		"OnLUNEmpty":       {slowTime, func(ctx context.Context, p *Proxy) error { return p.OnLUNEmpty(ctx, "/dev/x", aLUN) }},
		"OnLUNEmptyForced": {slowTime, func(ctx context.Context, p *Proxy) error { return p.OnLUNEmptyForced(ctx, "/dev/x", aLUN) }},
		"OnLUNStateChange": {slowTime, func(ctx context.Context, p *Proxy) error { return p.OnLUNStateChange(ctx, luns, nil, 0) }},
		"DescribeLUNs":     {callTime, func(ctx context.Context, p *Proxy) error { _, err := p.DescribeLUNs(ctx, luns); return err }},
		"CheckImport": {callTime, func(ctx context.Context, p *Proxy) error {
			_, err := p.CheckImport(ctx, provider.Import{LUNs: luns})
			return err
		}},
		"BeginImport":   {callTime, func(ctx context.Context, p *Proxy) error { return p.BeginImport(ctx, provider.Import{LUNs: luns}) }},
		"ReleaseImport": {callTime, func(ctx context.Context, p *Proxy) error { return p.ReleaseImport(ctx, set, id) }},
		"IssueTicket":   {callTime, func(ctx context.Context, p *Proxy) error { _, err := p.IssueTicket(ctx, set, [32]byte{}); return err }},
		"VerifyTicket":  {quickTime, func(_ context.Context, p *Proxy) error { return p.VerifyTicket([]byte{1}, set, [32]byte{}) }},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench("0s")
				_, handler := providerv1connect.NewProviderServiceHandler(b.w)
				answers := map[string]bool{"Load": true, "Unload": true, "BeginPrepareSnapshot": method != "BeginPrepareSnapshot"}
				client := providerv1connect.NewProviderServiceClient(&http.Client{Transport: silent{handler, answers}}, "http://x", connect.WithInterceptors(rpc.Interceptor()))
				b.o.start = func(context.Context, Manifest, Options) (*life, error) {
					done := make(chan struct{})
					return &life{client: client, done: done, pid: 4711, end: sync.OnceFunc(func() { close(done) })}, nil
				}
				if method != "BeginPrepareSnapshot" {
					if err := b.BeginPrepareSnapshot(t.Context(), set, id, 0, nil, luns); err != nil {
						t.Fatal(err)
					}
				}
				begin, ended := time.Now(), make(chan error, 1)
				go func() {
					ended <- tt.call(underway.WithSession(context.Background(), id), b.Proxy)
				}()
				time.Sleep(2 * time.Second)
				ws := underway.Waits()
				if len(ws) != 1 || ws[0].Kind != underway.Provider || ws[0].What != method || ws[0].Who != b.m.Name || ws[0].PID != 4711 || !ws[0].Since.Equal(begin) || !ws[0].Deadline.Equal(begin.Add(tt.limit)) {
					t.Errorf("while it is out: %+v", ws)
				} else if method != "BeginPrepareSnapshot" && ws[0].Object != "set "+set.String() || method != "VerifyTicket" && ws[0].Session != id {
					t.Errorf("it is not said for what: %+v", ws[0])
				}
				b.wantBroken(t, <-ended, method, "did not answer in time ("+method+", after "+tt.limit.String()+")")
				if took := time.Since(begin); took != tt.limit {
					t.Errorf("given up after %s", took)
				}
				if ws := underway.Waits(); len(ws) != 0 {
					t.Errorf("afterwards: %+v", ws)
				}
				b.Close(t.Context())
			})
		})
	}
}
