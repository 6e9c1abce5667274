package share

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// Config says whether and how copies are shared: the table [share] of the
// daemon's configuration.
type Config struct {
	Type         string   `toml:"type"`          // TypeSamba, TypeNFS, or "" for no new shares
	SambaConfig  string   `toml:"samba_config"`  // smb.conf, "" for Samba's own
	SambaReaders []string `toml:"samba_readers"` // who may read
	SambaGuests  bool     `toml:"samba_guests"`  // without logging on
	NFSClients   []string `toml:"nfs_clients"`   // who may mount
}

// DefaultConfig shares nothing.
func DefaultConfig() Config {
	return Config{SambaReaders: []string{"Everyone"}, NFSClients: []string{}}
}

// New returns the shares of a machine, mounted below dir. E_INVALIDARG if the
// configuration is wrong; whether a server is installed is asked when one is
// needed.
func New(dir string, c Config) (*Shares, error) {
	bad := func(key, value, reason, remedy string) error {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: "share." + key + " " + strconv.Quote(value), Reason: reason, Remedy: remedy}
	}
	if !slices.Contains([]string{"", TypeSamba, TypeNFS}, c.Type) {
		return nil, bad("type", c.Type, "there is no such file server", `Give "samba", "nfs", or "" for none`)
	}
	if c.SambaConfig != "" && !filepath.IsAbs(c.SambaConfig) {
		return nil, bad("samba_config", c.SambaConfig, "not an absolute path", "Give the full path of smb.conf")
	}
	for _, r := range c.SambaReaders {
		if strings.TrimSpace(r) == "" || strings.ContainsAny(r, ":,\x00\n") {
			return nil, bad("samba_readers", r, "this cannot be an account", "Give names or SIDs of users or groups; they may only read")
		}
	}
	if c.Type == TypeSamba && len(c.SambaReaders) == 0 {
		return nil, bad("samba_readers", "", "nobody could read", `Give "Everyone" for all whom Samba knows`)
	}
	for _, n := range c.NFSClients {
		if err := CheckClient(n); err != nil {
			return nil, err
		}
	}
	return &Shares{Dir: dir, Default: c.Type, Servers: map[string]Server{
		TypeSamba: Samba{Config: c.SambaConfig, Readers: c.SambaReaders, Guests: c.SambaGuests},
		TypeNFS:   NFS{Clients: c.NFSClients},
	}}, nil
}
