package nvme

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// established is the state of a TCP connection that is up, as the kernel
// numbers it.
const established = "01"

// talking reports whether anybody is connected to a portal.
func talking(portal string) (bool, error) {
	want, err := netip.ParseAddrPort(portal)
	if err != nil {
		return false, err
	}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return false, err
		}
		on := false
		lines := bufio.NewScanner(f)
		for lines.Scan() && !on {
			// sl, local, remote, state
			if c := strings.Fields(lines.Text()); len(c) > 3 && c[3] == established {
				at, ok := socketAddress(c[1])
				on = ok && at == want
			}
		}
		err = errors.Join(lines.Err(), f.Close())
		if on || err != nil {
			return on, err
		}
	}
	return false, nil
}

// socketAddress reads the kernel's "0100007F:1144": words of 32 bits of this
// machine, which is little-endian wherever the lab and Debian's packages run.
func socketAddress(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	p, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}
