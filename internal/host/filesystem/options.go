package filesystem

import (
	"github.com/umbra-vss/umbra/vss"
)

// option is a mount option; one without a value is a flag.
type option struct{ key, value string }

// options are the mount options that leave the copy unchanged, or the reason
// why there are none.
func (m CloneMount) options() ([]option, error) {
	refuse := func(reason, remedy string) error {
		return &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: mountOp, Object: m.Device.Path, Reason: reason, Remedy: remedy}
	}
	id := m.Identity
	if !m.Quiesced {
		return nil, refuse("the copy was not taken under a freeze: its journal has to be replayed, and a copy is never written to",
			"Mount a writable clone of the LUN, which replays the journal, or use the block node of the copy")
	}
	switch {
	case id.IsExt():
		// Applies to an external journal as well: it is not even opened.
		return []option{{"noload", ""}}, nil
	case id.Type == TypeXFS:
		options := []option{{"nouuid", ""}, {"norecovery", ""}}
		if id.ExternalLog && m.Log == nil {
			return nil, refuse("its log is on another device, which is not in this copy",
				"Take the shadow copy again with the log device, or use the block node of the copy")
		}
		if id.Realtime && m.Realtime == nil {
			return nil, refuse("its realtime device is not in this copy",
				"Take the shadow copy again with the realtime device, or use the block node of the copy")
		}
		if m.Log != nil {
			options = append(options, option{"logdev", m.Log.Path})
		}
		if m.Realtime != nil {
			options = append(options, option{"rtdev", m.Realtime.Path})
		}
		return options, nil
	case id.Type == TypeBtrfs:
		// The kernel finds the other devices of a btrfs by UUID among all it has
		// seen, originals included: a copy of several could mount as a mixture.
		if id.Devices != 1 {
			return nil, refuse("a copy of a btrfs on several devices cannot be mounted without the risk of mixing it with its original",
				useNode+"s on a machine that does not see the original")
		}
		return nil, nil
	case id.Type == "":
		return nil, refuse("it holds no filesystem that Umbra knows", useNode)
	}
	return nil, refuse("Umbra does not mount copies of "+id.Type, useNode)
}
