package providertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// check is one case under way. Its methods call the provider as the service
// does, end the case if the answer is against the contract, and remember what
// has to be removed.
type check struct {
	ctx      context.Context
	s        *Subject
	sets     []vss.ID
	volumes  map[vss.ID]int
	copies   []lun.Info
	attached []Disk
}

func (c *check) failf(format string, a ...any) { panic(failure(fmt.Sprintf(format, a...))) }

func (c *check) skipf(format string, a ...any) { panic(skip(fmt.Sprintf(format, a...))) }

func (c *check) p() provider.Hardware { return c.s.Provider }

// lun is the n-th LUN of the subject.
func (c *check) lun(n int) lun.Info {
	if len(c.s.LUNs) <= n {
		c.skipf("it needs %d LUNs of the provider, %d are given", n+1, len(c.s.LUNs))
	}
	return clone(c.s.LUNs[n].Info)
}

// need finds an optional interface of the provider, or skips the case.
func need[T any](c *check) T {
	o, ok := provider.As[T](c.p())
	if !ok {
		c.skipf("the provider does not have the optional %s", reflect.TypeFor[T]().Name())
	}
	return o
}

// call makes one call. It must return in time, and its error must be one of the
// contract's: with a code of the list, and with words that help.
func call[T any](c *check, method string, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	type answer struct {
		v      T
		err    error
		thrown any
	}
	answers := make(chan answer, 1)
	begin := time.Now()
	go func() {
		var a answer
		defer func() {
			a.thrown = recover()
			answers <- a
		}()
		a.v, a.err = f(ctx)
	}()
	var a answer
	select {
	case a = <-answers:
	case <-time.After(limit + limit/2):
		c.failf("%s did not return, although its context had ended after %s", method, limit)
	}
	took := time.Since(begin)
	if c.ctx.Err() != nil {
		c.skipf("the suite was stopped")
	}
	switch {
	case a.thrown != nil:
		c.failf("%s panicked: %v", method, a.thrown)
	case took >= limit:
		c.failf("%s took %s; the limit is %s", method, took.Round(time.Millisecond), limit)
	}
	c.sound(method, a.err)
	return a.v, a.err
}

// sound holds an error to the contract.
func (c *check) sound(method string, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, provider.ErrBroken) {
		c.failf("%s: %v", method, err)
	}
	var e *vss.Error
	switch {
	case !errors.As(err, &e):
		c.failf("%s answered the error %q, which has no code; return a *vss.Error", method, err)
	case !e.Code.Failed():
		c.failf("%s answered an error whose code is the success %v", method, e.Code)
	case !provider.Allowed(e.Code) && e.Code != vss.VSS_E_INVALID_XML_DOCUMENT && e.Code != vss.VSS_E_PROVIDER_NOT_REGISTERED:
		c.failf("%s answered %v, which a provider may not return (%v)", method, e.Code, err)
	case e.Why() == "":
		c.failf("%s answered %v without a reason", method, e.Code)
	case e.Remedy == "":
		c.failf("%s answered %v (%s) without a remedy", method, e.Code, e.Why())
	}
}

// must ends the case if a call failed that has to succeed.
func (c *check) must(method string, err error) {
	if err != nil {
		c.failf("%s failed: %v", method, err)
	}
}

// refused ends the case if a call was not refused with one of the codes; with
// none named any error will do.
func (c *check) refused(what string, err error, codes ...vss.HResult) {
	var names []string
	for _, h := range codes {
		names = append(names, h.Name())
	}
	want := "an error"
	if len(names) > 0 {
		want = strings.Join(names, " or ")
	}
	switch {
	case err == nil:
		c.failf("%s was answered with success; it must be %s", what, want)
	case len(codes) > 0 && !slices.Contains(codes, vss.CodeOf(err)):
		c.failf("%s was answered with %v; it must be %s (%v)", what, vss.CodeOf(err), want, err)
	}
}

func only(f func(context.Context) error) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }
}

func (c *check) do(method string, limit time.Duration, f func(context.Context) error) error {
	_, err := call(c, method, limit, only(f))
	return err
}

// The phases of a set after BeginPrepareSnapshot, and the state each leads to.
type phase struct {
	name  string // of the method
	after string // state it leads to
	quick bool
	call  func(p provider.Hardware, ctx context.Context, set vss.ID, volumes int) error
}

const (
	endPrepare = iota
	preCommit
	commit
	postCommit
	preFinal
	postFinal
)

var phases = []phase{
	{"EndPrepareSnapshots", "prepared", false, plain(provider.Hardware.EndPrepareSnapshots)},
	{"PreCommitSnapshots", "pre-committed", true, plain(provider.Hardware.PreCommitSnapshots)},
	{"CommitSnapshots", "committed", true, plain(provider.Hardware.CommitSnapshots)},
	{"PostCommitSnapshots", "post-committed", true, provider.Hardware.PostCommitSnapshots},
	{"PreFinalCommitSnapshots", "pre-final-committed", true, plain(provider.Hardware.PreFinalCommitSnapshots)},
	{"PostFinalCommitSnapshots", "created", true, plain(provider.Hardware.PostFinalCommitSnapshots)},
}

func plain(f func(provider.Hardware, context.Context, vss.ID) error) func(provider.Hardware, context.Context, vss.ID, int) error {
	return func(p provider.Hardware, ctx context.Context, set vss.ID, _ int) error { return f(p, ctx, set) }
}

// state names where a set is after the first n phases.
func state(n int) string {
	if n == 0 {
		return "preparing"
	}
	return phases[n-1].after
}

func (c *check) phase(n int, set vss.ID) error {
	limit := c.s.Patience
	if phases[n].quick {
		limit = c.s.Quick
	}
	return c.do(phases[n].name, limit, func(ctx context.Context) error { return phases[n].call(c.p(), ctx, set, c.volumes[set]) })
}

// addAs is BeginPrepareSnapshot, for a set that is removed in the end.
func (c *check) addAs(set, snapshot vss.ID, sc vss.Context, luns ...lun.Info) error {
	if !slices.Contains(c.sets, set) {
		c.sets = append(c.sets, set)
	}
	err := c.do("BeginPrepareSnapshot", c.s.Quick, func(ctx context.Context) error {
		return c.p().BeginPrepareSnapshot(ctx, set, snapshot, sc, c.devices(luns), clones(luns))
	})
	if err == nil {
		c.volumes[set]++
	}
	return err
}

func (c *check) add(set vss.ID, luns ...lun.Info) {
	c.must("BeginPrepareSnapshot", c.addAs(set, vss.NewID(), setContext, luns...))
}

func (c *check) devices(luns []lun.Info) []string {
	out := make([]string, len(luns))
	for i, l := range luns {
		for _, d := range c.s.LUNs {
			if d.Info.Name() == l.Name() {
				out[i] = d.Device
			}
		}
	}
	return out
}

// reach makes a set of one volume on the first LUN and brings it n phases far.
func (c *check) reach(n int, luns ...lun.Info) vss.ID {
	if len(luns) == 0 {
		luns = []lun.Info{c.lun(0)}
	}
	set := vss.NewID()
	c.add(set, luns...)
	c.advance(set, 0, n)
	if n > postCommit {
		c.targets(set, luns...) // an abort need not delete what is durable
	}
	return set
}

// advance makes the phases from ≤ n < to.
func (c *check) advance(set vss.ID, from, to int) {
	for n := from; n < to; n++ {
		c.must(phases[n].name+" of a "+state(n)+" set", c.phase(n, set))
	}
}

// create makes a whole set and returns its copies.
func (c *check) create(sc vss.Context, luns ...lun.Info) (vss.ID, []lun.Info) {
	set := vss.NewID()
	c.must("BeginPrepareSnapshot", c.addAs(set, vss.NewID(), sc, luns...))
	c.advance(set, 0, postCommit+1)
	copies := c.targets(set, luns...)
	c.advance(set, preFinal, postFinal+1)
	return set, copies
}

func (c *check) askTargets(set vss.ID, luns ...lun.Info) ([]lun.Info, error) {
	return call(c, "GetTargetLUNs", c.s.Patience, func(ctx context.Context) ([]lun.Info, error) {
		return c.p().GetTargetLUNs(ctx, set, c.devices(luns), clones(luns))
	})
}

// targets are the copies of a set, one for each LUN.
func (c *check) targets(set vss.ID, luns ...lun.Info) []lun.Info {
	out, err := c.askTargets(set, luns...)
	c.must("GetTargetLUNs", err)
	if len(out) != len(luns) {
		c.failf("GetTargetLUNs was asked for the copies of %d LUNs and named %d", len(luns), len(out))
	}
	for _, l := range out {
		if !slices.ContainsFunc(c.copies, func(o lun.Info) bool { return o.Name() == l.Name() }) {
			c.copies = append(c.copies, clone(l))
		}
	}
	return out
}

func (c *check) abort(set vss.ID) error {
	return c.do("AbortSnapshots", c.s.Patience, func(ctx context.Context) error { return c.p().AbortSnapshots(ctx, set) })
}

func (c *check) locate(luns ...lun.Info) error {
	return c.do("LocateLUNs", c.s.Patience, func(ctx context.Context) error { return c.p().LocateLUNs(ctx, clones(luns)) })
}

func (c *check) fill(device string, info *lun.Info) (bool, error) {
	return call(c, "FillInLUNInfo", c.s.Quick, func(ctx context.Context) (bool, error) { return c.p().FillInLUNInfo(ctx, device, info) })
}

func (c *check) supported(sc vss.Context, luns ...lun.Info) (bool, error) {
	return call(c, "AreLUNsSupported", c.s.Patience, func(ctx context.Context) (bool, error) {
		return c.p().AreLUNsSupported(ctx, sc, c.devices(luns), luns)
	})
}

func (c *check) empty(device string, info lun.Info) error {
	return c.do("OnLUNEmpty", c.s.Patience, func(ctx context.Context) error { return c.p().OnLUNEmpty(ctx, device, clone(info)) })
}

// attach makes a located copy a device here.
func (c *check) attach(l lun.Info) Disk {
	if c.s.Attach == nil {
		c.skipf("there is no way to attach a copy here")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.Patience)
	defer cancel()
	d, err := c.s.Attach(ctx, clone(l))
	if err != nil {
		c.failf("a LUN that LocateLUNs was asked for did not arrive on this host: %v", err)
	}
	c.attached = append(c.attached, d)
	return d
}

func (c *check) detach(d Disk) {
	c.attached = slices.DeleteFunc(c.attached, func(o Disk) bool { return o.Device == d.Device })
	ctx, cancel := context.WithTimeout(c.ctx, c.s.Patience)
	defer cancel()
	if err := c.s.Detach(ctx, d); err != nil {
		c.failf("the suite could not detach %s: %v", d.Device, err)
	}
}

// gone ends the case if a copy can still be brought back.
func (c *check) gone(what string, copies ...lun.Info) {
	for _, l := range copies {
		if err := c.locate(l); err == nil {
			c.failf("%s, but LocateLUNs of its copy %s still succeeds", what, l.Name())
		}
	}
}

// tidy removes what the case made, and returns the steps one by one: one that
// fails keeps no other from being taken.
func (c *check) tidy() (steps []func()) {
	for _, d := range slices.Clone(c.attached) {
		steps = append(steps, func() { c.detach(d) })
	}
	for _, set := range c.sets {
		steps = append(steps, func() {
			if err := c.abort(set); err != nil && vss.CodeOf(err) != vss.VSS_E_OBJECT_NOT_FOUND {
				c.failf("cleaning up after the case: AbortSnapshots failed: %v", err)
			}
		})
	}
	for _, l := range c.copies {
		if slices.ContainsFunc(c.s.LUNs, func(d Disk) bool { return d.Info.Name() == l.Name() }) {
			continue // a provider that takes an original for a copy is not asked to destroy it
		}
		steps = append(steps, func() {
			if err := c.empty("", l); err != nil {
				c.failf("cleaning up after the case: OnLUNEmpty of copy %s failed: %v", l.Name(), err)
			}
		})
	}
	if d, ok := provider.As[provider.SetDropper](c.p()); ok {
		for _, set := range c.sets {
			steps = append(steps, func() { _ = c.drop(d, set) }) // copies whose names the case was not told; DropSet has cases of its own
		}
	}
	return steps
}

// stranger is a LUN that no provider has.
func stranger() lun.Info {
	id := vss.NewID()
	n := lun.NAA(id)
	n[0] = 0x60 | n[0]&0x0f
	return lun.Info{Version: lun.InfoVersion, BusType: lun.BusSCSI, VendorID: "NOBODY", ProductID: "NOTHING", ProductRevision: "0",
		SerialNumber: id.Bare()[:16], StorageIDs: []lun.StorageID{n.StorageID()}}
}

func clone(l lun.Info) lun.Info {
	l.StorageIDs = slices.Clone(l.StorageIDs)
	for i := range l.StorageIDs {
		l.StorageIDs[i].Identifier = slices.Clone(l.StorageIDs[i].Identifier)
	}
	l.Interconnects = slices.Clone(l.Interconnects)
	return l
}

func clones(ls []lun.Info) []lun.Info {
	out := make([]lun.Info, len(ls))
	for i, l := range ls {
		out[i] = clone(l)
	}
	return out
}

// same compares two LUNs in everything; a list of none is like no list.
func same(a, b lun.Info) bool {
	if len(a.Interconnects) == 0 {
		a.Interconnects = nil
	}
	if len(b.Interconnects) == 0 {
		b.Interconnects = nil
	}
	return reflect.DeepEqual(a, b)
}
