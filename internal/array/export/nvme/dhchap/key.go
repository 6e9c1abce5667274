// Package dhchap writes secrets as NVMe wants them: array and host are given
// the same words, and their kernels the same keys.
package dhchap

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// Key is a secret as NVMe's tools and the kernel write it (TP 8006): 32 bytes
// and their checksum. 00 says that the bytes are used as they are.
func Key(secret string) string {
	key := sha256.Sum256([]byte("umbra nvme " + secret))
	b := binary.LittleEndian.AppendUint32(key[:], crc32.ChecksumIEEE(key[:]))
	return "DHHC-1:00:" + base64.StdEncoding.EncodeToString(b) + ":"
}
