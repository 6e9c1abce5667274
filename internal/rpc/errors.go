package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"connectrpc.com/connect"

	"golang.org/x/sys/unix"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/vss"
)

// ErrorToProto converts an error to its wire form, nil to nil. An error that
// nobody classified becomes VSS_E_UNEXPECTED. The cause's text travels in the
// reason, because the cause itself cannot.
func ErrorToProto(err error) *vssv1.Error {
	e := vss.AsError("", err)
	if e == nil {
		return nil
	}
	return &vssv1.Error{Code: uint32(e.Code), Op: text(e.Op), Object: text(e.Object), Reason: text(e.Why()), Remedy: text(e.Remedy), EventId: text(e.EventID)}
}

// text makes a string fit for the wire: paths may be any bytes, protobuf's
// strings may not, and an error must get through whatever it is about.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// ErrorFromProto converts back; nil stays nil.
func ErrorFromProto(p *vssv1.Error) *vss.Error {
	if p == nil {
		return nil
	}
	return &vss.Error{Code: vss.HResult(p.Code), Op: p.Op, Object: p.Object, Reason: p.Reason, Remedy: p.Remedy, EventID: p.EventId}
}

// toWire makes the Connect error that carries err.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	if ce, ok := err.(*connect.Error); ok {
		return ce
	}
	// Only what nobody classified may be left to Connect: a *vss.Error whose
	// cause is an answer of some other peer is ours.
	var ve *vss.Error
	if !errors.As(err, &ve) {
		switch {
		case errors.Is(err, context.Canceled):
			return connect.NewError(connect.CodeCanceled, err)
		case errors.Is(err, context.DeadlineExceeded):
			return connect.NewError(connect.CodeDeadlineExceeded, err)
		}
	}
	code := connect.CodeUnknown
	switch vss.CodeOf(err) {
	case vss.E_ACCESSDENIED:
		code = connect.CodePermissionDenied
	case vss.E_INVALIDARG, vss.VSS_E_INVALID_XML_DOCUMENT:
		code = connect.CodeInvalidArgument
	case vss.VSS_E_OBJECT_NOT_FOUND:
		code = connect.CodeNotFound
	case vss.VSS_E_BAD_STATE:
		code = connect.CodeFailedPrecondition
	case vss.E_OUTOFMEMORY:
		code = connect.CodeResourceExhausted
	}
	out := connect.NewError(code, errors.New(text(err.Error())))
	if d, derr := connect.NewErrorDetail(ErrorToProto(err)); derr == nil {
		out.AddDetail(d)
	}
	return out
}

// fromWire recovers the *vss.Error a peer sent. What no peer of ours said
// (connection refused, deadline) becomes VSS_E_UNEXPECTED that still unwraps
// to the cause, so that errors.Is(err, context.Canceled) works.
func fromWire(ctx context.Context, procedure string, err error) error {
	if err == nil {
		return nil
	}
	var ve *vss.Error
	if errors.As(err, &ve) {
		return err
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		for _, d := range ce.Details() {
			if m, derr := d.Value(); derr == nil {
				if p, ok := m.(*vssv1.Error); ok {
					return ErrorFromProto(p)
				}
			}
		}
	}
	cause := context.Cause(ctx)
	if _, limited := ctx.Deadline(); cause == nil && limited && connect.CodeOf(err) == connect.CodeDeadlineExceeded {
		cause = context.DeadlineExceeded // the peer, which knows the deadline, was faster to notice
	}
	if cause != nil {
		if ctx.Err() != nil && !errors.Is(cause, ctx.Err()) {
			cause = fmt.Errorf("%w: %w", ctx.Err(), cause)
		}
		return &vss.Error{Code: vss.E_ABORT, Op: procedure, Object: called, Reason: "the call was given up", Remedy: "Call again", Err: noAnswer{cause}}
	}
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: procedure, Object: called, Reason: "the peer could not be reached or did not answer in kind",
		Remedy: "Check that it runs and that the socket or address is right", Err: noAnswer{err}}
}

// called is who did not answer, as far as this package knows.
const called = "the service that was called"

// ErrNoAnswer matches, with errors.Is, an error that the peer did not send:
// whether it did what it was asked is not known.
var ErrNoAnswer = errors.New("no answer")

type noAnswer struct{ error }

func (n noAnswer) Unwrap() error      { return n.error }
func (noAnswer) Is(target error) bool { return target == ErrNoAnswer }

// NeverSent reports whether an error means that the peer was never reached, so
// that it cannot have done anything.
func NeverSent(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.ENOENT, unix.EHOSTUNREACH, unix.ENETUNREACH} {
		if errors.Is(err, ErrNoAnswer) && errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Interceptor maps errors on both sides of every call and keeps a panicking
// handler from taking its process down.
func Interceptor() connect.Interceptor { return interceptor{} }

type interceptor struct{}

func (interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		procedure := req.Spec().Procedure
		if req.Spec().IsClient {
			res, err = next(ctx, req)
			return res, fromWire(ctx, procedure, err)
		}
		defer func() {
			if r := recover(); r != nil {
				res, err = nil, toWire(Panicked(procedure, r))
			}
		}()
		res, err = next(ctx, req)
		return res, toWire(recorded(procedure, err))
	}
}

func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next // streams map their errors with StreamError
}

func (interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = toWire(Panicked(conn.Spec().Procedure, r))
			}
		}()
		return toWire(recorded(conn.Spec().Procedure, next(ctx, conn)))
	}
}

// StreamError maps the error a client stream ended with.
func StreamError(ctx context.Context, op string, err error) error { return fromWire(ctx, op, err) }

// PanicHook, when set, is told of every recovered panic before the client is
// answered; the service uses it to write the event the error refers to. It
// returns the event's ID.
var PanicHook func(op string, value any, stack []byte) (eventID string)

// UnexpectedHook, when set, is told of every VSS_E_UNEXPECTED that has no event
// yet, before the client is answered, and returns the event's ID.
var UnexpectedHook func(op string, err *vss.Error) (eventID string)

// recorded makes sure that a failure nobody foresaw has an event
// (requester.md 8, row 23).
func recorded(procedure string, err error) error {
	if err == nil || UnexpectedHook == nil || vss.CodeOf(err) != vss.VSS_E_UNEXPECTED {
		return err
	}
	var ve *vss.Error
	if !errors.As(err, &ve) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return err // the caller gave the call up
	}
	e := *vss.AsError(procedure, err)
	if e.EventID == "" {
		e.EventID = UnexpectedHook(procedure, &e)
	}
	if e.Remedy == "" {
		e.Remedy = SeeEvent(e.EventID)
	}
	return &e
}

// SeeEvent is the remedy of what nobody foresaw.
func SeeEvent(id string) string { return "See umbra list events --id " + id + ", and report it" }

// Panicked is the error of a recovered panic.
func Panicked(op string, value any) error {
	stack := debug.Stack()
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Reason: fmt.Sprintf("internal error: %v", value),
		Remedy: "Report it with the event's text"}
	if PanicHook != nil {
		e.EventID = PanicHook(op, value, stack)
	}
	return e
}

// WireError makes err what [Interceptor] would make of it, for a handler that
// answers before Connect is asked.
func WireError(err error) error { return toWire(err) }
