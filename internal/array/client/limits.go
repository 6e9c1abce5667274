package client

import (
	"context"
	"path"
	"time"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/underway"
)

// How long the array may take to answer. It does most in milliseconds; what is
// bounded here is an array that lives and hangs, on its storage for instance. One
// that does not even answer pings is given up much sooner.
const (
	prepareTime = 30 * time.Minute // it flushes the LUNs' files and counts their extents
	deleteTime  = 10 * time.Minute // the files may be in very many pieces
	answerTime  = 2 * time.Minute
)

func limitOf(method string) time.Duration {
	switch method {
	case "PrepareSet":
		return prepareTime
	case "DeleteLUNs", "AbortSet":
		return deleteTime
	}
	return answerTime
}

// limited gives every call a deadline and lists it as long as it is out.
func (c *Client) limited(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		method := path.Base(req.Spec().Procedure)
		ctx, cancel := context.WithTimeout(ctx, limitOf(method))
		defer cancel()
		w := underway.Wait{Kind: underway.Array, What: method, Who: c.bundle.ArrayName}
		if m, ok := req.Any().(interface{ GetSetId() string }); ok && m.GetSetId() != "" {
			w.Object = "set " + m.GetSetId()
		}
		defer underway.Begin(ctx, w)()
		return next(ctx, req)
	}
}

// Trouble is an array that did not answer.
type Trouble struct {
	Since time.Time // when the first call without an answer was made
	Err   error
}

// Trouble is nil while the array answers, as far as the last call said.
func (c *Client) Trouble() *Trouble { return c.trouble.Load() }
