package wire

// Counters are the ones of a block device that show whether its contents
// changed. Sectors are counted before the kernel reports an I/O as complete;
// the number of writes is counted after, and may still move when FIFREEZE has
// returned. So sectors alone decide.
type Counters struct{ Written, Discarded uint64 }

// ParseCounters reads a sysfs `stat` file (7th field sectors written, 14th
// sectors discarded; kernels before 4.18 have no discards). It allocates
// nothing.
func ParseCounters(b []byte) (c Counters, ok bool) {
	field, inNumber := 0, false
	var v uint64
	for i := 0; i <= len(b); i++ {
		if i < len(b) && b[i] >= '0' && b[i] <= '9' {
			v = v*10 + uint64(b[i]-'0')
			inNumber = true
			continue
		}
		if !inNumber {
			continue
		}
		field++
		switch field {
		case 7:
			c.Written, ok = v, true
		case 14:
			c.Discarded = v
		}
		v, inNumber = 0, false
	}
	return c, ok
}
