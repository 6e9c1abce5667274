package share

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"db", "Db-2026.11_24", "1", "umbra-0a1b2c3d", strings.Repeat("x", 80)} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "-r", "a/b", "a b", "a\nb", "IPC$", "Global", "homes", "$x", "a;b", "ä", "x\x00", strings.Repeat("x", 81)} {
		if err := CheckName(bad); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{"": "", "/": "", "a": "a", "a/": "a", "/a/b//c/": "a/b/c", "./a": "a", "photos [2019]": "photos [2019]", "100%": "100%", "a..b": "a..b", "cost$": "cost$"} {
		if got, err := CleanPath(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"a*", "a?b", "$HOME/x", "${x}", "$(x)", "%TEMP%", "..", "a/../b", "../etc", "a/..", "a\x00b"} {
		if got, err := CleanPath(bad); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}
