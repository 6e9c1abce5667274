package vss

import "strings"

// Attributes are the VSS_VOLSNAP_ATTR_* bits of a shadow copy (requester.md
// 5.2). They also carry the context the copy was created in.
type Attributes uint32

// Attribute bits. R: a requester may OR it into SetContext; V: set by the
// service or the provider only.
const (
	ATTR_PERSISTENT           Attributes = 0x00000001 // V: survives reboot
	ATTR_NO_AUTORECOVERY      Attributes = 0x00000002 // R: read-only at once, no writer fix-up
	ATTR_CLIENT_ACCESSIBLE    Attributes = 0x00000004 // V: for shared folders; never exposed
	ATTR_NO_AUTO_RELEASE      Attributes = 0x00000008 // V: only DeleteSnapshots removes it
	ATTR_NO_WRITERS           Attributes = 0x00000010 // V: writerless
	ATTR_TRANSPORTABLE        Attributes = 0x00000020 // R: will be moved, not surfaced locally
	ATTR_NOT_SURFACED         Attributes = 0x00000040 // V: set unless exposed or mounted
	ATTR_NOT_TRANSACTED       Attributes = 0x00000080 // R: no transaction manager integration
	ATTR_HARDWARE_ASSISTED    Attributes = 0x00010000 // V: made by a hardware provider
	ATTR_DIFFERENTIAL         Attributes = 0x00020000 // R: copy-on-write required
	ATTR_PLEX                 Attributes = 0x00040000 // R: mirror split required
	ATTR_IMPORTED             Attributes = 0x00080000 // V: came by ImportSnapshots
	ATTR_EXPOSED_LOCALLY      Attributes = 0x00100000 // V: mounted folder
	ATTR_EXPOSED_REMOTELY     Attributes = 0x00200000 // V: share
	ATTR_AUTORECOVER          Attributes = 0x00400000 // V: writers auto-recover in PostSnapshot
	ATTR_ROLLBACK_RECOVERY    Attributes = 0x00800000 // R: for rollback or data mining
	ATTR_DELAYED_POSTSNAPSHOT Attributes = 0x01000000 // reserved
	ATTR_TXF_RECOVERY         Attributes = 0x02000000 // R: force recovery at creation
	ATTR_FILE_SHARE           Attributes = 0x04000000 // V: file share copy
)

var attributeNames = []struct {
	bit  Attributes
	name string
}{
	{ATTR_PERSISTENT, "persistent"}, {ATTR_NO_AUTORECOVERY, "no-autorecovery"},
	{ATTR_CLIENT_ACCESSIBLE, "client-accessible"}, {ATTR_NO_AUTO_RELEASE, "no-auto-release"},
	{ATTR_NO_WRITERS, "no-writers"}, {ATTR_TRANSPORTABLE, "transportable"},
	{ATTR_NOT_SURFACED, "not-surfaced"}, {ATTR_NOT_TRANSACTED, "not-transacted"},
	{ATTR_HARDWARE_ASSISTED, "hardware-assisted"}, {ATTR_DIFFERENTIAL, "differential"},
	{ATTR_PLEX, "plex"}, {ATTR_IMPORTED, "imported"},
	{ATTR_EXPOSED_LOCALLY, "exposed-locally"}, {ATTR_EXPOSED_REMOTELY, "exposed-remotely"},
	{ATTR_AUTORECOVER, "autorecover"}, {ATTR_ROLLBACK_RECOVERY, "rollback-recovery"},
	{ATTR_DELAYED_POSTSNAPSHOT, "delayed-postsnapshot"}, {ATTR_TXF_RECOVERY, "txf-recovery"},
	{ATTR_FILE_SHARE, "file-share"},
}

// Has reports whether all bits of want are set.
func (a Attributes) Has(want Attributes) bool { return a&want == want }

// String lists the names of the set bits.
func (a Attributes) String() string {
	var names []string
	for _, n := range attributeNames {
		if a.Has(n.bit) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " ")
}

// Context is a VSS_SNAPSHOT_CONTEXT (requester.md 5.1): how long copies live,
// whether writers take part, and the modifiers OR-ed to it.
type Context uint32

// Contexts.
const (
	CTX_BACKUP                    Context = 0x00000000
	CTX_FILE_SHARE_BACKUP         Context = 0x00000010
	CTX_NAS_ROLLBACK              Context = 0x00000019
	CTX_APP_ROLLBACK              Context = 0x00000009
	CTX_CLIENT_ACCESSIBLE         Context = 0x0000001D
	CTX_CLIENT_ACCESSIBLE_WRITERS Context = 0x0000000D
	CTX_ALL                       Context = 0xFFFFFFFF
)

var contextNames = map[Context]string{
	CTX_BACKUP: "backup", CTX_FILE_SHARE_BACKUP: "file-share-backup",
	CTX_NAS_ROLLBACK: "nas-rollback", CTX_APP_ROLLBACK: "app-rollback",
	CTX_CLIENT_ACCESSIBLE: "client-accessible", CTX_CLIENT_ACCESSIBLE_WRITERS: "client-accessible-writers",
	CTX_ALL: "all",
}

// contextBits are the attribute bits that make up a base context; every other
// bit of a Context is a modifier.
const contextBits = Context(ATTR_PERSISTENT | ATTR_CLIENT_ACCESSIBLE | ATTR_NO_AUTO_RELEASE | ATTR_NO_WRITERS)

// modifierBits are what a requester may OR to a base context.
const modifierBits = Context(ATTR_TRANSPORTABLE | ATTR_NO_AUTORECOVERY | ATTR_NOT_TRANSACTED |
	ATTR_DIFFERENTIAL | ATTR_PLEX | ATTR_ROLLBACK_RECOVERY | ATTR_TXF_RECOVERY)

// Base returns the context without modifiers.
func (c Context) Base() Context {
	if c == CTX_ALL {
		return c
	}
	return c & contextBits
}

// Attributes returns the context as attribute bits, modifiers included. For
// CTX_ALL, which no copy is created in, it returns 0.
func (c Context) Attributes() Attributes {
	if c == CTX_ALL {
		return 0
	}
	return Attributes(c)
}

// Has reports whether the context carries all the bits of a.
func (c Context) Has(a Attributes) bool { return c.Attributes().Has(a) }

// Persistent reports whether copies of this context survive reboot.
func (c Context) Persistent() bool { return c.Has(ATTR_PERSISTENT) }

// AutoRelease reports whether copies of this context are deleted with the
// requester object that made or imported them.
func (c Context) AutoRelease() bool { return c != CTX_ALL && !c.Has(ATTR_NO_AUTO_RELEASE) }

// Writers reports whether writers take part.
func (c Context) Writers() bool { return c != CTX_ALL && !c.Has(ATTR_NO_WRITERS) }

// Transportable reports whether copies will be imported elsewhere.
func (c Context) Transportable() bool { return c.Has(ATTR_TRANSPORTABLE) }

// String is the base context's name with its modifiers: "app-rollback
// transportable".
func (c Context) String() string {
	name, ok := contextNames[c.Base()]
	if !ok {
		name = "invalid"
	}
	if mods := c.Attributes() &^ Attributes(contextBits); mods != 0 {
		name += " " + mods.String()
	}
	return name
}

// ParseContext reads a base context by the name String gives it.
func ParseContext(name string) (Context, error) {
	for c, n := range contextNames {
		if strings.EqualFold(n, name) {
			return c, nil
		}
	}
	return 0, &Error{Code: E_INVALIDARG, Op: "parse context", Object: name, Reason: "no such context",
		Remedy: "Use backup, file-share-backup, app-rollback, nas-rollback, client-accessible or client-accessible-writers"}
}

// Validate reports whether a requester may set this context: a known base and
// only permitted modifiers (E_INVALIDARG otherwise), and no recovery of a copy
// that leaves the machine (VSS_E_UNSUPPORTED_CONTEXT; requester.md 5.2 and 8
// row 25).
func (c Context) Validate() error {
	bad := func(code HResult, reason, remedy string) error {
		return &Error{Code: code, Op: "SetContext", Object: c.String(), Reason: reason, Remedy: remedy}
	}
	if c == CTX_ALL {
		return nil
	}
	if _, ok := contextNames[c.Base()]; !ok {
		return bad(E_INVALIDARG, "the persistence and writer bits name no context", "Use one of the contexts of vss.Context")
	}
	mods := c &^ contextBits
	switch {
	case c.Transportable() && c.Has(ATTR_AUTORECOVER):
		return bad(VSS_E_UNSUPPORTED_CONTEXT, "a transportable copy cannot be auto-recovered: its writers stay behind", "Import the copy, break it writable and recover there")
	case mods&^modifierBits != 0:
		return bad(E_INVALIDARG, "it carries attribute bits a requester may not set", "Leave out "+Attributes(mods&^modifierBits).String())
	case c.Has(ATTR_CLIENT_ACCESSIBLE) && mods != 0:
		return bad(E_INVALIDARG, "client-accessible contexts take no modifiers", "Use app-rollback or nas-rollback for copies that travel")
	case c.Has(ATTR_DIFFERENTIAL | ATTR_PLEX):
		return bad(E_INVALIDARG, "differential and plex exclude each other", "Name one of them, or neither to let the provider choose")
	case c.Transportable() && c.Has(ATTR_ROLLBACK_RECOVERY):
		return bad(VSS_E_UNSUPPORTED_CONTEXT, "a transportable copy cannot be auto-recovered: its writers stay behind", "Import the copy, break it writable and recover there")
	}
	return nil
}
