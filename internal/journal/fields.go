package journal

import (
	"encoding/binary"
	"strings"
)

// Field is one field of an entry. Names are capital letters, digits and
// underscores, and begin with a letter.
type Field struct{ Name, Value string }

// encode writes an entry as the journal reads it: NAME=value and a newline,
// or, for a value of several lines, NAME, a newline, its length as 64 bits
// little-endian, the value, and a newline.
func encode(fields []Field) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, f.Name...)
		if strings.Contains(f.Value, "\n") {
			b = append(b, '\n')
			b = binary.LittleEndian.AppendUint64(b, uint64(len(f.Value)))
		} else {
			b = append(b, '=')
		}
		b = append(b, f.Value...)
		b = append(b, '\n')
	}
	return b
}
