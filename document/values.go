package document

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// Every value has one spelling: what write makes, and what read accepts.

const timeLayout = "2006-01-02T15:04:05.0000000Z"

func writeTime(t vss.Timestamp) string { return t.Time().Format(timeLayout) }

func readTime(s string) (vss.Timestamp, error) {
	at, err := time.Parse(timeLayout, s)
	t := vss.TimestampOf(at)
	if err != nil || writeTime(t) != s {
		return 0, fmt.Errorf("not a UTC time with seven decimals, like 2026-03-01T12:00:00.0000000Z")
	}
	return t, nil
}

func writeBits(v uint32) string { return fmt.Sprintf("0x%08x", v) }

func readBits(s string) (uint32, error) {
	if len(s) == 10 && s[:2] == "0x" {
		if v, err := strconv.ParseUint(s[2:], 16, 32); err == nil && writeBits(uint32(v)) == s {
			return uint32(v), nil
		}
	}
	return 0, fmt.Errorf("not 0x and eight lower-case hexadecimal digits")
}

func writeNumber(v uint64) string { return strconv.FormatUint(v, 10) }

// readNumber accepts plain decimals up to most.
func readNumber(s string, most uint64) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || writeNumber(v) != s || v > most {
		return 0, fmt.Errorf("not a plain decimal number from 0 to %d", most)
	}
	return v, nil
}

func writeBool(v bool) string { return strconv.FormatBool(v) }

func readBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("neither true nor false")
}

func readID(s string) (vss.ID, error) {
	id, err := vss.ParseID(s)
	if err != nil || id.String() != s {
		return vss.GUIDNull, fmt.Errorf("not a lower-case GUID in braces")
	}
	return id, nil
}

func writeHex(b []byte) string { return hex.EncodeToString(b) }

func readHex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || writeHex(b) != s {
		return nil, fmt.Errorf("not an even number of lower-case hexadecimal digits")
	}
	if len(b) == 0 {
		return nil, nil
	}
	return b, nil
}

func writeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func readBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || writeBase64(b) != s {
		return nil, fmt.Errorf("not base64 on one line")
	}
	return b, nil
}

var backupTypes = []string{"undefined", "full", "incremental", "differential", "log", "copy", "other"}

func writeBackupType(t vss.BackupType) string { return backupTypes[t] }

func readBackupType(s string) (vss.BackupType, error) {
	for i, n := range backupTypes {
		if n == s {
			return vss.BackupType(i), nil
		}
	}
	return 0, fmt.Errorf("not a backup type")
}
