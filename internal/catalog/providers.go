package catalog

import "github.com/umbra-vss/umbra/vss"

// Provider is a registered provider that is a program of its own.
type Provider struct {
	ID       vss.ID `json:"id"`
	Manifest string `json:"manifest"` // as it was registered

	// The filesystems below its LUNs as it named them last, for when it cannot be
	// asked. Their numbers mean something in the boot in which it said so.
	Stores []ProviderStore `json:"stores,omitempty"`
	BootID string          `json:"boot_id,omitempty"`
}

// ProviderStore is a filesystem below a provider's LUNs.
type ProviderStore struct {
	Device uint64 `json:"device"` // st_dev
	Path   string `json:"path"`
}

// PutProvider writes a registration.
func (t *Tx) PutProvider(p Provider) error { return put(t.tx, bucketProviders, p.ID.Bare(), p) }

// DeleteProvider removes a registration; there need not be one.
func (t *Tx) DeleteProvider(id vss.ID) error {
	return t.tx.Bucket(bucketProviders).Delete([]byte(id.Bare()))
}

// Providers lists the registrations.
func (t *Tx) Providers() ([]Provider, error) { return all[Provider](t, bucketProviders) }
