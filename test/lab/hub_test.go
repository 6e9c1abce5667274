package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// plugged is a machine's end of its cable.
func plugged(h *hub, number byte) (mac []byte, end net.Conn) {
	mac = []byte{0x52, 0x54, 0, 0x4c, 0x42, number}
	a, b := net.Pipe()
	h.plug(net.HardwareAddr(mac).String(), a)
	return mac, b
}

var crossings byte

// cross sends a frame from one end to an address and reports whether it comes
// out at another, after others perhaps.
func cross(t *testing.T, from net.Conn, src, dst []byte, at net.Conn) bool {
	t.Helper()
	crossings++
	frame := append(append(append([]byte{}, dst...), src...), 0x88, 0xb5, crossings)
	if _, err := from.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
	if err := at.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		var length [4]byte
		_, err := io.ReadFull(at, length[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		got := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, rerr := io.ReadFull(at, got); err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		if bytes.Equal(got, frame) {
			return true
		}
	}
}

func TestHub(t *testing.T) {
	h := newHub()
	t.Cleanup(h.close)
	one, a := plugged(h, 1)
	two, b := plugged(h, 2)
	three, c := plugged(h, 3)
	all := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	name := func(mac []byte) string { return net.HardwareAddr(mac).String() }

	if !cross(t, a, one, two, b) || !cross(t, b, two, one, a) {
		t.Error("two machines do not reach each other")
	}
	if cross(t, a, one, two, c) {
		t.Error("a third hears what is not for it")
	}
	if !cross(t, a, one, all, c) {
		t.Error("what is for all does not come to all")
	}
	h.cut(name(one), name(two), true)
	if cross(t, a, one, two, b) || cross(t, b, two, one, a) || cross(t, a, one, all, b) {
		t.Error("frames cross a cut cable")
	}
	h.cut(name(two), name(one), false) // from the other end
	if !cross(t, a, one, two, b) {
		t.Error("the cable is not healed")
	}
	// A machine that takes nothing must not hold up the others.
	for range 1000 {
		packet := append(append(append([]byte{0, 0, 0, 14}, three...), one...), 0x88, 0xb5)
		if _, err := a.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	if !cross(t, a, one, two, b) {
		t.Error("a machine that takes nothing holds up the others")
	}
	h.unplug(name(two))
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("an unplugged cable is open")
	}
}

func TestKernelTrouble(t *testing.T) {
	for _, fine := range []string{"", "[    3.9] I/O error, dev sda, sector 1 op 0x1:(WRITE)\n[ 4.0] connection1:0: detected conn error (1022)\n",
		"[ 1.0] device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled.\n[ 2.0] WARNING: some driver asks for something\n[ 2.0] no DEBUG: here\n"} {
		if got := kernelTrouble(fine); got != "" {
			t.Errorf("%q is trouble: %q", fine, got)
		}
	}
	for _, bad := range []string{"[    9.1] BUG: kernel NULL pointer dereference, address: 0\r\n[    9.1] #PF: supervisor read\r\n",
		"[ 9.1] Oops: 0000 [#1] PREEMPT SMP\n", "[ 243.1] INFO: task umount:77 blocked for more than 120 seconds.\n",
		"[ 9.1] WARNING: CPU: 0 PID: 1 at fs/x.c:1\n", "[ 9.1] Kernel panic - not syncing: Fatal exception\n"} {
		if got := kernelTrouble("[ 1.0] fine\n" + bad); got == "" || bytes.Contains([]byte(got), []byte("fine")) {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
