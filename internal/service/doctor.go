package service

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/moby/sys/mountinfo"

	"github.com/umbra-vss/umbra/internal/catalog"
	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/host/attach"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/doctor"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// requestTime is a net below all other deadlines: no request that has an answer
// of its own hangs for ever.
const requestTime = 30 * time.Minute

// listed gives every request a deadline and lists it as long as it runs, but for
// those whose business is to wait.
func listed() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			method := path.Base(req.Spec().Procedure)
			if method == "AsyncWait" || method == "Doctor" {
				return next(ctx, req)
			}
			ctx, cancel := context.WithTimeout(ctx, requestTime)
			defer cancel()
			peer, _ := rpc.Peer(ctx)
			defer underway.Begin(ctx, underway.Wait{Kind: underway.Request, What: method, PID: int(peer.PID)})()
			return next(ctx, req)
		}
	})
}

// forgetEnded lets go of operations that ended and were released. s.mu is held.
func (s *Service) forgetEnded() {
	for a := range s.owners {
		if s.operations[a.ID] == nil && !a.Ended().IsZero() {
			delete(s.owners, a)
		}
	}
}

// inquiry is what the doctor is told of the service.
type inquiry struct{ s *Service }

// Operations are those that run, and those that were not released.
func (q inquiry) Operations() (out []doctor.Operation) {
	q.s.mu.Lock()
	q.s.forgetEnded()
	owners := make(map[*async.Operation]*object, len(q.s.owners))
	for a, o := range q.s.owners {
		owners[a] = o
	}
	q.s.mu.Unlock()
	for a, o := range owners {
		u, _ := a.Progress.Next()
		op := doctor.Operation{Op: a.Op, Session: o.id, Set: o.setID(), PID: o.pid, Client: o.client, Phase: u.Phase, Object: u.Object, Begun: a.Begun, Since: u.Since, Ended: a.Ended()}
		if op.Since.IsZero() {
			op.Since = op.Begun
		}
		out = append(out, op)
	}
	return out
}

// setID is the set an object makes or imports. Calls on it have its lock for
// moments only; one that has it for longer is what the doctor is looking for.
func (o *object) setID() vss.ID {
	for range 20 {
		if !o.mu.TryLock() {
			time.Sleep(time.Millisecond)
			continue
		}
		defer o.mu.Unlock()
		switch {
		case o.set != nil:
			return o.set.ID
		case o.doc != nil && o.doc.Set != nil:
			return o.doc.Set.ID
		}
		return vss.GUIDNull
	}
	return vss.GUIDNull
}

func (q inquiry) Waits() []underway.Wait { return underway.Waits() }
func (q inquiry) Holds() []freeze.Hold   { return freeze.Holds() }

func (q inquiry) Providers() (out []doctor.Provider) {
	for _, p := range q.s.Providers.Failing() {
		out = append(out, doctor.Provider{Name: p.Properties.Name, Program: p.Program, ID: p.Properties.ProviderID, Err: p.Err, Since: p.Since})
	}
	return out
}

func (q inquiry) Arrays(ctx context.Context) (out []doctor.Array) {
	for _, a := range q.s.Arrays.List(ctx) {
		out = append(out, doctor.Array{Name: a.Name, Endpoints: a.Endpoints, Err: a.Err, Since: a.Since})
	}
	return out
}

// records is the catalogue as the doctor reads it.
type records struct {
	view   func(func(*catalog.Tx) error) error
	busy   map[vss.ID]bool
	runDir string // "" if it is not known
}

// Records are those of a catalogue, for whoever has one open. While a daemon
// lives, what it has begun is not broken.
func Records(view func(func(*catalog.Tx) error) error, lives bool) doctor.Records {
	r := records{view, map[vss.ID]bool{}, ""}
	if lives {
		_ = view(func(t *catalog.Tx) error {
			all, err := t.Intents()
			for _, in := range all {
				r.busy[in.SetID] = true
			}
			return err
		})
	}
	return r
}

func (r records) View(f func(*catalog.Tx) error) error { return r.view(f) }
func (r records) Busy(set vss.ID) bool                 { return r.busy[set] }
func (r records) BootID() string                       { return freeze.BootID() }

// Mounted reads the mount table, which never waits for what is mounted.
func (r records) Mounted(at string) (bool, error) {
	ms, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(at))
	return len(ms) > 0, err
}

func (r records) Attached(a catalog.Attachment) doctor.Attached {
	t, here := attach.Examine("/", a.Device)
	// The kernel's NBD client does not say who is at its other end; the folder of
	// the LUN does.
	if here && t.What == "" && r.runDir != "" && strings.HasPrefix(filepath.Base(a.Device), "nbd") {
		dirs, _ := filepath.Glob(filepath.Join(r.runDir, "nbd", "*", a.LUN.Name()))
		for _, d := range dirs {
			if t = attach.Server(d); t.What != "" {
				break
			}
		}
	}
	return doctor.Attached{Missing: !here, Trouble: t.What, Who: t.Who, Help: t.Help}
}

// doctorTime is how long the doctor looks if the caller does not say.
const doctorTime = 3 * time.Second

// Doctor says what is stuck, lost or left.
func (v Server) Doctor(ctx context.Context, req *connect.Request[vssv1.DoctorRequest]) (*connect.Response[vssv1.DoctorResponse], error) {
	limit := min(time.Duration(req.Msg.TimeoutMs)*time.Millisecond, 5*time.Minute)
	if limit <= 0 {
		limit = doctorTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the doctor's time is over"))
	defer cancel()
	q := inquiry{v.S}
	operations := q.Operations()
	busy := map[vss.ID]bool{}
	for _, o := range operations {
		busy[o.Set] = busy[o.Set] || o.Ended.IsZero()
	}
	var known, recorded []doctor.Finding
	var wg sync.WaitGroup
	wg.Go(func() { known = doctor.ExamineService(ctx, q) })
	wg.Go(func() { recorded = doctor.ExamineRecords(ctx, records{v.S.Catalog.View, busy, v.S.RunDir}) })
	wg.Wait()
	out := &vssv1.DoctorResponse{StateDir: v.S.StateDir, RunDir: v.S.RunDir}
	for _, f := range append(known, recorded...) {
		out.Findings = append(out.Findings, &vssv1.Finding{Name: f.Name, Severity: string(f.Severity), Object: f.Object, Who: f.Who, SinceUnixNs: unixNano(f.Since),
			DeadlineUnixNs: unixNano(f.Deadline), What: f.What, Why: f.Why, Help: f.Help})
	}
	for _, o := range operations {
		if o.Ended.IsZero() {
			out.Operations = append(out.Operations, &vssv1.OperationUnderWay{Op: o.Op, Session: o.Session.String(), SetId: o.Set[:], Client: o.Client, Pid: int32(o.PID),
				Phase: o.Phase, Object: o.Object, BegunUnixNs: unixNano(o.Begun), SinceUnixNs: unixNano(o.Since)})
		}
	}
	return connect.NewResponse(out), nil
}

// unixNano is 0 for no time.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
