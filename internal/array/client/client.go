// Package client is a host's side of an array: it joins with a bundle, speaks
// HostService over mutual TLS, and fetches LUNs as descriptors. [Admin] is the
// administrator's side.
//
// Errors are *vss.Error, the array's own where it answered. An array that
// cannot be reached is VSS_E_PROVIDER_VETO with the address tried, so that a
// provider can pass it on. A call whose answer was lost is repeated once if that
// does no harm. Methods are safe for concurrent use and honour their context.
package client

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/fdpass"
	"github.com/umbra-vss/umbra/internal/array/identity"
	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/array/v1/arrayv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	dialTimeout = 5 * time.Second
	// An array that stops answering pings is given up, so that a call made
	// while writes are held fails in time to release them.
	pingAfter   = 2 * time.Second
	pingTimeout = 2 * time.Second
)

// Client is a joined array. Close it when it is left.
type Client struct {
	bundle    Bundle
	rpc       arrayv1connect.HostServiceClient
	transport *http.Transport
	promises  promises
	returning atomic.Pointer[func(context.Context, []lun.NAA) error]
	trouble   atomic.Pointer[Trouble]
}

// Dial makes a client from a bundle. It does not connect: an array that is down
// is a matter of each call.
func Dial(b Bundle) (*Client, error) {
	cfg, err := b.tls()
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "join array", Object: b.ArrayName, Reason: "the bundle's certificates cannot be used",
			Remedy: "Make a new one on the array with `umbra array enroll " + b.Host + "`", Err: err}
	}
	t := &http.Transport{
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialAny(ctx, b.Endpoints, cfg)
		},
	}
	c := &Client{bundle: b, transport: t}
	c.rpc = arrayv1connect.NewHostServiceClient(&http.Client{Transport: t}, "https://"+ServerName(b.ArrayID),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(c.limited), connect.UnaryInterceptorFunc(c.explain), connect.UnaryInterceptorFunc(c.repeat), rpc.Interceptor()), rpc.Plain())
	return c, nil
}

// dialAny connects to the first endpoint that answers and proves to be the array.
func dialAny(ctx context.Context, endpoints []string, cfg *tls.Config) (net.Conn, error) {
	var errs []error
	for _, e := range endpoints {
		network, address, err := ParseEndpoint(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: cfg}
		conn, err := d.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// explain says which array could not be reached, in a code providers may use.
func (c *Client) explain(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		begin := time.Now()
		res, err := next(ctx, req)
		var e *vss.Error
		silent := errors.As(err, &e) && e.Err != nil && e.Code == vss.VSS_E_UNEXPECTED && !vss.LacksResources(e.Err)
		reason := "the array does not answer"
		if e != nil && e.Code == vss.E_ABORT && errors.Is(err, context.DeadlineExceeded) {
			silent, reason = true, "the array did not answer in time"
		}
		if silent {
			reason += fmt.Sprintf(" (%s, after %s)", path.Base(req.Spec().Procedure), time.Since(begin).Round(10*time.Millisecond))
			veto := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: e.Op, Object: "array " + c.bundle.ArrayName, Reason: reason,
				Remedy: "Check that it runs and is reachable at " + strings.Join(c.bundle.Endpoints, " or ") + "; if it was made anew, join it again", Err: e.Err}
			c.trouble.CompareAndSwap(nil, &Trouble{Since: begin, Err: veto})
			return res, veto
		}
		if err == nil || !errors.Is(err, rpc.ErrNoAnswer) {
			c.trouble.Store(nil)
		}
		return res, err
	}
}

// Close drops the connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// ArrayID, Name, Host and Prefix are the bundle's.
func (c *Client) ArrayID() vss.ID { return c.bundle.ArrayID }

// Name is the array's name when the host joined.
func (c *Client) Name() string { return c.bundle.ArrayName }

// Host is what the array calls this host.
func (c *Client) Host() string { return c.bundle.Host }

// Bundle is what this host has from the array, its private key included.
func (c *Client) Bundle() Bundle { return c.bundle }

// TicketKey is the key that verifies the array's tickets.
func (c *Client) TicketKey() ed25519.PublicKey { return c.bundle.TicketKey }

// Owns reports whether a LUN's name is one of this array's. It asks nobody.
func (c *Client) Owns(n lun.NAA) bool {
	p, ok := identity.PrefixOf(n)
	return ok && p == c.bundle.Prefix
}

// Description is what an array says of itself.
type Description struct {
	ArrayID vss.ID
	Name    string
	Prefix  string
	Host    string
	Local   bool              // it runs on this machine, in this boot
	Stores  map[uint64]string // st_dev of the filesystems it depends on, if local
}

// Describe asks the array who it is; bootID is this machine's
// /proc/sys/kernel/random/boot_id.
func (c *Client) Describe(ctx context.Context, bootID string) (Description, error) {
	res, err := c.rpc.Describe(ctx, connect.NewRequest(&arrayv1.DescribeRequest{BootId: bootID}))
	if err != nil {
		return Description{}, err
	}
	id, err := vss.ParseID(res.Msg.ArrayId)
	if err != nil {
		return Description{}, err
	}
	d := Description{ArrayID: id, Name: res.Msg.Name, Prefix: res.Msg.Prefix, Host: res.Msg.Host,
		Local: bootID != "" && res.Msg.BootId == bootID, Stores: map[uint64]string{}}
	for _, s := range res.Msg.Stores {
		d.Stores[s.Device] = s.Path
	}
	return d, nil
}

// ReportLUNs lists the LUNs masked to this host: all, or those of luns that are.
func (c *Client) ReportLUNs(ctx context.Context, luns ...lun.NAA) ([]LUN, error) {
	res, err := c.rpc.ReportLUNs(ctx, connect.NewRequest(&arrayv1.ReportLUNsRequest{Luns: strs(luns)}))
	if err != nil {
		return nil, err
	}
	return lunsOf(res.Msg.Luns)
}

// AreLUNsSupported reports whether all LUNs can be copied now, and if not why.
func (c *Client) AreLUNsSupported(ctx context.Context, vc vss.Context, luns []lun.NAA) (bool, string, error) {
	res, err := c.rpc.AreLUNsSupported(ctx, connect.NewRequest(&arrayv1.AreLUNsSupportedRequest{Luns: strs(luns), Context: uint32(vc)}))
	if err != nil {
		return false, "", err
	}
	return res.Msg.Supported, res.Msg.Reason, nil
}

// State is the array's word on a LUN.
type State struct {
	NAA        lun.NAA
	Size       uint64 // bytes
	Generation uint64
	ReadOnly   bool
}

// DescribeLUNs asks about LUNs this host sees or made; the answer is parallel.
// Right after LocateLUNs of the same LUNs it is what that answered.
func (c *Client) DescribeLUNs(ctx context.Context, luns []lun.NAA) ([]State, error) {
	if states := c.promises.describe(luns); states != nil {
		return states, nil
	}
	res, err := c.rpc.DescribeLUNs(ctx, connect.NewRequest(&arrayv1.LUNsRequest{Luns: strs(luns)}))
	if err != nil {
		return nil, err
	}
	return statesOf(res.Msg.Luns, luns)
}

// Source is a LUN to copy, with the snapshots it belongs to.
type Source struct {
	NAA       lun.NAA
	Snapshots []vss.ID
}

// Prepared is what the array answered to PrepareSet.
type Prepared struct {
	Targets   map[lun.NAA]lun.NAA // source to copy
	Extents   uint64
	Predicted time.Duration // that writes will be held by cloning
}

// PrepareSet readies a set. VSS_E_PROVIDER_VETO if cloning would take too long,
// VSS_E_INSUFFICIENT_STORAGE without room.
func (c *Client) PrepareSet(ctx context.Context, set vss.ID, vc vss.Context, luns []Source) (Prepared, error) {
	req := &arrayv1.PrepareSetRequest{SetId: set.String(), Context: uint32(vc)}
	for _, l := range luns {
		s := &arrayv1.Source{Naa: l.NAA.String()}
		for _, id := range l.Snapshots {
			s.SnapshotIds = append(s.SnapshotIds, id.String())
		}
		req.Luns = append(req.Luns, s)
	}
	res, err := c.rpc.PrepareSet(ctx, connect.NewRequest(req))
	if err != nil {
		return Prepared{}, err
	}
	p := Prepared{Targets: map[lun.NAA]lun.NAA{}, Extents: res.Msg.Extents, Predicted: time.Duration(res.Msg.PredictedNs)}
	for _, t := range res.Msg.Targets {
		src, err := lun.ParseNAA(t.Source)
		if err != nil {
			return Prepared{}, err
		}
		dst, err := lun.ParseNAA(t.Target)
		if err != nil {
			return Prepared{}, err
		}
		p.Targets[src] = dst
	}
	return p, nil
}

// PreCommitSet flushes once more and checks the clone time again.
func (c *Client) PreCommitSet(ctx context.Context, set vss.ID) error {
	_, err := c.rpc.PreCommitSet(ctx, connect.NewRequest(&arrayv1.SetRequest{SetId: set.String()}))
	return err
}

// CommitSet takes the point in time; it returns how long the clones took.
func (c *Client) CommitSet(ctx context.Context, set vss.ID) (time.Duration, error) {
	res, err := c.rpc.CommitSet(ctx, connect.NewRequest(&arrayv1.SetRequest{SetId: set.String()}))
	if err != nil {
		return 0, err
	}
	return time.Duration(res.Msg.TookNs), nil
}

// PostCommitSet makes the copies durable; it returns their generation. A repeat
// gives the same answer.
func (c *Client) PostCommitSet(ctx context.Context, set vss.ID) (uint64, error) {
	res, err := c.rpc.PostCommitSet(ctx, connect.NewRequest(&arrayv1.SetRequest{SetId: set.String()}))
	if err != nil {
		return 0, err
	}
	return res.Msg.Generation, nil
}

// AbortSet drops a set; with committed also one the array has committed,
// because it was never complete.
func (c *Client) AbortSet(ctx context.Context, set vss.ID, committed bool) error {
	_, err := c.rpc.AbortSet(ctx, connect.NewRequest(&arrayv1.AbortSetRequest{SetId: set.String(), Committed: committed}))
	return err
}

// TargetLUNs returns the copies of sources in a set, one for one.
func (c *Client) TargetLUNs(ctx context.Context, set vss.ID, sources []lun.NAA) ([]lun.NAA, error) {
	res, err := c.rpc.TargetLUNs(ctx, connect.NewRequest(&arrayv1.TargetLUNsRequest{SetId: set.String(), Sources: strs(sources)}))
	if err != nil {
		return nil, err
	}
	out := make([]lun.NAA, 0, len(sources))
	for _, s := range res.Msg.Targets {
		n, err := lun.ParseNAA(s)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	if len(out) != len(sources) {
		return nil, nonsense("TargetLUNs")
	}
	return out, nil
}

// IssueTicket signs a committed set of this host; host and life may be zero.
func (c *Client) IssueTicket(ctx context.Context, set vss.ID, digest [32]byte, host string, life time.Duration) ([]byte, error) {
	res, err := c.rpc.IssueTicket(ctx, connect.NewRequest(&arrayv1.IssueTicketRequest{SetId: set.String(), Digest: digest[:], Host: host, LifetimeNs: int64(life)}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Ticket, nil
}

// Location is an import: which set, whose ticket, which LUNs. The zero SetID
// stands for a set this host made that does not travel.
type Location struct {
	SetID, ImportID vss.ID
	Ticket          []byte
	Digest          [32]byte
	LUNs            []lun.NAA
}

// LocateLUNs verifies the ticket, binds the set and unmasks its LUNs to this
// host, all or nothing; the answer is parallel to LUNs. VSS_E_BAD_STATE if the
// set is bound to another import, VSS_E_PROVIDER_VETO if the ticket does not
// fit.
func (c *Client) LocateLUNs(ctx context.Context, l Location) ([]State, error) {
	states, opened, err := admitted(ctx, l, c.rpc.LocateLUNs)
	if err == nil {
		c.promises.keep(l.LUNs, states, opened)
	}
	return states, err
}

// CheckImport answers what LocateLUNs would, and changes nothing.
func (c *Client) CheckImport(ctx context.Context, l Location) ([]State, error) {
	states, _, err := admitted(ctx, l, c.rpc.CheckImport)
	return states, err
}

func admitted(ctx context.Context, l Location, call func(context.Context, *connect.Request[arrayv1.LocateLUNsRequest]) (*connect.Response[arrayv1.DescribeLUNsResponse], error)) ([]State, *arrayv1.OpenLUNsResponse, error) {
	req := &arrayv1.LocateLUNsRequest{Ticket: l.Ticket, Digest: l.Digest[:], Luns: strs(l.LUNs)}
	if !l.SetID.IsNull() {
		req.SetId = l.SetID.String()
	}
	if !l.ImportID.IsNull() {
		req.ImportId = l.ImportID.String()
	}
	res, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, nil, err
	}
	states, err := statesOf(res.Msg.Luns, l.LUNs)
	return states, res.Msg.Opened, err
}

// ReleaseImport forgets an import of this host that has nothing attached, and
// masks its LUNs. Idempotent.
func (c *Client) ReleaseImport(ctx context.Context, set, importID vss.ID) error {
	if err := c.beforeReturn(ctx, nil); err != nil {
		return err
	}
	_, err := c.rpc.ReleaseImport(ctx, connect.NewRequest(&arrayv1.ReleaseImportRequest{SetId: set.String(), ImportId: importID.String()}))
	return err
}

// Opened is one LUN, open. The caller owns FD.
type Opened struct {
	NAA        lun.NAA
	FD         int
	Size       uint64 // bytes
	Generation uint64
	ReadOnly   bool
	Dev, Ino   uint64 // of the LUN's file
}

// OpenLUNs gets descriptors of LUNs masked to this host, all or none, in two
// round trips. Read-only LUNs come as O_RDONLY descriptors. The array counts a
// LUN as attached until the last duplicate of its descriptor, a loop device's
// included, is gone.
func (c *Client) OpenLUNs(ctx context.Context, luns []lun.NAA) ([]Opened, error) {
	if promised, order := c.promises.take(luns); promised != nil {
		// It is good once and for a while. What fails here is asked for again.
		if out, err := fetch(ctx, promised, order); err == nil || ctx.Err() != nil {
			return out, err
		}
	}
	res, err := c.rpc.OpenLUNs(ctx, connect.NewRequest(&arrayv1.LUNsRequest{Luns: strs(luns)}))
	if err != nil {
		return nil, err
	}
	return fetch(ctx, res.Msg, luns)
}

// fetch exchanges the array's promise for the descriptors of luns.
func fetch(ctx context.Context, promise *arrayv1.OpenLUNsResponse, luns []lun.NAA) ([]Opened, error) {
	if len(promise.Token) != fdpass.TokenLen || len(promise.Luns) != len(luns) {
		return nil, nonsense("OpenLUNs")
	}
	got, err := fdpass.Fetch(ctx, promise.DataSocket, fdpass.Token(promise.Token))
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, g := range got {
			g.File.Close()
		}
	}()
	if len(got) != len(luns) {
		return nil, nonsense("OpenLUNs")
	}
	out := make([]Opened, 0, len(got))
	for i, g := range got {
		// What was passed must be what was promised over TLS.
		m := promise.Luns[i]
		if g.NAA != luns[i] || m.Naa != luns[i].String() || g.Dev != m.Dev || g.Ino != m.Ino || g.ReadOnly != m.ReadOnly {
			closeAll(out)
			return nil, nonsense("OpenLUNs")
		}
		fd, err := dup(g.File)
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, Opened{NAA: g.NAA, FD: fd, Size: g.Size, Generation: g.Generation, ReadOnly: g.ReadOnly, Dev: g.Dev, Ino: g.Ino})
	}
	return out, nil
}

// Exported is one LUN that the array shows to this host's initiator.
type Exported struct {
	NAA        lun.NAA
	Number     uint64 // LUN number
	Size       uint64 // bytes
	Generation uint64
	ReadOnly   bool
}

// Exports are LUNs, and the target they are behind.
type Exports struct {
	Target  string   // what is connected to there
	Portals []string // address:port, any of them
	LUNs    []Exported
}

// ExportLUNs has LUNs masked to this host exported to it over a transport, all
// or none; the answer is parallel to luns. The array counts them as attached
// until CloseLUNs, over this transport and no other: VSS_E_VOLUME_IN_USE for a
// LUN that the host has over another.
func (c *Client) ExportLUNs(ctx context.Context, by export.Kind, luns []lun.NAA) (Exports, error) {
	res, err := c.rpc.ExportLUNs(ctx, connect.NewRequest(&arrayv1.ExportLUNsRequest{Luns: strs(luns), Transport: string(by)}))
	if err != nil {
		return Exports{}, err
	}
	if len(res.Msg.Luns) != len(luns) {
		return Exports{}, nonsense("ExportLUNs")
	}
	out := Exports{Target: res.Msg.Target, Portals: res.Msg.Portals}
	for i, m := range res.Msg.Luns {
		if m.Naa != luns[i].String() {
			return Exports{}, nonsense("ExportLUNs")
		}
		out.LUNs = append(out.LUNs, Exported{NAA: luns[i], Number: uint64(m.Number), Size: m.Size, Generation: m.Generation, ReadOnly: m.ReadOnly})
	}
	return out, nil
}

// BeforeReturn has f called before LUNs are given back (masked, deleted): the
// array refuses while they are exported to this host, and f closes those that
// have no device here, say because they never arrived. One that is attached it
// leaves, and the array says so. Nil luns are any.
func (c *Client) BeforeReturn(f func(ctx context.Context, luns []lun.NAA) error) {
	c.returning.Store(&f)
}

func (c *Client) beforeReturn(ctx context.Context, luns []lun.NAA) error {
	c.promises.forget()
	if f := c.returning.Load(); f != nil {
		return (*f)(ctx, luns)
	}
	return nil
}

// CloseLUNs tells the array that exported LUNs have been let go of, and that
// promised ones will not be fetched. What was fetched is given back by closing
// it; the array notices.
func (c *Client) CloseLUNs(ctx context.Context, luns []lun.NAA) error {
	c.promises.forget()
	_, err := c.rpc.CloseLUNs(ctx, connect.NewRequest(&arrayv1.LUNsRequest{Luns: strs(luns)}))
	return err
}

// MaskLUNs hides LUNs from this host and keeps their data. Idempotent.
// VSS_E_VOLUME_IN_USE while one is attached.
func (c *Client) MaskLUNs(ctx context.Context, luns []lun.NAA) error {
	if err := c.beforeReturn(ctx, luns); err != nil {
		return err
	}
	_, err := c.rpc.MaskLUNs(ctx, connect.NewRequest(&arrayv1.LUNsRequest{Luns: strs(luns)}))
	return err
}

// DeleteLUNs destroys copies this host imported, or made and nobody else
// imported. Idempotent. VSS_E_VOLUME_IN_USE while one is attached.
func (c *Client) DeleteLUNs(ctx context.Context, luns []lun.NAA) error {
	if err := c.beforeReturn(ctx, luns); err != nil {
		return err
	}
	_, err := c.rpc.DeleteLUNs(ctx, connect.NewRequest(&arrayv1.DeleteLUNsRequest{Luns: strs(luns)}))
	return err
}

// DestroyLUNs is DeleteLUNs also of what this host itself has attached. On the
// array's machine who has it open reads on, and its space is free when the last
// has closed it; over the network it is gone at once.
func (c *Client) DestroyLUNs(ctx context.Context, luns []lun.NAA) error {
	c.promises.forget()
	_, err := c.rpc.DeleteLUNs(ctx, connect.NewRequest(&arrayv1.DeleteLUNsRequest{Luns: strs(luns), Force: true}))
	return err
}

// Access is what SetLUNAccess changes a copy to.
type Access int

// Accesses.
const (
	ReadWrite Access = iota + 1 // for good: the copy is an original from now on
	Recovery                    // writable, for a while
	ReadOnly                    // the end of that while
)

// SetLUNAccess changes how copies of this host are opened from now on, and
// their generation. Descriptors it has keep their rights.
func (c *Client) SetLUNAccess(ctx context.Context, luns []lun.NAA, to Access) error {
	c.promises.forget()
	_, err := c.rpc.SetLUNAccess(ctx, connect.NewRequest(&arrayv1.SetLUNAccessRequest{Luns: strs(luns), Access: arrayv1.Access(to)}))
	return err
}
