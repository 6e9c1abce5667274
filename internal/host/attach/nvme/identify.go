package nvme

import (
	"context"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
)

// adminCommand is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type adminCommand struct {
	opcode, flags                uint8
	_                            uint16
	nsid, cdw2, cdw3             uint32
	metadata, addr               uint64
	metadataLen, dataLen         uint32
	cdw10, cdw11, cdw12          uint32
	cdw13, cdw14, cdw15, timeout uint32
	result                       uint32
}

const (
	adminIoctl = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD
	opIdentify = 0x06
	cnsNames   = 3 // namespace identification descriptors
)

// identify asks the array, over a disk, for the names of what is there now.
func identify(ctx context.Context, d disk) (naa lun.NAA, ok bool, err error) {
	type answer struct {
		page []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		page, err := ask("/dev/"+d.name, uint32(d.number))
		done <- answer{page, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return naa, false, a.err
		}
		naa, ok = names(a.page)
		return naa, ok, nil
	case <-ctx.Done():
		return naa, false, ctx.Err()
	}
}

func ask(node string, nsid uint32) ([]byte, error) {
	f, err := os.OpenFile(node, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	c := adminCommand{opcode: opIdentify, nsid: nsid, addr: uint64(uintptr(unsafe.Pointer(&page[0]))), dataLen: uint32(len(page)), cdw10: cnsNames, timeout: 5000}
	status, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), adminIoctl, uintptr(unsafe.Pointer(&c)))
	runtime.KeepAlive(page)
	switch {
	case e != 0:
		return nil, e
	case status != 0: // NVMe's own: no such namespace, say
		return make([]byte, len(page)), nil
	}
	return page, nil
}

// names reads the descriptors: type, length, two bytes of nothing, the name.
func names(page []byte) (lun.NAA, bool) {
	var nguid, uuid [16]byte
	for len(page) >= 4 && page[0] != 0 {
		kind, n := page[0], int(page[1])
		if len(page) < 4+n {
			break
		}
		if n == 16 && kind == 2 {
			nguid = [16]byte(page[4:20])
		}
		if n == 16 && kind == 3 {
			uuid = [16]byte(page[4:20])
		}
		page = page[4+n:]
	}
	return identity.OfNamespace(nguid, uuid)
}

// The kernel's structure has 72 bytes, which is in the number of the ioctl.
var _ = [1]struct{}{}[unsafe.Sizeof(adminCommand{})-72]
