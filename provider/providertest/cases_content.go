package providertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"sync"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// blockSize is how much of a LUN is written and compared.
const blockSize = 64 << 10

// write puts something new at the beginning of a LUN, durably.
func (c *check) write(n int) []byte {
	if c.lun(n); !c.s.Scratch || c.s.LUNs[n].Device == "" {
		c.skipf("the content of the LUNs may not be overwritten")
	}
	b := make([]byte, blockSize)
	_, _ = rand.Read(b)
	f, err := os.OpenFile(c.s.LUNs[n].Device, os.O_WRONLY|os.O_SYNC, 0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
		if serr := f.Sync(); err == nil {
			err = serr
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		c.failf("the suite could not write to %s: %v", c.s.LUNs[n].Device, err)
	}
	return b
}

// holds reads a copy and compares it.
func (c *check) holds(d Disk, want []byte, what string) {
	f, err := os.Open(d.Device)
	if err != nil {
		c.failf("the copy cannot be read: %v", err)
	}
	defer f.Close()
	got := make([]byte, blockSize)
	if _, err := f.ReadAt(got, 0); err != nil {
		c.failf("the copy cannot be read: %v", err)
	}
	if !bytes.Equal(got, want) {
		c.failf("%s", what)
	}
}

var contentCases = []Case{
	{"content/point-in-time", "a copy holds what was on its original at CommitSnapshots, and nothing later", func(c *check) {
		c.write(0)
		set := c.reach(commit)
		want := c.write(0)
		c.must("CommitSnapshots", c.phase(commit, set))
		c.write(0)
		c.must("PostCommitSnapshots", c.phase(postCommit, set))
		copies := c.targets(set, c.lun(0))
		c.advance(set, preFinal, postFinal+1)
		c.must("LocateLUNs", c.locate(copies...))
		c.holds(c.attach(copies[0]), want, "the copy does not hold what was on its original when CommitSnapshots was called")
	}},
	{"content/stays", "later writes to the original do not show in a copy", func(c *check) {
		want := c.write(0)
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		d := c.attach(copies[0])
		c.write(0)
		c.holds(d, want, "what was written to the original after the copy was made is in the copy")
	}},
	{"content/every-lun", "every LUN of a set is copied, each to its own copy", func(c *check) {
		a, b := c.write(0), c.write(1)
		_, copies := c.create(setContext, c.lun(0), c.lun(1))
		c.must("LocateLUNs", c.locate(copies...))
		c.holds(c.attach(copies[0]), a, "the copy of the first LUN does not hold what was on it")
		c.holds(c.attach(copies[1]), b, "the copy of the second LUN does not hold what was on it")
	}},
}

func (c *check) change(luns, originals []lun.Info, flags vss.HardwareOptions) error {
	ch := need[provider.LUNStateChanger](c)
	return c.do("OnLUNStateChange", c.s.Patience, func(ctx context.Context) error {
		return ch.OnLUNStateChange(ctx, clones(luns), clones(originals), flags)
	})
}

func (c *check) describe(luns ...lun.Info) ([]provider.Description, error) {
	d := need[provider.Describer](c)
	return call(c, "DescribeLUNs", c.s.Patience, func(ctx context.Context) ([]provider.Description, error) { return d.DescribeLUNs(ctx, clones(luns)) })
}

var optionalCases = []Case{
	{"state/mask", "DO_MASK_LUNS hides a copy and keeps its data: it can be located again", func(c *check) {
		need[provider.LUNStateChanger](c)
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		for range 2 {
			c.must("OnLUNStateChange with DO_MASK_LUNS", c.change(copies, []lun.Info{c.lun(0)}, vss.ONLUNSTATECHANGE_DO_MASK_LUNS))
		}
		c.must("LocateLUNs of a copy that was masked", c.locate(copies...))
	}},
	{"state/lists", "the lists of copies and originals are parallel", func(c *check) {
		need[provider.LUNStateChanger](c)
		_, copies := c.create(setContext, c.lun(0))
		c.refused("OnLUNStateChange with one copy and two originals", c.change(copies, []lun.Info{c.lun(0), c.lun(0)}, vss.ONLUNSTATECHANGE_DO_MASK_LUNS), vss.E_INVALIDARG)
	}},
	{"state/unknown-flag", "a flag that is none is an invalid argument", func(c *check) {
		need[provider.LUNStateChanger](c)
		_, copies := c.create(setContext, c.lun(0))
		c.refused("OnLUNStateChange with flag 0x1, which does not exist,", c.change(copies, []lun.Info{c.lun(0)}, 1), vss.E_INVALIDARG)
	}},
	{"state/recovery", "the notifications of a writable window are taken", func(c *check) {
		need[provider.LUNStateChanger](c)
		_, copies := c.create(setContext, c.lun(0))
		c.must("LocateLUNs", c.locate(copies...))
		for _, f := range []vss.HardwareOptions{vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY, vss.ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY} {
			c.must("OnLUNStateChange with "+f.String(), c.change(copies, []lun.Info{c.lun(0)}, f))
		}
	}},
	{"describe/copy", "DescribeLUNs says a copy's size and generation, the same each time", func(c *check) {
		need[provider.Describer](c)
		_, copies := c.create(setContext, c.lun(0))
		a, err := c.describe(copies...)
		c.must("DescribeLUNs", err)
		b, err := c.describe(copies...)
		c.must("DescribeLUNs, asked again,", err)
		switch {
		case len(a) != 1 || len(b) != 1:
			c.failf("DescribeLUNs was asked about one LUN and answered about %d", len(a))
		case a[0].Size == 0 || a[0].Size%512 != 0:
			c.failf("DescribeLUNs says that the copy has %d bytes", a[0].Size)
		case c.s.LUNs[0].Size != 0 && a[0].Size != c.s.LUNs[0].Size:
			c.failf("DescribeLUNs says that the copy has %d bytes; its original has %d", a[0].Size, c.s.LUNs[0].Size)
		case a[0].Generation == 0:
			c.failf("DescribeLUNs says generation 0 of a committed copy; it must change with the content, so it cannot be the zero of what was never written")
		case a[0] != b[0]:
			c.failf("DescribeLUNs of a copy nobody touched answered %+v and %+v", a[0], b[0])
		}
	}},
	{"describe/one-for-one", "DescribeLUNs answers in the order of the question", func(c *check) {
		need[provider.Describer](c)
		_, copies := c.create(setContext, c.lun(0), c.lun(1))
		a, err := c.describe(copies[0], copies[1])
		c.must("DescribeLUNs", err)
		b, err := c.describe(copies[1], copies[0])
		c.must("DescribeLUNs", err)
		if len(a) != 2 || len(b) != 2 || a[0].Size != b[1].Size || a[1].Size != b[0].Size || a[0].Generation != b[1].Generation || a[1].Generation != b[0].Generation {
			c.failf("asked in another order, DescribeLUNs answered %+v and %+v", a, b)
		}
	}},
	{"describe/unknown", "a LUN of nobody cannot be described", func(c *check) {
		need[provider.Describer](c)
		_, err := c.describe(stranger())
		c.refused("DescribeLUNs of a LUN that no provider has", err)
	}},
	{"stores/listed", "BackingStores names a path with every filesystem", func(c *check) {
		b := need[provider.BackingStores](c)
		got, err := call(c, "BackingStores", c.s.Quick, func(ctx context.Context) ([]provider.BackingStore, error) { return b.BackingStores(ctx) })
		c.must("BackingStores", err)
		for _, s := range got {
			if s.Path == "" || s.Device == 0 {
				c.failf("BackingStores named a filesystem without its device or a path: %+v", s)
			}
		}
	}},
	{"ticket/unknown-set", "a set that never was gets no ticket", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		_, err := call(c, "IssueTicket", c.s.Patience, func(ctx context.Context) ([]byte, error) { return issuer.IssueTicket(ctx, vss.NewID(), [32]byte{}) })
		c.refused("IssueTicket for a set that never was", err)
	}},
	{"ticket/verified", "a ticket fits its set and its digest, and no other", func(c *check) {
		issuer := need[provider.TicketIssuer](c)
		v := need[provider.TicketVerifier](c)
		set, copies := c.create(travelling, c.lun(0))
		im := c.ticket(issuer, set, copies)
		verify := func(ticket []byte, set vss.ID, digest [32]byte) error {
			return c.do("VerifyTicket", c.s.Quick, func(context.Context) error { return v.VerifyTicket(ticket, set, digest) })
		}
		c.must("VerifyTicket of a ticket just issued", verify(im.Ticket, set, im.Digest))
		c.refused("VerifyTicket with the ticket of another set", verify(im.Ticket, vss.NewID(), im.Digest), vss.VSS_E_INVALID_XML_DOCUMENT, vss.VSS_E_PROVIDER_VETO)
		c.refused("VerifyTicket with another digest", verify(im.Ticket, set, [32]byte{9}), vss.VSS_E_INVALID_XML_DOCUMENT, vss.VSS_E_PROVIDER_VETO)
	}},
	{"concurrent/questions", "questions may come while a set is made, many at once", func(c *check) {
		set := c.reach(preCommit)
		var wg sync.WaitGroup
		thrown := make(chan any, 8)
		for range 8 {
			wg.Go(func() {
				defer func() {
					if v := recover(); v != nil {
						thrown <- v
					}
				}()
				_, err := c.supported(setContext, c.lun(0))
				c.must("AreLUNsSupported during a creation", err)
				l := stranger()
				_, err = c.fill("/dev/null", &l)
				c.must("FillInLUNInfo during a creation", err)
			})
		}
		wg.Wait()
		select {
		case v := <-thrown:
			panic(v)
		default:
		}
		c.advance(set, preCommit, postCommit+1)
		c.targets(set, c.lun(0))
	}},
}
