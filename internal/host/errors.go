package host

import (
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func errNoInitiator(d block.Device) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "detach LUN", Object: d.LUN.Name(), Reason: "the LUN is of no array this machine has joined",
		Remedy: "Join the array again (umbra join), or detach " + d.Path + " with the system's own tools"}
}

func errOfNoArray(l lun.Info) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "attach LUN", Object: l.Name(), Reason: "the LUN is of no array this machine has joined",
		Remedy: "Check the LUN's name, and join its array with umbra join"}
}
