package client

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"net/url"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/vss"
)

// Versions of the join bundle: this code reads all, and writes the first that
// can say it. A reader of the first alone would take a bundle with iSCSI for
// one of an array on its own machine.
const (
	BundleVersion           = 1
	BundleVersionISCSI      = 2 // with an iSCSI part
	BundleVersionTransports = 3 // with parts for other transports, iSCSI or not
)

// MaxBundle is the most bytes a bundle may have.
const MaxBundle = 64 << 10

// Bundle is all a host needs to use an array: `umbra array enroll HOST` makes
// it, `umbra join` takes it. It contains the host's private key; keep it mode
// 0600.
type Bundle struct {
	Version    int      `json:"version"`
	ArrayID    vss.ID   `json:"array_id"`
	ArrayName  string   `json:"array_name"`
	Prefix     string   `json:"lun_prefix"`  // the digits after 6001405 of all its LUNs
	Host       string   `json:"host"`        // the name the certificate gives the host
	Endpoints  []string `json:"endpoints"`   // tcp://host:port or unix:///path, tried in order
	DataSocket string   `json:"data_socket"` // for hosts on the array's machine
	CA         string   `json:"ca"`          // PEM
	Cert       string   `json:"cert"`        // PEM
	Key        string   `json:"key"`         // PEM
	TicketKey  []byte   `json:"ticket_key"`  // Ed25519 public key that signs tickets

	// For hosts on other machines: a part for each transport that the array
	// serves.
	ISCSI *ISCSI `json:"iscsi,omitempty"`
	NVMe  *NVMe  `json:"nvme,omitempty"`
	NBD   *NBD   `json:"nbd,omitempty"`
}

// Seal sets the version that says what is in the bundle.
func (b *Bundle) Seal() { b.Version = b.saying() }

// saying is the first version that can say what is in the bundle.
func (b *Bundle) saying() int {
	switch {
	case b.NVMe != nil, b.NBD != nil:
		return BundleVersionTransports
	case b.ISCSI != nil:
		return BundleVersionISCSI
	}
	return BundleVersion
}

// Remote reports whether the array can be on another machine.
func (b *Bundle) Remote() bool { return b.ISCSI != nil || b.NVMe != nil || b.NBD != nil }

// NBD is how a host on another machine reaches its LUNs over NBD: over TLS, with
// a key that only this host and the array have.
type NBD struct {
	Portals  []string `json:"portals"`  // address:port, of this host
	Identity string   `json:"identity"` // whose key it is
	Key      string   `json:"key"`      // hexadecimal
}

// whole: nothing is missing, and nothing in it could be more than a value on a
// command line or in a file of keys.
func (n *NBD) whole() bool {
	key, err := hex.DecodeString(n.Key)
	return err == nil && len(key) >= 16 && len(key) <= 64 && plain(n.Identity) && !strings.Contains(n.Identity, ":") && addresses(n.Portals)
}

// NVMe is how a host on another machine reaches its LUNs over NVMe/TCP.
type NVMe struct {
	Subsystem   string   `json:"subsystem"`    // NVMe name (NQN) of what the array shows this host
	Portals     []string `json:"portals"`      // address:port
	Host        string   `json:"host"`         // NQN of the host, for this array
	Secret      string   `json:"secret"`       // DH-HMAC-CHAP, where the kernels have it: the host to the array
	ArraySecret string   `json:"array_secret"` // the array to the host
}

// whole: nothing is missing, and nothing in it could be more than a value among
// the kernel's options.
func (n *NVMe) whole() bool {
	for _, s := range []string{n.Subsystem, n.Host, n.Secret, n.ArraySecret} {
		if !plain(s) {
			return false
		}
	}
	return addresses(n.Portals) && n.Secret != n.ArraySecret
}

// ISCSI is how a host on another machine reaches its LUNs.
type ISCSI struct {
	Target       string   `json:"target"`    // iSCSI name of the array
	Portals      []string `json:"portals"`   // address:port
	Initiator    string   `json:"initiator"` // iSCSI name of the host, for this array
	User         string   `json:"user"`      // CHAP: the host to the array
	Secret       string   `json:"secret"`
	TargetUser   string   `json:"target_user"` // CHAP: the array to the host
	TargetSecret string   `json:"target_secret"`
}

// whole: nothing is missing, and nothing in it could be more than a value on a
// command line or in open-iscsi's files.
func (i *ISCSI) whole() bool {
	for _, s := range []string{i.Target, i.Initiator, i.User, i.Secret, i.TargetUser, i.TargetSecret} {
		if !plain(s) {
			return false
		}
	}
	return addresses(i.Portals) && i.Secret != i.TargetSecret
}

// plain: nothing but letters, digits and what names and addresses have.
func plain(s string) bool {
	return s != "" && len(s) <= 223 && !strings.HasPrefix(s, "-") && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".:-[]", r))
	}) < 0
}

// addresses: one at least, each an IP address and a port.
func addresses(portals []string) bool {
	for _, p := range portals {
		if _, err := netip.ParseAddrPort(p); err != nil || !plain(p) {
			return false
		}
	}
	return len(portals) > 0
}

// Marshal writes the bundle as JSON.
func (b Bundle) Marshal() ([]byte, error) {
	out, err := json.MarshalIndent(b, "", "  ")
	return append(out, '\n'), err
}

// ParseBundle reads and checks a bundle; E_INVALIDARG for anything that cannot
// be one.
func ParseBundle(raw []byte) (Bundle, error) {
	bad := func(reason string, err error) (Bundle, error) {
		return Bundle{}, &vss.Error{Code: vss.E_INVALIDARG, Op: "read join bundle", Reason: reason,
			Remedy: "Make a new one on the array with `umbra array enroll HOST`", Err: err}
	}
	if len(raw) > MaxBundle {
		return bad("it is too large", nil)
	}
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return bad("it is not JSON", err)
	}
	switch {
	case b.Version < BundleVersion || b.Version > BundleVersionTransports:
		return bad("it has another version", nil)
	case b.Version != b.saying():
		return bad("its version and what it says of transports do not fit", nil)
	case b.NVMe != nil && !b.NVMe.whole():
		return bad("its NVMe part cannot be used", nil)
	case b.ISCSI != nil && !b.ISCSI.whole():
		return bad("its iSCSI part cannot be used", nil)
	case b.NBD != nil && !b.NBD.whole():
		return bad("its NBD part cannot be used", nil)
	case b.ArrayID.IsNull() || !identity.ValidPrefix(b.Prefix) || b.Host == "":
		return bad("it names no array or host", nil)
	case len(b.TicketKey) != ed25519.PublicKeySize:
		return bad("it has no ticket key", nil)
	case len(b.Endpoints) == 0:
		return bad("it has no endpoint", nil)
	}
	for _, e := range b.Endpoints {
		if _, _, err := ParseEndpoint(e); err != nil {
			return bad("an endpoint cannot be used", err)
		}
	}
	cfg, err := b.tls()
	if err != nil {
		return bad("its certificates cannot be used", err)
	}
	leaf, err := x509.ParseCertificate(cfg.Certificates[0].Certificate[0])
	if err != nil || leaf.Subject.CommonName != b.Host {
		return bad("its certificate is for another host", err)
	}
	return b, nil
}

func (b Bundle) tls() (*tls.Config, error) {
	cert, err := tls.X509KeyPair([]byte(b.Cert), []byte(b.Key))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(b.CA))
	if block == nil {
		return nil, x509.ErrUnsupportedAlgorithm
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ServerName:   ServerName(b.ArrayID),
		NextProtos:   []string{"h2"},
	}, nil
}

// ServerName is the name in the array's server certificate: the array's own,
// whatever address it is reached at.
func ServerName(arrayID vss.ID) string { return arrayID.Bare() + ".array.umbra.internal" }

// ParseEndpoint splits "tcp://host:port" or "unix:///path" into what net.Dial
// and net.Listen take; E_INVALIDARG for anything else.
func ParseEndpoint(s string) (network, address string, err error) {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.Scheme == "tcp" && u.Port() != "" && u.Path == "":
		return "tcp", u.Host, nil
	case err == nil && u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return "unix", u.Path, nil
	}
	return "", "", &vss.Error{Code: vss.E_INVALIDARG, Op: "read endpoint", Object: s,
		Reason: "not an address of an array", Remedy: "Write tcp://host:port or unix:///path", Err: err}
}
