package vss

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestContextMeaning(t *testing.T) {
	for _, c := range []struct {
		context                          Context
		name                             string
		persistent, autoRelease, writers bool
	}{
		{CTX_BACKUP, "backup", false, true, true},
		{CTX_FILE_SHARE_BACKUP, "file-share-backup", false, true, false},
		{CTX_NAS_ROLLBACK, "nas-rollback", true, false, false},
		{CTX_APP_ROLLBACK, "app-rollback", true, false, true},
		{CTX_CLIENT_ACCESSIBLE, "client-accessible", true, false, false},
		{CTX_CLIENT_ACCESSIBLE_WRITERS, "client-accessible-writers", true, false, true},
		{CTX_ALL, "all", false, false, false},
	} {
		if c.context.Persistent() != c.persistent || c.context.AutoRelease() != c.autoRelease || c.context.Writers() != c.writers {
			t.Errorf("%s: persistent %v, auto-release %v, writers %v", c.name, c.context.Persistent(), c.context.AutoRelease(), c.context.Writers())
		}
		if c.context.String() != c.name {
			t.Errorf("%s calls itself %s", c.name, c.context)
		}
		for _, name := range []string{c.name, strings.ToUpper(c.name)} {
			if back, err := ParseContext(name); err != nil || back != c.context {
				t.Errorf("%s: %v, %v", name, back, err)
			}
		}
		if c.context.Transportable() {
			t.Errorf("%s is transportable", c.name)
		}
		if err := c.context.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := ParseContext("app-rollback transportable"); CodeOf(err) != E_INVALIDARG {
		t.Error(err)
	}
	c := CTX_APP_ROLLBACK | Context(ATTR_TRANSPORTABLE|ATTR_PLEX)
	if c.String() != "app-rollback transportable plex" || !c.Transportable() || c.Base() != CTX_APP_ROLLBACK {
		t.Errorf("%s, %v, %v", c, c.Transportable(), c.Base())
	}
	if CTX_ALL.Attributes() != 0 || CTX_ALL.Base() != CTX_ALL {
		t.Error("CTX_ALL is no set of bits")
	}
}

func TestContextValidate(t *testing.T) {
	or := func(c Context, a Attributes) Context { return c | Context(a) }
	for _, c := range []struct {
		context Context
		want    HResult
	}{
		{or(CTX_BACKUP, ATTR_TRANSPORTABLE), S_OK},
		{or(CTX_NAS_ROLLBACK, ATTR_TRANSPORTABLE|ATTR_DIFFERENTIAL), S_OK},
		{or(CTX_APP_ROLLBACK, ATTR_TRANSPORTABLE|ATTR_PLEX), S_OK},
		{or(CTX_APP_ROLLBACK, ATTR_NO_AUTORECOVERY|ATTR_NOT_TRANSACTED), S_OK},
		{or(CTX_APP_ROLLBACK, ATTR_ROLLBACK_RECOVERY), S_OK},
		{or(CTX_BACKUP, ATTR_TXF_RECOVERY), S_OK},
		{or(CTX_BACKUP, ATTR_DIFFERENTIAL|ATTR_PLEX), E_INVALIDARG},
		{or(CTX_CLIENT_ACCESSIBLE, ATTR_TRANSPORTABLE), E_INVALIDARG},
		{or(CTX_CLIENT_ACCESSIBLE_WRITERS, ATTR_DIFFERENTIAL), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_PERSISTENT), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_NO_AUTO_RELEASE), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_CLIENT_ACCESSIBLE), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_NOT_SURFACED), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_HARDWARE_ASSISTED), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_IMPORTED), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_EXPOSED_LOCALLY), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_EXPOSED_REMOTELY), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_AUTORECOVER), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_DELAYED_POSTSNAPSHOT), E_INVALIDARG},
		{or(CTX_BACKUP, ATTR_FILE_SHARE), E_INVALIDARG},
		{or(CTX_BACKUP, 0x8000), E_INVALIDARG},
		{0xFFFFFFFE, E_INVALIDARG},
		{or(CTX_APP_ROLLBACK, ATTR_TRANSPORTABLE|ATTR_ROLLBACK_RECOVERY), VSS_E_UNSUPPORTED_CONTEXT},
		{or(CTX_APP_ROLLBACK, ATTR_TRANSPORTABLE|ATTR_AUTORECOVER), VSS_E_UNSUPPORTED_CONTEXT},
	} {
		err := c.context.Validate()
		if CodeOf(err) != c.want {
			t.Errorf("0x%08x: %v, want %s", uint32(c.context), err, c.want)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Reason == "" || e.Remedy == "" || e.Op == "") {
			t.Errorf("0x%08x: incomplete: %#v", uint32(c.context), err)
		}
	}
}

func TestContextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Context(rapid.Uint32().Draw(t, "context"))
		err := c.Validate()
		_ = c.String()
		if err == nil && c != CTX_ALL {
			if c.Base().Validate() != nil {
				t.Fatal("valid with modifiers, but not without")
			}
			if c.Attributes().Has(ATTR_IMPORTED) || c.Has(ATTR_DIFFERENTIAL|ATTR_PLEX) {
				t.Fatal("a requester may not set this")
			}
			// Modifiers say nothing of lifetime or writers.
			b := c.Base()
			if c.Persistent() != b.Persistent() || c.AutoRelease() != b.AutoRelease() || c.Writers() != b.Writers() {
				t.Fatal("a modifier changed the context's meaning")
			}
		}
	})
}

func TestAttributeNames(t *testing.T) {
	if got := (ATTR_PERSISTENT | ATTR_IMPORTED).String(); got != "persistent imported" {
		t.Error(got)
	}
	if got := Attributes(0).String(); got != "" {
		t.Error(got)
	}
	var all Attributes
	for name, e := range enumerations {
		if !strings.HasPrefix(name, "ATTR_") {
			continue
		}
		a := Attributes(e.want)
		all |= a
		if want := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "ATTR_")), "_", "-"); a.String() != want {
			t.Errorf("%s calls itself %q", name, a)
		}
	}
	if n := len(strings.Fields(all.String())); n != 19 {
		t.Errorf("%d attributes have names", n)
	}
}
