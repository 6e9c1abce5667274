package doctor

import (
	"context"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// arrays finds joined arrays that do not answer.
func arrays(ctx context.Context, s Service) (out []Finding) {
	for _, a := range s.Arrays(ctx) {
		if a.Err == nil {
			continue
		}
		f := find("array.unreachable", "array "+a.Name)
		f.Since, f.Who = a.Since, "the array at "+strings.Join(a.Endpoints, " or ")
		f.What, f.Help = vss.AsError("", a.Err).Why(), "systemctl restart umbra-array # on the array's machine"
		out = append(out, f)
	}
	return out
}

// providers finds those whose program did not start.
func providers(_ context.Context, s Service) (out []Finding) {
	for _, p := range s.Providers() {
		if p.Err == nil {
			continue
		}
		f := find("provider.broken", "provider "+p.Name)
		f.Since, f.Who, f.What, f.Help = p.Since, p.Program, vss.AsError("", p.Err).Why(), "umbra provider validate "+p.ID.String()
		out = append(out, f)
	}
	return out
}
