package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
)

// TestProviderGuide: what docs/provider-guide.md tells a newcomer to type works as
// it is written there, but for the places.
func TestProviderGuide(t *testing.T) {
	s := newSample(t)
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "provider-guide.md"))
	s.must(err)
	_, text, found := strings.Cut(string(guide), "\n## Try it\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var script []string
	for block, rest, ok := "", text, true; ok; {
		if _, rest, ok = strings.Cut(rest, "\n```sh\n"); ok {
			block, rest, ok = strings.Cut(rest, "\n```\n")
			script = append(script, block)
		}
	}
	if !found || len(script) != 2 {
		t.Fatalf("%d blocks under Try it", len(script))
	}
	for _, name := range []string{"naa.60022a10000000000000000000000001", "naa.60022a10000000000000000000000002"} {
		n, err := lun.ParseNAA(name)
		s.must(err)
		s.luns = append(s.luns, n)
	}
	work := filepath.Dir(s.manifest)
	s.must(os.Symlink(binary, filepath.Join(work, "umbra")))
	s.must(os.Remove(filepath.Join(work, "reflink"))) // the guide builds it
	root, err := filepath.Abs(filepath.Join("..", ".."))
	s.must(err)
	places := strings.NewReplacer("/usr/local/libexec/umbra-reflink", filepath.Join(work, "reflink"), "/usr/local/libexec", work, "examples/reflink/reflink.toml", s.manifest,
		"/srv/reflink", s.dir, "/srv/data", filepath.Join(work, "data"), "/run/umbra/copies", filepath.Join(s.a.RunDir(), "copies"), "$(hostname)", s.a.Name)
	begin := fmt.Sprintf("set -e\ncd %s\nexport PATH=%s:$PATH UMBRA_SOCKET=%s\n", root, work, s.a.Socket())
	out, err := s.a.Run(s.ctx, "sh", "-c", begin+places.Replace(script[0]))
	if err != nil || !strings.Contains(out, " 0 failed,") || !strings.Contains(out, "Registered Reflink sample") || strings.Count(out, "original ") != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = s.a.Run(s.ctx, "sh", "-c", begin+places.Replace(script[1]))
	if err != nil || !strings.Contains(out, "hello\n") {
		t.Errorf("%v\n%s", err, out)
	}
	s.nothing()
}
