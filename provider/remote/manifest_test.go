package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

const goodManifest = `id = "{5a1d0f6e-3c2b-4a19-8e7d-6f5e4d3c2b1a}"
name = "Test provider"
version = "1.0"
version_id = "{6a1d0f6e-3c2b-4a19-8e7d-6f5e4d3c2b1b}"
class = "{7a1d0f6e-3c2b-4a19-8e7d-6f5e4d3c2b1c}"
type = "hardware"
program = "/usr/bin/true"
`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	if p := m.Properties(); p.Name != "Test provider" || p.ProviderID.IsNull() || p.ClassID.IsNull() || p.Type != vss.PROV_HARDWARE {
		t.Errorf("%+v", p)
	}
	if d, _ := m.idle(); d != DefaultIdle {
		t.Error(d)
	}
	for name, change := range map[string][2]string{
		"no id":              {`id = "{5a1d0f6e-3c2b-4a19-8e7d-6f5e4d3c2b1a}"`, ``},
		"no name":            {`"Test provider"`, `""`},
		"a name with a line": {`"Test provider"`, `"a\nb"`},
		"a long name":        {`Test provider`, strings.Repeat("x", 300)},
		"software":           {`"hardware"`, `"software"`},
		"another type":       {`"hardware"`, `"magic"`},
		"no program":         {`program = "/usr/bin/true"`, ``},
		"both":               {`program = "/usr/bin/true"`, "program = \"/usr/bin/true\"\nsocket = \"/run/x\""},
		"a relative program": {`"/usr/bin/true"`, `"true"`},
		"an unknown key":     {`class =`, `klass =`},
		"a bad idle":         {`type =`, "idle = \"soon\"\ntype ="},
		"no TOML":            {`id`, `]`},
	} {
		raw := strings.Replace(goodManifest, change[0], change[1], 1)
		if _, err := ParseManifest([]byte(raw)); vss.CodeOf(err) != vss.E_INVALIDARG || vss.AsError("", err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseManifest(make([]byte, maxManifest+1)); vss.CodeOf(err) != vss.E_INVALIDARG {
		t.Error(err)
	}
}

// A program that others could replace is not run.
func TestCheckPrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	m, _ := ParseManifest([]byte(goodManifest))
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	m.Program = filepath.Join(dir, "p")
	want := func(code vss.HResult) {
		t.Helper()
		if err := m.Check(); vss.CodeOf(err) != code {
			t.Errorf("%v, want %v", err, code)
		}
	}
	want(vss.E_INVALIDARG)
	if err := os.WriteFile(m.Program, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want(vss.E_INVALIDARG) // cannot be run
	for _, mode := range []os.FileMode{0o755, 0o775, 0o757} {
		if err := os.Chmod(m.Program, mode); err != nil {
			t.Fatal(err)
		}
		code := vss.E_ACCESSDENIED
		if mode == 0o755 {
			code = vss.S_OK
		}
		want(code)
	}
	_ = os.Chmod(m.Program, 0o755)
	if err := os.Chown(m.Program, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	want(vss.E_ACCESSDENIED)
	_ = os.Chown(m.Program, 0, 0)
	_ = os.Chmod(dir, 0o777)
	want(vss.E_ACCESSDENIED)
	_ = os.Chmod(dir, 0o755)
	m.User = "no-such-user"
	want(vss.E_INVALIDARG)
}
