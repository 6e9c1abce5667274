package array

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/array/ticket"
	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// rememberedImports is how many begun imports are kept for the LocateLUNs that
// follows. One runs at a time; a few more tolerate services that overlap.
const rememberedImports = 8

// VerifyTicket implements provider.TicketVerifier. An expired ticket, or one
// that names another host, is VSS_E_PROVIDER_VETO.
func (p *Provider) VerifyTicket(raw []byte, set vss.ID, digest [32]byte) error {
	_, err := p.verify(raw, set, digest)
	return err
}

// verified is the ticket that was verified last. An import asks three times
// within a millisecond or two, and every signature costs a twentieth of one.
type verified struct {
	of    [sha256.Size]byte // ticket, set and digest
	parts map[*client.Client][]byte
	until time.Time
}

// verifiedFor is how long the answer holds. A ticket that expires meanwhile is
// refused by the array.
const verifiedFor = 2 * time.Second

// verify returns the tickets by array.
func (p *Provider) verify(raw []byte, set vss.ID, digest [32]byte) (map[*client.Client][]byte, error) {
	of := sha256.Sum256(slices.Concat(set[:], digest[:], raw))
	now := time.Now()
	p.mu.Lock()
	last := p.verified
	p.mu.Unlock()
	if last.of == of && now.Before(last.until) && p.joined(last.parts) {
		return maps.Clone(last.parts), nil
	}
	parts, err := p.verifyParts(raw, set, digest)
	if err == nil {
		p.mu.Lock()
		p.verified = verified{of, maps.Clone(parts), now.Add(verifiedFor)}
		p.mu.Unlock()
	}
	return parts, err
}

// joined reports whether all these arrays still are.
func (p *Provider) joined(parts map[*client.Client][]byte) bool {
	arrays := p.arrays()
	for c := range parts {
		if !slices.Contains(arrays, c) {
			return false
		}
	}
	return true
}

func (p *Provider) verifyParts(raw []byte, set vss.ID, digest [32]byte) (map[*client.Client][]byte, error) {
	parts, err := ticket.Split(raw)
	if err != nil {
		return nil, err
	}
	out := map[*client.Client][]byte{}
	for _, part := range parts {
		t, err := ticket.Peek(part)
		if err != nil {
			return nil, err
		}
		arrays := p.arrays()
		i := slices.IndexFunc(arrays, func(c *client.Client) bool { return c.ArrayID() == t.ArrayID })
		if i < 0 {
			return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_NOT_REGISTERED, Op: "verify ticket", Object: "array " + t.ArrayID.String(),
				Reason: "this host has not joined the array that signed the set", Remedy: "Join it with the bundle of `umbra array enroll`, made on that array"}
		}
		if _, err := ticket.Verify(arrays[i].TicketKey(), part, ticket.Expect{SetID: set, Digest: digest, Host: arrays[i].Host(), Now: time.Now()}); err != nil {
			return nil, err
		}
		out[arrays[i]] = part
	}
	return out, nil
}

// vetted verifies an import's ticket offline. Without a ticket there is nothing
// to verify: the array decides.
func (p *Provider) vetted(im provider.Import) (map[*client.Client][]byte, error) {
	if len(im.Ticket) == 0 {
		return map[*client.Client][]byte{}, nil
	}
	tickets, err := p.verify(im.Ticket, im.SetID, im.Digest)
	if err != nil {
		// The contract has one code for every ticket that does not open a set.
		e := vss.AsError("BeginImport", err)
		return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: e.Op, Object: e.Object, Reason: e.Reason, Remedy: e.Remedy, Err: err}
	}
	return tickets, nil
}

// BeginImport implements provider.ImportBinder. It verifies offline and
// remembers; LocateLUNs binds and unmasks in one call to the array.
func (p *Provider) BeginImport(_ context.Context, im provider.Import) error {
	if im.SetID.IsNull() || len(im.LUNs) == 0 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "BeginImport", Object: im.SetID.String(), Reason: "an import has a set and LUNs", Remedy: "Name both"}
	}
	if _, err := p.partition("BeginImport", im.LUNs); err != nil {
		return err
	}
	if _, err := p.vetted(im); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.imports = slices.DeleteFunc(p.imports, func(o *provider.Import) bool { return o.SetID == im.SetID })
	if len(p.imports) == rememberedImports {
		p.imports = p.imports[1:]
	}
	p.imports = append(p.imports, &im)
	return nil
}

// begun finds the import that was begun for a LUN, nil if none was.
func (p *Provider) begun(n lun.NAA) *provider.Import {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, im := range slices.Backward(p.imports) {
		if slices.ContainsFunc(im.LUNs, func(i lun.Info) bool { m, ok := i.NAA(); return ok && m == n }) {
			return im
		}
	}
	return nil
}

// nothingUnmasked adds provider.ErrNothingUnmasked to an error's chain.
func nothingUnmasked(err error) error {
	e := *vss.AsError("LocateLUNs", err)
	e.Err = quiet{e.Err}
	return &e
}

// quiet is a cause, perhaps none, that also matches ErrNothingUnmasked without
// adding to the message.
type quiet struct{ cause error }

func (q quiet) Error() string {
	if q.cause == nil {
		return ""
	}
	return q.cause.Error()
}
func (q quiet) Unwrap() error      { return q.cause }
func (quiet) Is(target error) bool { return target == provider.ErrNothingUnmasked }

// LocateLUNs implements provider.Hardware. LUNs no import was begun for are
// those of a set this host made and surfaces itself.
func (p *Provider) LocateLUNs(ctx context.Context, luns []lun.Info) error {
	const op = "LocateLUNs"
	places, err := p.places(op, luns)
	if err != nil {
		return err
	}
	if len(places) > 1 {
		// Nothing may be unmasked if one array has the set bound elsewhere.
		if err := each(ctx, places, func(ctx context.Context, l place) error {
			_, err := l.array.CheckImport(ctx, l.Location)
			return err
		}); err != nil {
			return permitted(op, err)
		}
	}
	for i, l := range places {
		_, err := l.array.LocateLUNs(ctx, l.Location)
		if err == nil {
			continue
		}
		// An array that answers did all or nothing; one that was never reached
		// did nothing.
		known := !errors.Is(err, rpc.ErrNoAnswer) || rpc.NeverSent(err)
		err = permitted(op, err)
		if i == 0 && known {
			return nothingUnmasked(err)
		}
		if !errors.Is(err, vss.VSS_E_BAD_STATE) || i == 0 {
			return err
		}
		// Another host was faster on this array. Take back the others.
		for _, o := range places[:i] {
			if rerr := o.array.ReleaseImport(context.WithoutCancel(ctx), o.SetID, o.ImportID); rerr != nil {
				e := vss.AsError(op, err)
				return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: e.Object, Reason: e.Reason + "; some LUNs stay unmasked to this host",
					Remedy: "Run `umbra cleanup " + o.SetID.String() + "`", Err: errors.Join(err, rerr)}
			}
		}
		return err
	}
	return nil
}

// place is one array's part of an import.
type place struct {
	array *client.Client
	client.Location
}

func (p *Provider) places(op string, luns []lun.Info) ([]place, error) {
	shares, err := p.partition(op, luns)
	if err != nil {
		return nil, err
	}
	var out []place
	for _, s := range shares {
		// An array's LUNs may be of several imports.
		for _, n := range s.luns {
			im := p.begun(n)
			if im == nil {
				im = new(provider.Import)
			}
			i := slices.IndexFunc(out, func(l place) bool { return l.array == s.array && l.SetID == im.SetID })
			if i < 0 {
				tickets, err := p.vetted(*im)
				if err != nil {
					return nil, err
				}
				i, out = len(out), append(out, place{s.array, client.Location{SetID: im.SetID, ImportID: im.ImportID, Ticket: tickets[s.array], Digest: im.Digest}})
			}
			out[i].LUNs = append(out[i].LUNs, n)
		}
	}
	return out, nil
}

// CheckImport implements provider.ImportChecker.
func (p *Provider) CheckImport(ctx context.Context, im provider.Import) ([]provider.Description, error) {
	const op = "CheckImport"
	tickets, err := p.vetted(im)
	if err != nil {
		return nil, err
	}
	return p.describe(op, im.LUNs, func(s *share) ([]client.State, error) {
		return s.array.CheckImport(ctx, client.Location{SetID: im.SetID, ImportID: im.ImportID, Ticket: tickets[s.array], Digest: im.Digest, LUNs: s.luns})
	})
}

// ReleaseImport implements provider.ImportBinder. If it is not known any more
// which arrays the set is on all are asked; one that knows nothing of the
// import does nothing.
func (p *Provider) ReleaseImport(ctx context.Context, set, importID vss.ID) error {
	arrays := p.arrays()
	p.mu.Lock()
	for _, im := range p.imports {
		if im.SetID == set && im.ImportID == importID {
			arrays = slices.DeleteFunc(slices.Clone(arrays), func(c *client.Client) bool {
				return !slices.ContainsFunc(im.LUNs, func(i lun.Info) bool { n, ok := i.NAA(); return ok && c.Owns(n) })
			})
		}
	}
	p.mu.Unlock()
	err := each(ctx, arrays, func(ctx context.Context, c *client.Client) error { return c.ReleaseImport(ctx, set, importID) })
	if err != nil {
		return permitted("ReleaseImport", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.imports = slices.DeleteFunc(p.imports, func(o *provider.Import) bool { return o.SetID == set && o.ImportID == importID })
	return nil
}

// IssueTicket implements provider.TicketIssuer: the tickets of all arrays the
// set is on, one after the other.
func (p *Provider) IssueTicket(ctx context.Context, set vss.ID, digest [32]byte) ([]byte, error) {
	const op = "IssueTicket"
	arrays, known := p.arraysOf(set)
	var out []byte
	for _, c := range arrays {
		t, err := c.IssueTicket(ctx, set, digest, "", 0)
		if !known && errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, permitted(op, err)
		}
		out = append(out, t...)
	}
	if len(out) == 0 {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: set.String(), Reason: "no joined array has a committed set of this host by this name",
			Remedy: "Create the set again"}
	}
	return out, nil
}

// arraysOf lists the arrays of the current set, or all for another one.
func (p *Provider) arraysOf(id vss.ID) (arrays []*client.Client, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == nil || p.cur.id != id {
		return p.arrays(), false
	}
	for _, q := range p.cur.parts {
		arrays = append(arrays, q.array)
	}
	return arrays, true
}
