package service

import (
	"net/http"
	"path"

	"connectrpc.com/connect"

	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/internal/service/access"
	"github.com/umbra-vss/umbra/vss"
)

// Handler serves all that the service answers. Whoever may not call is
// answered here, once for every method there is and will be, and before a byte
// of the request is read (requester.md 2.0 G5).
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	opts := []connect.HandlerOption{connect.WithInterceptors(rpc.Interceptor(), bounded(), listed()), connect.WithReadMaxBytes(maxRequest)}
	mux.Handle(admit(s.Access, access.Requester)(vssv1connect.NewShadowCopyServiceHandler(Server{S: s}, opts...)))
	mux.Handle(admit(s.Access, access.Requester)(vssv1connect.NewHostServiceHandler(Server{S: s}, opts...)))
	return mux
}

// admit lets those callers through to a service who may be what it is for. A
// nil policy is a service that was put together wrongly: root only.
func admit(policy *access.Policy, role access.Role) func(string, http.Handler) (string, http.Handler) {
	refusals := connect.NewErrorWriter()
	return func(pattern string, h http.Handler) (string, http.Handler) {
		return pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cred, known := rpc.Peer(r.Context())
			err := access.Unknown()
			if known {
				err = policy.Allowed(r.Context(), cred, role)
			}
			if err == nil {
				h.ServeHTTP(w, r)
				return
			}
			if e := vss.AsError("", err); e.Op == "" {
				named := *e
				named.Op = path.Base(r.URL.Path)
				err = &named
			}
			if !refusals.IsSupported(r) {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			_ = refusals.Write(w, r, rpc.WireError(err))
		})
	}
}
