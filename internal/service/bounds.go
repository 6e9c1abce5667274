package service

import (
	"context"
	"fmt"
	"path"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/vss"
)

// Bounds of a request. Nothing real comes near them; they bound what a caller
// can make the service keep, log and look up.
const (
	maxRequest = document.MaxSize + 1<<20
	maxText    = 64 << 10 // bytes of a string, such as a writer's options
	maxItems   = 4096     // of a list
)

// bounded refuses requests beyond the bounds with E_INVALIDARG, for every
// method there is and will be.
func bounded() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if m, ok := req.Any().(proto.Message); ok {
				if err := checkBounds(path.Base(req.Spec().Procedure), m.ProtoReflect()); err != nil {
					return nil, err
				}
			}
			return next(ctx, req)
		}
	})
}

func checkBounds(op string, m protoreflect.Message) (err error) {
	beyond := func(f protoreflect.FieldDescriptor, what string, n, limit int) error {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: string(f.Name()), Reason: fmt.Sprintf("it has %d %s", n, what), Remedy: fmt.Sprintf("Give at most %d", limit)}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			l := v.List()
			if l.Len() > maxItems {
				err = beyond(f, "items", l.Len(), maxItems)
				break
			}
			for i := 0; f.Kind() == protoreflect.StringKind && i < l.Len() && err == nil; i++ {
				if n := len(l.Get(i).String()); n > maxText {
					err = beyond(f, "bytes", n, maxText)
				}
			}
		case f.Kind() == protoreflect.StringKind:
			if n := len(v.String()); n > maxText {
				err = beyond(f, "bytes", n, maxText)
			}
		case f.Kind() == protoreflect.MessageKind:
			err = checkBounds(op, v.Message())
		}
		return err == nil
	})
	return err
}
