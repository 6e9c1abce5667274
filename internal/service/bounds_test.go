package service_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// TestBounds: a client that is not ours may send anything. What is too large
// is E_INVALIDARG, wherever it stands in the request, and what is not is not.
func TestBounds(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	c := vssv1connect.NewShadowCopyServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	h := vssv1connect.NewHostServiceClient(rpc.UnixClient(m.Socket), "http://x", connect.WithInterceptors(rpc.Interceptor()))
	edit := func(options string) error {
		_, err := c.EditComponent(ctx, connect.NewRequest(&vssv1.EditComponentRequest{Edit: &vssv1.EditComponentRequest_RollForward{RollForward: &vssv1.RollForward{Point: options}}}))
		return err
	}
	writers := func(n int) error {
		_, err := c.SelectWriters(ctx, connect.NewRequest(&vssv1.SelectWritersRequest{Selection: 1, Ids: make([][]byte, n)}))
		return err
	}
	rescan := func(lun string) error {
		_, err := h.Rescan(ctx, connect.NewRequest(&vssv1.RescanRequest{Luns: []string{"naa.1", lun}}))
		return err
	}
	is(t, "a string within a message", edit(strings.Repeat("x", 64<<10)), vss.VSS_E_BAD_STATE)
	is(t, "a longer one", edit(strings.Repeat("x", 64<<10+1)), vss.E_INVALIDARG)
	is(t, "one of 8 MiB", edit(strings.Repeat("x", 8<<20)), vss.E_INVALIDARG)
	is(t, "a list", writers(4096), vss.VSS_E_BAD_STATE)
	is(t, "a longer list", writers(4097), vss.E_INVALIDARG)
	is(t, "a string in a list", rescan(strings.Repeat("x", 1<<20)), vss.E_INVALIDARG)
	if _, err := c.InitializeForBackup(ctx, connect.NewRequest(&vssv1.InitializeRequest{Document: make([]byte, 18<<20)})); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a request of 18 MiB: %v", err)
	}
}
