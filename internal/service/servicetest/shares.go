package servicetest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/umbra-vss/umbra/internal/host/share"
	"github.com/umbra-vss/umbra/vss"
)

// Shares is a file server that remembers over a reboot what a Host shares. Its
// hooks are the Host's: "Free", "MountShare", "Publish", "Withdraw"; its mounts
// are the Host's at "share:NAME".
type Shares struct {
	Host *Host

	mu        sync.Mutex
	none      bool
	published map[string]share.Share
}

// NewShares is the file server of a machine.
func NewShares(h *Host) *Shares { return &Shares{Host: h, published: map[string]share.Share{}} }

// Unconfigure makes new shares impossible.
func (s *Shares) Unconfigure(none bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.none = none
}

// Published lists the shares that clients see.
func (s *Shares) Published() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.published))
}

// Type implements copies.Shares.
func (s *Shares) Type() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.none {
		return (&share.Shares{}).Type()
	}
	return "test", nil
}

// Free implements copies.Shares.
func (s *Shares) Free(ctx context.Context, sh share.Share) error { return s.Host.hook(ctx, "Free") }

// Mount implements copies.Shares.
func (s *Shares) Mount(ctx context.Context, sh share.Share) error {
	if err := s.Host.hook(ctx, "MountShare"); err != nil {
		return err
	}
	h := s.Host
	h.mu.Lock()
	defer h.mu.Unlock()
	name := sh.Device.LUN.Name()
	if d, ok := h.devices[name]; !ok || d.DiskSeq != sh.Device.DiskSeq || h.mounts[sh.Root] != name {
		return gone("mount share", sh.Root)
	}
	h.Journal.add("MountShare %s", sh.Path)
	h.mounts["share:"+sh.Name] = name
	return nil
}

// Publish implements copies.Shares.
func (s *Shares) Publish(ctx context.Context, sh share.Share) error {
	if err := s.Host.hook(ctx, "Publish"); err != nil {
		return err
	}
	s.Host.Journal.add("Publish")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[sh.Name] = sh
	return nil
}

// Withdraw implements copies.Shares.
func (s *Shares) Withdraw(ctx context.Context, sh share.Share) error {
	if err := s.Host.hook(ctx, "Withdraw"); err != nil {
		return err
	}
	s.Host.Journal.add("Withdraw")
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.published, sh.Name)
	return nil
}

// Unmount implements copies.Shares.
func (s *Shares) Unmount(ctx context.Context, sh share.Share) error {
	return s.Host.Unmount(ctx, "share:"+sh.Name, sh.Device)
}

// UnmountLazily implements copies.Shares.
func (s *Shares) UnmountLazily(ctx context.Context, sh share.Share) error {
	return s.Host.UnmountLazily(ctx, "share:"+sh.Name, sh.Device)
}

// Sweep implements copies.Shares.
func (s *Shares) Sweep(ctx context.Context, keep map[string]bool) (removed []string, err error) {
	for _, name := range s.Published() {
		if !keep[name] {
			removed = append(removed, name)
			err = s.Withdraw(ctx, share.Share{Name: name, Copy: vss.GUIDNull})
		}
	}
	return removed, err
}
