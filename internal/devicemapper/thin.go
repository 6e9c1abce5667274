package devicemapper

import (
	"fmt"
	"strconv"
	"strings"
)

// Pool is how a thin pool is, from its status.
type Pool struct {
	Transaction                 uint64
	UsedMetadata, TotalMetadata uint64 // blocks of 4096 bytes
	UsedData, TotalData         uint64 // blocks of the pool's size
	Mode                        string // rw, ro, out_of_data_space
	ErrorIfFull                 bool   // writes that find no room fail, instead of waiting
	NeedsCheck                  bool   // thin_check must look at the metadata before it is written again
	Failed                      bool   // the pool does nothing any more
	LowMetadata                 uint64 // blocks left at which the kernel warns
}

// MetadataBlock is the size of a thin pool's blocks of metadata, in bytes.
const MetadataBlock = 4096

// ParsePool reads the status of a target of the kind thin-pool.
func ParsePool(status string) (Pool, error) {
	f := strings.Fields(status)
	if len(f) == 1 && (f[0] == "Fail" || f[0] == "Error") {
		return Pool{Failed: true}, nil
	}
	if len(f) < 7 {
		return Pool{}, fmt.Errorf("thin pool status %q is too short", status)
	}
	var p Pool
	var err error
	number := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 10, 64)
		if e != nil && err == nil {
			err = fmt.Errorf("thin pool status %q: %w", status, e)
		}
		return n
	}
	pair := func(s string) (uint64, uint64) {
		used, total, _ := strings.Cut(s, "/")
		return number(used), number(total)
	}
	p.Transaction = number(f[0])
	p.UsedMetadata, p.TotalMetadata = pair(f[1])
	p.UsedData, p.TotalData = pair(f[2])
	p.Mode = f[4]
	for _, s := range f[5:] {
		switch s {
		case "error_if_no_space":
			p.ErrorIfFull = true
		case "needs_check":
			p.NeedsCheck = true
		}
	}
	if len(f) > 8 {
		p.LowMetadata = number(f[8])
	}
	if err == nil && (p.UsedData > p.TotalData || p.UsedMetadata > p.TotalMetadata) {
		err = fmt.Errorf("thin pool status %q uses more than there is", status)
	}
	return p, err
}

// ParseThin reads the status of a target of the kind thin: how many sectors of
// it have a place in the pool, shared ones included.
func ParseThin(status string) (mapped uint64, err error) {
	f := strings.Fields(status)
	if len(f) == 0 || len(f) == 1 {
		return 0, fmt.Errorf("thin device status %q", status)
	}
	return strconv.ParseUint(f[0], 10, 64)
}
