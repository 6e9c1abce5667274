package remote

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Manifest says who a provider is and how it is reached: either a program that
// the service starts, or the socket of one that runs already.
type Manifest struct {
	ID        vss.ID   `toml:"id"` // for ever the provider's, across all its versions
	Name      string   `toml:"name"`
	Version   string   `toml:"version"`
	VersionID vss.ID   `toml:"version_id"`
	Class     vss.ID   `toml:"class"` // VSS's class ID; informative
	Type      string   `toml:"type"`  // "hardware"
	Program   string   `toml:"program"`
	Args      []string `toml:"args"`
	User      string   `toml:"user"` // whom the program runs as, or whose the socket is; root if ""
	Socket    string   `toml:"socket"`
	Idle      string   `toml:"idle"` // unloaded after this long without a call; "5m" if "", "0s" for never
}

// DefaultIdle is how long a provider is kept loaded without being called.
const DefaultIdle = 5 * time.Minute

// maxManifest is the largest manifest in bytes, maxText the longest text in it.
const (
	maxManifest = 64 << 10
	maxText     = 256
)

// ParseManifest reads a manifest; E_INVALIDARG, and what is wrong with it.
func ParseManifest(raw []byte) (Manifest, error) {
	var m Manifest
	bad := func(object, reason string) (Manifest, error) {
		return Manifest{}, &vss.Error{Code: vss.E_INVALIDARG, Op: "read manifest", Object: object, Reason: reason, Remedy: "Correct the provider's manifest; see docs/provider-guide.md"}
	}
	if len(raw) > maxManifest {
		return bad("manifest", fmt.Sprintf("it has more than %d bytes", maxManifest))
	}
	d := toml.NewDecoder(strings.NewReader(string(raw))).DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		reason := err.Error()
		if s, ok := err.(*toml.StrictMissingError); ok {
			reason = s.String()
		}
		return bad("manifest", reason)
	}
	idle, err := m.idle()
	switch {
	case m.ID.IsNull() || m.VersionID.IsNull():
		return bad("id, version_id", "both must be given, as GUIDs in braces")
	case m.Name == "" || m.Version == "":
		return bad("name, version", "both must be given")
	case len(m.Name) > maxText || len(m.Version) > maxText || !utf8.ValidString(m.Name) || !utf8.ValidString(m.Version) || strings.ContainsFunc(m.Name+m.Version, func(r rune) bool { return r < ' ' }):
		return bad("name, version", "they must be plain text of at most 256 bytes")
	case m.Type == "software":
		return bad("type", "software providers, which copy volumes and not LUNs, cannot be registered in this version")
	case m.Type != "hardware":
		return bad("type", `it must be "hardware"`)
	case (m.Program == "") == (m.Socket == ""):
		return bad("program, socket", "exactly one of them must be given")
	case m.Program != "" && !filepath.IsAbs(m.Program), m.Socket != "" && (!filepath.IsAbs(m.Socket) || len(m.Socket) > 107):
		return bad("program, socket", "the path must be absolute, and a socket's at most 107 characters long")
	case err != nil || idle < 0:
		return bad("idle", `it must be a duration such as "5m"`)
	}
	return m, nil
}

func (m Manifest) idle() (time.Duration, error) {
	if m.Idle == "" {
		return DefaultIdle, nil
	}
	return time.ParseDuration(m.Idle)
}

// Properties are the provider's.
func (m Manifest) Properties() vss.ProviderProp {
	return vss.ProviderProp{ProviderID: m.ID, Name: m.Name, Type: vss.PROV_HARDWARE, Version: m.Version, VersionID: m.VersionID, ClassID: m.Class}
}

// Check verifies what the manifest names on this machine: the user exists, and
// nobody but root could put another program or socket in the place.
func (m Manifest) Check() error {
	if _, _, err := m.account(); err != nil {
		return err
	}
	if m.Socket != "" {
		return nil // the service that makes it need not run yet
	}
	fi, err := os.Stat(m.Program)
	if err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "check provider", Object: m.Program, Reason: "the program is not there, or cannot be run", Remedy: "Install it, or correct the manifest", Err: err}
	}
	return rootsAlone(m.Program)
}

// rootsAlone refuses a path that others than root could change.
func rootsAlone(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "check provider", Object: path, Reason: "the path cannot be followed", Remedy: "Correct the manifest", Err: err}
	}
	for p := real; ; p = filepath.Dir(p) {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "check provider", Object: p, Reason: "it cannot be looked at", Remedy: "Check the path", Err: err}
		}
		sticky := st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0
		if st.Uid != 0 || st.Mode&0o022 != 0 && !sticky {
			return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "check provider", Object: p, Reason: "others than root may change it, and the service would run what they put there",
				Remedy: "Make it root's (chown root, chmod go-w), or install the provider elsewhere"}
		}
		if p == "/" {
			return nil
		}
	}
}

// account is whom the program runs as.
func (m Manifest) account() (uid, gid uint32, err error) {
	if m.User == "" || m.User == "root" {
		return 0, 0, nil
	}
	u, err := user.Lookup(m.User)
	if err == nil {
		var a, b uint64
		a, err = strconv.ParseUint(u.Uid, 10, 32)
		if err == nil {
			b, err = strconv.ParseUint(u.Gid, 10, 32)
		}
		uid, gid = uint32(a), uint32(b)
	}
	if err != nil {
		return 0, 0, &vss.Error{Code: vss.E_INVALIDARG, Op: "check provider", Object: "user " + strconv.Quote(m.User), Reason: "there is no such user on this machine", Remedy: "Make the user, or correct the manifest", Err: err}
	}
	return uid, gid, nil
}
