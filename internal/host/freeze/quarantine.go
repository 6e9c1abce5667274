package freeze

import (
	"sync"

	"golang.org/x/sys/unix"
)

// quarantine is the set of filesystems that may yet be frozen by a guard that
// was given up, by superblock number and by st_dev (which differ on btrfs).
var quarantine = struct {
	sync.Mutex
	by map[uint64]map[*Guard]bool
}{by: map[uint64]map[*Guard]bool{}}

// Quarantined reports whether a guard that was given up may still have a
// thread freezing or thawing the filesystem with this device number (st_dev,
// or the one of the mount table). [StartGuard] refuses it until that thread is
// gone and the last thaw has been sent.
func Quarantined(dev uint64) bool {
	quarantine.Lock()
	defer quarantine.Unlock()
	return len(quarantine.by[dev]) > 0
}

func (f *Filesystem) numbers() []uint64 {
	return []uint64{f.target.Dev, unix.Mkdev(f.super.Major, f.super.Minor)}
}

func (f *Filesystem) quarantined() bool {
	for _, n := range f.numbers() {
		if Quarantined(n) {
			return true
		}
	}
	return false
}

func quarantineAdd(g *Guard, f *Filesystem) {
	quarantine.Lock()
	defer quarantine.Unlock()
	for _, n := range f.numbers() {
		if quarantine.by[n] == nil {
			quarantine.by[n] = map[*Guard]bool{}
		}
		quarantine.by[n][g] = true
	}
}

func quarantineRemove(g *Guard, f *Filesystem) {
	quarantine.Lock()
	defer quarantine.Unlock()
	for _, n := range f.numbers() {
		delete(quarantine.by[n], g)
		if len(quarantine.by[n]) == 0 {
			delete(quarantine.by, n)
		}
	}
}
