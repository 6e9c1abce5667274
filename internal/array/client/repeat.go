package client

import (
	"context"
	"errors"
	"net"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// repeat makes a call once more whose answer was lost with its connection: the
// array was restarted, or its address moved, and it answers on a new one. Only
// what the protocol marks is repeated, so no step of a set is taken twice.
func (c *Client) repeat(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if req.Spec().IdempotencyLevel == connect.IdempotencyUnknown || ctx.Err() != nil || !lost(err) {
			return res, err
		}
		c.transport.CloseIdleConnections()
		again, err2 := next(ctx, req)
		if errors.Is(err2, rpc.ErrNoAnswer) && ctx.Err() == nil {
			// What counts is what became of the first call, and that is unknown.
			// That the array was not reached the second time must not read as if
			// it had never been reached.
			return res, err
		}
		return again, err2
	}
}

// lost reports whether a call may have reached the array and got no answer. Not
// so one that was given up, and one that found nobody to connect to: that was
// tried on a new connection already, at every address.
func lost(err error) bool {
	var dial *net.OpError
	return errors.Is(err, rpc.ErrNoAnswer) && vss.CodeOf(err) != vss.E_ABORT && !(errors.As(err, &dial) && dial.Op == "dial")
}
