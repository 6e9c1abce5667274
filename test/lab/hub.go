package lab

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// mtu is large, so that an emulated processor has few packets to look at.
const mtu = 16000

// hub is the network: every machine is a connection over which QEMU sends
// frames, each after its length in four bytes. It is a switch that knows its
// machines' addresses beforehand. It loses frames for a machine that does not
// take them, as a switch does.
type hub struct {
	mu    sync.Mutex
	ports map[string]*port // by the machine's MAC address
	cuts  map[[2]string]bool
}

type port struct {
	cable net.Conn
	queue chan []byte
	done  chan struct{}
}

func newHub() *hub { return &hub{ports: map[string]*port{}, cuts: map[[2]string]bool{}} }

// plug connects a machine.
func (h *hub) plug(mac string, cable net.Conn) {
	p := &port{cable: cable, queue: make(chan []byte, 256), done: make(chan struct{})}
	h.unplug(mac)
	h.mu.Lock()
	h.ports[mac] = p
	h.mu.Unlock()
	go p.send()
	go h.receive(mac, p)
}

func (h *hub) unplug(mac string) {
	h.mu.Lock()
	p := h.ports[mac]
	delete(h.ports, mac)
	h.mu.Unlock()
	if p != nil {
		p.cable.Close()
		close(p.done)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	var all []string
	for mac := range h.ports {
		all = append(all, mac)
	}
	h.mu.Unlock()
	for _, mac := range all {
		h.unplug(mac)
	}
}

func (h *hub) cut(a, b string, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cuts[[2]string{a, b}], h.cuts[[2]string{b, a}] = cut, cut
}

// longest is more than any frame that QEMU sends.
const longest = 128 << 10

func (h *hub) receive(mac string, p *port) {
	for in := bufio.NewReaderSize(p.cable, 256<<10); ; {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > longest {
			return
		}
		frame := make([]byte, 4+n)
		copy(frame, length[:])
		if _, err := io.ReadFull(in, frame[4:]); err != nil {
			return
		}
		h.forward(mac, frame)
	}
}

// forward gives a frame to the machine it is for, or to all if it is for all,
// or for nobody known.
func (h *hub) forward(from string, frame []byte) {
	if len(frame) < 4+14 {
		return
	}
	to := net.HardwareAddr(frame[4:10]).String()
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.ports[to]
	for mac, p := range h.ports {
		if mac == from || known && mac != to || h.cuts[[2]string{from, mac}] {
			continue
		}
		select {
		case p.queue <- frame:
		default:
		}
	}
}

func (p *port) send() {
	for out := bufio.NewWriterSize(p.cable, 256<<10); ; {
		select {
		case frame := <-p.queue:
			if _, err := out.Write(frame); err != nil {
				return
			}
			if len(p.queue) == 0 && out.Flush() != nil {
				return
			}
		case <-p.done:
			return
		}
	}
}
