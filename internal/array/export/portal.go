package export

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/umbra-vss/umbra/vss"
)

// ParsePortal checks an address and port that hosts of other machines can
// reach, and returns its one spelling; E_INVALIDARG for anything else. example
// is for the message.
func ParsePortal(s, example string) (string, error) {
	p, err := netip.ParseAddrPort(s)
	switch {
	case err == nil && p.Addr().IsUnspecified():
		return "", &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: s, Reason: "hosts must be told an address they can connect to", Remedy: "Give the address of one interface, and one portal for each"}
	case err != nil || p.Port() == 0 || p.Addr().Zone() != "":
		return "", &vss.Error{Code: vss.E_INVALIDARG, Op: "open array", Object: s, Reason: "not the address of a portal", Remedy: "Write ADDRESS:PORT with an IP address, such as " + example, Err: err}
	}
	return net.JoinHostPort(p.Addr().Unmap().String(), fmt.Sprint(p.Port())), nil
}
