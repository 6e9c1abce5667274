package hide

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packaged is how sg3-utils' file is made.
const packaged = `# SCSI-ID mappings

ACTION=="remove", GOTO="sg3_utils_id_end"
SUBSYSTEM=="block", GOTO="block_dev"
LABEL="block_dev"
IMPORT{program}="/usr/bin/sg_inq --export $env{.INQUIRY_DEV}", \\
  ENV{ID_SCSI}="1"
LABEL="sg3_utils_id_end"
`

// TestInquiry: the packaged file's programs are not for hidden disks, and the
// file is left alone where it is another, or somebody's already.
func TestInquiry(t *testing.T) {
	const name = "55-scsi-sg3_id.rules"
	r := Rules{Dir: t.TempDir(), Vendor: t.TempDir(), Reload: func(context.Context) error { return nil }}
	ours := func() string {
		t.Helper()
		if err := r.HideFamily(t.Context(), "6001405123456789"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	put := func(dir, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := ours(); got != "" {
		t.Errorf("nothing is packaged, and there is\n%s", got)
	}
	want := inquiryMark + `ENV{UMBRA_HIDDEN}=="1", ENV{ID_SERIAL}=="?*", GOTO="sg3_utils_id_end"` + "\n" + packaged
	put(r.Vendor, packaged)
	if got := ours(); got != want {
		t.Errorf("%s\nis not\n%s", got, want)
	}
	put(r.Vendor, packaged+"\n\n") // upgraded
	if got := ours(); got != want+"\n\n" {
		t.Errorf("after an upgrade it is\n%s", got)
	}
	for what, text := range map[string]string{
		"its last label is not its end": packaged + "ENV{ID_X}=\"1\"\n",
		"no such label":                 strings.Replace(packaged, "LABEL=\"sg3", "LABEL=\"other", 1),
		"another beginning":             strings.Replace(packaged, "ACTION==", "ACTION!=", 1),
	} {
		put(r.Vendor, text)
		if got := ours(); got != "" {
			t.Errorf("%s: there is\n%s", what, got)
		}
	}
	put(r.Vendor, packaged)
	put(r.Dir, "# the administrator's\n")
	if got := ours(); got != "# the administrator's\n" {
		t.Errorf("somebody's file became\n%s", got)
	}
	put(r.Dir, want)
	r.Vendor = ""
	if got := ours(); got != want {
		t.Errorf("where the rules are not the running udev's, it became\n%s", got)
	}
}
