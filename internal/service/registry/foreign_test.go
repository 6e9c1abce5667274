package registry_test

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/registry"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
)

// What a provider named as the filesystems below its LUNs counts while it does
// not start. After a boot they have the numbers that they have then.
func TestStoresOfAProviderThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	var here unix.Stat_t
	if err := unix.Stat(dir, &here); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		boot string
		want []provider.BackingStore
	}{
		"in the same boot": {"now", []provider.BackingStore{{Device: 7, Path: dir}, {Device: 8, Path: dir + "/gone"}}},
		"after a boot":     {"before", []provider.BackingStore{{Device: here.Dev, Path: dir}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := catalog.Open(filepath.Join(t.TempDir(), "catalog.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			id := vss.NewID()
			err = c.Update(t.Context(), func(tx *catalog.Tx) error {
				return tx.PutProvider(catalog.Provider{ID: id, BootID: tt.boot, Stores: []catalog.ProviderStore{{Device: 7, Path: dir}, {Device: 8, Path: dir + "/gone"}},
					Manifest: `id = "` + id.String() + `"` + "\n" + `version_id = "` + id.String() + `"` + "\nname = \"n\"\nversion = \"1\"\ntype = \"hardware\"\nprogram = \"/does/not/exist\"\n"})
			})
			if err != nil {
				t.Fatal(err)
			}
			r := registry.New()
			if err := r.Open(c, remote.Options{Dir: t.TempDir(), StateDir: t.TempDir()}, "now"); err != nil {
				t.Fatal(err)
			}
			defer r.Close(t.Context())
			p, err := r.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			b, ok := provider.As[provider.BackingStores](p)
			if !ok {
				t.Fatal("nothing is known of them")
			}
			got, err := b.BackingStores(t.Context())
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
