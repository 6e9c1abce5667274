package remote

import (
	"bytes"
	"fmt"
	"reflect"
	"unicode/utf8"

	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
)

// Limits of what a provider may answer.
const (
	maxMessage = 4 << 20 // bytes of a message: 64 volumes of many LUNs each
	maxTicket  = 64 << 10
	maxStores  = 1024
	maxIDs     = 64
	maxReason  = 2 << 10
)

// nonsense is an answer that cannot be true.
type nonsense string

func (n nonsense) Error() string { return string(n) }

func wrongCount(asked, got int) error {
	return nonsense(fmt.Sprintf("%d LUNs were asked for, %d answered", asked, got))
}

// brokenBy is an error for which a provider is to blame.
type brokenBy struct{ error }

func (b brokenBy) Error() string {
	if b.error == nil {
		return provider.ErrBroken.Error()
	}
	return b.error.Error()
}
func (b brokenBy) Unwrap() error      { return b.error }
func (brokenBy) Is(target error) bool { return target == provider.ErrBroken }

// shortened makes a provider's text fit for an event.
func shortened(s string) string {
	if len(s) <= maxReason {
		return s
	}
	s = s[:maxReason]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// soundLUNs reads LUNs and refuses what no LUN says of itself.
func soundLUNs(ps []*providerv1.LUNInfo, n int) ([]lun.Info, error) {
	if len(ps) != n {
		return nil, wrongCount(n, len(ps))
	}
	for _, p := range ps {
		switch {
		case p == nil:
			return nil, nonsense("a LUN without any information")
		case p.DeviceType > 0xff || p.DeviceTypeModifier > 0xff || p.BusType > 0xff:
			return nil, nonsense("a device type that no byte holds")
		case len(p.StorageIds) > maxIDs || len(p.Interconnects) > maxIDs:
			return nil, nonsense("a LUN with more identifiers or paths than any has")
		case len(p.DiskSignature) != 0 && len(p.DiskSignature) != 16:
			return nil, nonsense("a disk signature that is no GUID")
		}
		for _, s := range []string{p.VendorId, p.ProductId, p.ProductRevision, p.SerialNumber} {
			if len(s) > lun.MaxIdentifier || bytes.IndexByte([]byte(s), 0) >= 0 {
				return nil, nonsense("a LUN's vendor, product or serial number that does not fit its field")
			}
		}
		for _, s := range p.StorageIds {
			if s.GetCodeSet() > 15 || s.GetType() > 15 || len(s.GetIdentifier()) == 0 || len(s.GetIdentifier()) > lun.MaxIdentifier {
				return nil, nonsense("an identifier that no page 0x83 can hold")
			}
		}
	}
	return fromLUNs(ps), nil
}

// soundTargets holds the copies' names against their originals'.
func soundTargets(source, targets []lun.Info) error {
	bySource, byTarget := map[string]string{}, map[string]string{}
	for i, t := range targets {
		s, n := source[i].Name(), t.Name()
		switch {
		case t.Version != lun.InfoVersion:
			return nonsense("a copy whose information has another version than 1")
		case len(t.QualifyingIDs()) == 0:
			return nonsense("a copy without a page 0x83 identifier that could be recognised")
		case !t.DiskSignature.IsNull():
			return nonsense("a copy with a disk signature")
		}
		for _, o := range source {
			if shareName(o, t) {
				return nonsense("the original " + o.Name() + " as a copy")
			}
		}
		if before, ok := bySource[s]; ok && before != n {
			return nonsense("two copies of the LUN " + s)
		}
		if before, ok := byTarget[n]; ok && before != s {
			return nonsense("one copy, " + n + ", of two LUNs")
		}
		bySource[s], byTarget[n] = n, s
	}
	return nil
}

// shareName reports whether two LUNs have a qualifying identifier in common.
func shareName(a, b lun.Info) bool {
	for _, x := range a.QualifyingIDs() {
		for _, y := range b.QualifyingIDs() {
			if x.Type == y.Type && x.CodeSet == y.CodeSet && bytes.Equal(x.Identifier, y.Identifier) {
				return true
			}
		}
	}
	return false
}

func sameLUN(a, b lun.Info) bool {
	a.Interconnects, b.Interconnects = nil, nil
	return reflect.DeepEqual(a, b)
}
