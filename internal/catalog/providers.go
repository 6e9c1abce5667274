package catalog

import "github.com/umbra-vss/umbra/vss"

// Provider is a registered provider that is a program of its own.
type Provider struct {
	ID       vss.ID `json:"id"`
	Manifest string `json:"manifest"` // as it was registered
}

// PutProvider writes a registration.
func (t *Tx) PutProvider(p Provider) error { return put(t.tx, bucketProviders, p.ID.Bare(), p) }

// DeleteProvider removes a registration; there need not be one.
func (t *Tx) DeleteProvider(id vss.ID) error {
	return t.tx.Bucket(bucketProviders).Delete([]byte(id.Bare()))
}

// Providers lists the registrations.
func (t *Tx) Providers() ([]Provider, error) { return all[Provider](t, bucketProviders) }
