package service

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/async"
	"github.com/umbra-vss/umbra/internal/service/create"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/internal/service/session"
	"github.com/umbra-vss/umbra/vss"
)

// object is one BackupComponents object. Calls on it are serialised by mu,
// except that asynchronous operations run outside it.
type object struct {
	id      vss.ID
	token   string
	client  string
	pid     int // of the requester, 0 if the kernel did not say
	machine *session.Machine

	mu         sync.Mutex
	context    vss.Context
	doc        *document.Document
	set        *create.Set
	running    map[*async.Operation]bool // under way; several may be, since GatherWriterStatus moves no state
	operations []string                  // IDs of all it started
	released   bool

	gone chan struct{} // closed when all that a release does is done
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails on Linux
	return hex.EncodeToString(b[:])
}

func (s *Service) openObject(client string, pid int) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "CreateVssBackupComponents", Reason: "the service is being stopped", Remedy: "Try again when it has started"}
	}
	if len(s.sessions) >= s.Limits.Sessions {
		return nil, &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "CreateVssBackupComponents", Reason: fmt.Sprintf("%d sessions are open, more are not allowed", len(s.sessions)), Remedy: "Close sessions that are no longer used, or raise limits.sessions"}
	}
	o := &object{id: vss.NewID(), token: newToken(), client: client, pid: pid, machine: session.NewMachine(), context: vss.CTX_BACKUP, running: map[*async.Operation]bool{}, gone: make(chan struct{})}
	s.sessions[o.token] = o
	return o, nil
}

// object finds the session a call belongs to.
func (s *Service) object(method session.Method, token string) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.sessions[token]
	if o == nil {
		return nil, closed(method)
	}
	return o, nil
}

func closed(method session.Method) error {
	return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: string(method), Reason: "the session is closed", Remedy: "Make a new object; the service may have been restarted"}
}

// releaseObject ends a session: idempotent, returns at once, the clean-up goes
// on in the background; o.gone is closed when it is done.
func (s *Service) releaseObject(o *object) {
	s.mu.Lock()
	_, open := s.sessions[o.token]
	delete(s.sessions, o.token)
	if open {
		s.leaving[o] = true
	}
	s.mu.Unlock()
	if !open {
		return
	}
	go func() {
		s.release(o)
		o.mu.Lock()
		operations := o.operations
		o.mu.Unlock()
		s.mu.Lock()
		for _, id := range operations { // nobody is left who could ask
			delete(s.operations, id)
		}
		delete(s.leaving, o)
		s.mu.Unlock()
		close(o.gone)
	}()
}

// releaseTime bounds each step of a release.
const releaseTime = time.Minute

func (s *Service) release(o *object) {
	o.mu.Lock()
	o.released = true
	set, ops := o.set, slices.Collect(maps.Keys(o.running))
	state := o.machine.State()
	o.mu.Unlock()
	life := context.WithoutCancel(s.base)
	for _, op := range ops {
		if op.Op == string(session.ImportSnapshots) {
			// An import is not stopped by its client's going, only with the
			// service; what it maps is released afterwards if it is auto-release.
			<-op.Done()
		} else {
			// Nobody will fetch the document: a creation is given up.
			ctx, cancel := context.WithTimeout(life, releaseTime)
			_, _ = op.Cancel(ctx)
			cancel()
		}
	}
	ctx, cancel := context.WithTimeout(life, releaseTime)
	defer cancel()
	if set != nil && state != session.Created && state != session.Complete {
		set.Abort(ctx)
	}
	if err := s.Keeper.Release(ctx, o.id); err != nil {
		s.Log.Error("release auto-release copies", "session", o.id, "err", err)
	}
}

// start begins an asynchronous operation of the object: fn runs with the
// service's life, and the session's state follows its end. always runs when
// the operation has ended, or could not begin.
func (s *Service) start(o *object, step session.Step, op string, fn func(context.Context, *async.Operation) async.Outcome, always func()) (*async.Operation, error) {
	refuse := func(err error) (*async.Operation, error) {
		o.machine.Undo(step)
		if always != nil {
			always()
		}
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.released {
		return refuse(closed(session.Method(op)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.operations) >= s.Limits.Operations {
		return refuse(&vss.Error{Code: vss.E_OUTOFMEMORY, Op: op, Reason: fmt.Sprintf("%d asynchronous operations are not released, more are not allowed", len(s.operations)), Remedy: "Release Async objects when they are done, or raise limits.operations"})
	}
	// o.mu is held until o.running is set: the operation's end waits for that.
	var self *async.Operation
	a := async.Start(registry.WithSession(s.base, o.id), newToken(), op, fn, func(out async.Outcome) async.Outcome {
		out = s.withEvent(o, op, published(op, out))
		o.machine.Leave(step, !out.Code.Failed() && out.Code != vss.VSS_S_ASYNC_CANCELLED)
		o.mu.Lock()
		delete(o.running, self)
		o.mu.Unlock()
		if always != nil {
			always()
		}
		return out
	})
	self, o.running[a] = a, true
	if len(o.operations) > 2*len(s.operations)+64 { // most were released
		o.operations = slices.DeleteFunc(o.operations, func(id string) bool { return s.operations[id] == nil })
	}
	o.operations = append(o.operations, a.ID)
	s.operations[a.ID], s.owners[a] = a, o
	if len(s.owners) > 2*len(s.operations)+64 {
		s.forgetEnded()
	}
	return a, nil
}

// published keeps an operation's outcome to the codes it may end in.
func published(op string, out async.Outcome) async.Outcome {
	r, ok := session.AsyncResults[session.Method(op)]
	if !ok || r.Allows(out.Code) {
		return out
	}
	e := vss.AsError(op, out.Err)
	if e == nil {
		e = &vss.Error{Code: out.Code, Op: op, Reason: "it ended with " + out.Code.String()}
	}
	out.Code = vss.VSS_E_UNEXPECTED
	out.Err = &vss.Error{Code: out.Code, Op: e.Op, Object: e.Object, Reason: e.Code.Name() + ": " + e.Why(), Remedy: e.Remedy}
	return out
}

// withEvent makes sure that a failure nobody classified has an event before
// the client sees it (requester.md 8, row 23).
func (s *Service) withEvent(o *object, op string, out async.Outcome) async.Outcome {
	if out.Code != vss.VSS_E_UNEXPECTED {
		return out
	}
	if out.Err == nil {
		out.Err = &vss.Error{Code: out.Code, Op: op, Reason: "it failed without saying why", Remedy: "See the service's log"}
	}
	e := *vss.AsError(op, out.Err)
	if e.EventID == "" {
		e.EventID, _ = s.Catalog.Log(context.WithoutCancel(s.base), catalog.Event{Level: "error", Name: "service.unexpected", Session: o.id, Object: op,
			Message: "an operation failed in a way nobody foresaw", Failure: catalog.FailureOf(&e)})
	}
	if e.Remedy == "" {
		e.Remedy = rpc.SeeEvent(e.EventID)
	}
	out.Err = &e
	return out
}

func (s *Service) operation(id string) (*async.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.operations[id]
	if a == nil {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "IVssAsync", Object: id, Reason: "no such operation, or it was released", Remedy: "Keep the Async until its status was read"}
	}
	return a, nil
}
