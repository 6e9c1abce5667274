package share

import (
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

func TestConfig(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*Config)
		want   vss.HResult
	}{
		"default":         {func(*Config) {}, vss.S_OK},
		"samba":           {func(c *Config) { c.Type, c.SambaReaders = "samba", []string{`DOMAIN\backup operators`, "S-1-5-32-551"} }, vss.S_OK},
		"nfs":             {func(c *Config) { c.Type, c.NFSClients = "nfs", []string{"192.0.2.0/24"} }, vss.S_OK},
		"unknown server":  {func(c *Config) { c.Type = "webdav" }, vss.E_INVALIDARG},
		"relative config": {func(c *Config) { c.SambaConfig = "smb.conf" }, vss.E_INVALIDARG},
		"a right":         {func(c *Config) { c.SambaReaders = []string{"backup:F"} }, vss.E_INVALIDARG},
		"an empty reader": {func(c *Config) { c.SambaReaders = []string{""} }, vss.E_INVALIDARG},
		"no reader":       {func(c *Config) { c.Type, c.SambaReaders = "samba", nil }, vss.E_INVALIDARG},
		"options":         {func(c *Config) { c.NFSClients = []string{"192.0.2.1(rw)"} }, vss.E_INVALIDARG},
	} {
		c := DefaultConfig()
		tt.change(&c)
		_, err := New("/run/umbra/shares", c)
		is(t, what, err, tt.want)
	}
}
