package site

import (
	"fmt"
	"slices"
	"strconv"
)

// Cut takes a host off the network, which then swallows what is sent, or puts it
// back.
func (s *Site) Cut(host *Host, cut bool) error {
	port := slices.Index(s.hosts, host) + 1
	h, ns, err := s.arrayNS.handle()
	if err != nil {
		return err
	}
	defer ns.Close()
	defer h.Close()
	link, err := h.LinkByName("port" + strconv.Itoa(port))
	if err != nil {
		return fmt.Errorf("network of %s: %w", host.Name, err)
	}
	if cut {
		return h.LinkSetNoMaster(link)
	}
	br, err := h.LinkByName("san0")
	if err != nil {
		return err
	}
	return h.LinkSetMaster(link, br)
}
