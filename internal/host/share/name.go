package share

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

const exposeOp = "ExposeSnapshot"

// names are what every server and client can live with: a folder, a section of
// smb.conf, a word in etab.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)

// reserved by Samba.
var reserved = []string{"global", "homes", "printers", "print$", "ipc$", "admin$", "netlogon", "sysvol"}

// CheckName refuses what cannot be the name of a share with E_INVALIDARG.
func CheckName(name string) error {
	if names.MatchString(name) && !slices.Contains(reserved, strings.ToLower(name)) {
		return nil
	}
	return &vss.Error{Code: vss.E_INVALIDARG, Op: exposeOp, Object: strconv.Quote(name), Reason: "this cannot be the name of a share",
		Remedy: "Give up to 80 letters, digits, dots, dashes and underscores that begin with a letter or digit, and no name that Samba reserves"}
}

// variable is what a shell or Windows would replace in a path.
var variable = regexp.MustCompile(`\$[A-Za-z_{(]|%[A-Za-z_][A-Za-z0-9_]*%`)

// CleanPath is the path of a subtree, from the copy's root and without slashes
// at its ends; "" is the whole of it. E_INVALIDARG for wildcards, variables and
// "..": a path is taken as it is, and who writes one of these expects more.
func CleanPath(p string) (string, error) {
	reason := ""
	switch {
	case strings.ContainsRune(p, 0):
		reason = "it has a zero byte"
	case strings.ContainsAny(p, "*?"):
		reason = "wildcards are not allowed"
	case variable.MatchString(p):
		reason = "environment variables are not allowed"
	case slices.Contains(strings.Split(p, "/"), ".."):
		reason = `".." is not allowed`
	}
	if reason != "" {
		return "", &vss.Error{Code: vss.E_INVALIDARG, Op: exposeOp, Object: strconv.Quote(p), Reason: reason, Remedy: "Give the path of one folder from the copy's root, or none for the whole copy"}
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/"), nil
}
