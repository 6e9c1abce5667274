package requester

import (
	"context"
	"fmt"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/vss"
)

// MaxText is the longest string that the service takes, in bytes: a path, a
// name, or a writer's options. E_INVALIDARG beyond it.
const MaxText = 64 << 10

// rpcs are the calls that the service answers.
type rpcs = vssv1connect.ShadowCopyServiceClient

// call makes one call of an object, once everything that needs no service has
// been checked: VSS_E_BAD_STATE for an object that is none or closed,
// E_INVALIDARG without a context and for strings that cannot be sent.
func call[Q, R any](ctx context.Context, b *BackupComponents, op string,
	method func(rpcs, context.Context, *connect.Request[Q]) (*connect.Response[R], error), req *Q) (*R, error) {
	if err := b.usable(ctx, op); err != nil {
		return nil, err
	}
	if err := checkText(op, req); err != nil {
		return nil, err
	}
	r, err := method(b.client, ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// start is call for what answers an Async.
func start[Q, R any, P interface {
	*R
	GetAsyncId() string
}](ctx context.Context, b *BackupComponents, op string,
	method func(rpcs, context.Context, *connect.Request[Q]) (*connect.Response[R], error), req *Q) (*Async, error) {
	r, err := call(ctx, b, op, method, req)
	if err != nil {
		return nil, err
	}
	return &Async{b: b, id: P(r).GetAsyncId()}, nil
}

// usable says why an object cannot be called.
func (b *BackupComponents) usable(ctx context.Context, op string) error {
	bad := func(reason string) error {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Reason: reason, Remedy: "Make a new object with CreateBackupComponents"}
	}
	switch {
	case b == nil || b.client == nil:
		return bad("there is no object")
	case b.closed.Load():
		return bad("the object was closed")
	}
	return needContext(ctx, op)
}

func needContext(ctx context.Context, op string) error {
	if ctx == nil {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "there is no context", Remedy: "Give one, such as context.Background()"}
	}
	return nil
}

// sessionToken is the token of an object, "" of one that is none.
func (b *BackupComponents) sessionToken() string {
	if b == nil {
		return ""
	}
	return b.token
}

// checkText finds a string that the wire cannot carry, or the service would
// not take.
func checkText(op string, req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	return checkStrings(op, m.ProtoReflect())
}

func checkStrings(op string, m protoreflect.Message) (err error) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
		case f.Kind() == protoreflect.StringKind:
			err = checkString(op, string(f.Name()), v.String())
		case f.Kind() == protoreflect.MessageKind:
			err = checkStrings(op, v.Message())
		}
		return err == nil
	})
	return err
}

func checkString(op, name, s string) error {
	bad := func(reason, remedy string) error {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: name, Reason: reason, Remedy: remedy}
	}
	switch {
	case len(s) > MaxText:
		return bad(fmt.Sprintf("it has %d bytes", len(s)), fmt.Sprintf("Give at most %d", MaxText))
	case !utf8.ValidString(s):
		return bad("it is not UTF-8", "Rename what it stands for, or give it in UTF-8")
	}
	return nil
}
