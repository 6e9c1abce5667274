package hide

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// sg3-utils has udev start three programs for every event of a SCSI disk, and
// some shells for what those find. For a hidden disk nobody asks for any of it,
// but for the serial number, which these rules know. With 16 disks that come at
// once it is more than half of what the machine does then. Rules cannot skip
// another file's, but a file of the same name in udev's runtime folder takes the
// place of the packaged one. So it gets a copy of that, with one rule more.
//
// A packaged file that is not understood, or that somebody has replaced already,
// is left alone: it is slower then, and as safe.

// VendorDir is where packages have their rules.
const VendorDir = "/usr/lib/udev/rules.d"

// inquiries are the names that distributions give the file.
const inquiries = "*-scsi-sg3_id.rules"

const inquiryMark = "# Written by Umbra: the packaged file, but that it is not for hidden disks.\n"

// inquiryEnd is the file's first rule, from which the label at its end is known.
var inquiryEnd = regexp.MustCompile(`(?m)^ACTION=="remove", GOTO="([A-Za-z0-9_]+)"$`)

// renderInquiry is a packaged file with the exception; false if it is not one
// that it can be put into.
func renderInquiry(packaged string) (string, bool) {
	m := inquiryEnd.FindStringSubmatch(packaged)
	if m == nil {
		return "", false
	}
	_, rest, ok := strings.Cut(packaged, "\nLABEL=\""+m[1]+"\"")
	if !ok || strings.Trim(rest, "\n \t") != "" {
		return "", false
	}
	return inquiryMark + fmt.Sprintf("ENV{UMBRA_HIDDEN}==\"1\", ENV{ID_SERIAL}==\"?*\", GOTO=\"%s\"\n", m[1]) + packaged, true
}

// spare adds to files to be written those that take the place of packaged ones,
// and removes what takes the place of one that is no more. It is best effort.
func (r Rules) spare(rules map[string]string) {
	if r.Vendor == "" {
		return
	}
	packaged, _ := filepath.Glob(filepath.Join(r.Vendor, inquiries))
	for _, path := range packaged {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		name := filepath.Base(path)
		made, ok := renderInquiry(string(text))
		have, err := os.ReadFile(filepath.Join(r.dir(), name))
		if ok && (errors.Is(err, os.ErrNotExist) || strings.HasPrefix(string(have), inquiryMark)) {
			rules[name] = made
		}
	}
	ours, _ := filepath.Glob(filepath.Join(r.dir(), inquiries))
	for _, path := range ours {
		if have, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(have), inquiryMark) && rules[filepath.Base(path)] == "" {
			_ = os.Remove(path)
		}
	}
}
