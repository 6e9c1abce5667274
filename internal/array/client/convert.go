package client

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// LUN is a LUN as an array lists it.
type LUN struct {
	NAA        lun.NAA   `json:"naa"`
	Name       string    `json:"name,omitempty"`
	Size       uint64    `json:"size"`      // bytes
	Allocated  uint64    `json:"allocated"` // bytes, shared blocks included
	Copy       bool      `json:"copy"`
	Source     *lun.NAA  `json:"source,omitempty"` // of a copy
	SetID      *vss.ID   `json:"set_id,omitempty"` // of a copy
	Generation uint64    `json:"generation"`
	ReadOnly   bool      `json:"read_only"`
	Created    time.Time `json:"created"`
	MadeBy     string    `json:"made_by,omitempty"` // of a copy
	Masks      []string  `json:"masks"`             // hosts that may see it; a host is told only of itself
	AttachedBy []string  `json:"attached_by"`       // hosts that hold it open now; a host is told only of itself
}

func lunOf(m *arrayv1.LUN) (LUN, error) {
	n, err := lun.ParseNAA(m.GetNaa())
	if err != nil {
		return LUN{}, err
	}
	l := LUN{NAA: n, Name: m.Name, Size: m.Size, Allocated: m.Allocated, Copy: m.Copy, Generation: m.Generation, ReadOnly: m.ReadOnly,
		Created: time.Unix(0, m.Created).UTC(), MadeBy: m.MadeBy, Masks: m.Masks, AttachedBy: m.AttachedBy}
	if m.Source != "" {
		src, err := lun.ParseNAA(m.Source)
		if err != nil {
			return LUN{}, err
		}
		l.Source = &src
	}
	if m.SetId != "" {
		id, err := vss.ParseID(m.SetId)
		if err != nil {
			return LUN{}, err
		}
		l.SetID = &id
	}
	return l, nil
}

func lunsOf(in []*arrayv1.LUN) ([]LUN, error) {
	out := make([]LUN, 0, len(in))
	for _, m := range in {
		l, err := lunOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// statesOf reads an answer that must be parallel to what was asked.
func statesOf(in []*arrayv1.Description, asked []lun.NAA) ([]State, error) {
	if len(in) != len(asked) {
		return nil, nonsense("describe LUNs")
	}
	out := make([]State, len(in))
	for i, d := range in {
		if d.Naa != asked[i].String() {
			return nil, nonsense("describe LUNs")
		}
		out[i] = State{NAA: asked[i], Size: d.Size, Generation: d.Generation, ReadOnly: d.ReadOnly}
	}
	return out, nil
}

func strs(in []lun.NAA) []string {
	out := make([]string, len(in))
	for i, n := range in {
		out[i] = n.String()
	}
	return out
}

func nonsense(op string) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Reason: "the array's answer does not fit the question", Remedy: "Run the same version of Umbra on host and array"}
}

// dup makes a plain descriptor of a file that is about to be closed.
func dup(f *os.File) (int, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "open LUN", Reason: "no descriptor is left", Remedy: "Raise the limit of open files", Err: err}
	}
	return fd, nil
}

func closeAll(in []Opened) {
	for _, o := range in {
		unix.Close(o.FD)
	}
}
