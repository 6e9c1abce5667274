package document

import (
	"fmt"

	"github.com/umbra-vss/umbra/vss"
)

// The setters of a requester (requester.md 2.3, 2.6). They see to arguments
// and to what is in the document; what may be called when is the session's
// business, and so is what needs a running writer or its metadata: whether the
// writer is there, whether a subcomponent is selectable for restore, whether a
// mapping was offered.
//
// A refused call changes nothing, and what setters have made is valid: a
// document filled by them can be written. Codes are E_INVALIDARG,
// VSS_E_OBJECT_ALREADY_EXISTS, VSS_E_OBJECT_NOT_FOUND, and E_OUTOFMEMORY when
// the document's limits on components are reached.
//
// Most setters name a component by the writer's class. If two instances of the
// class have a component of that path and name, which a writer must not let
// happen, they refuse to guess and answer E_INVALIDARG.

// AddComponent includes a component explicitly. VSS_E_OBJECT_ALREADY_EXISTS if
// that writer instance has one of this logical path and name.
func (d *Document) AddComponent(instance, writer vss.ID, t vss.ComponentType, path, name string) error {
	const op = "AddComponent"
	a := address{instance, writer, t, path, name}
	if instance.IsNull() {
		return a.wrong(op, "the writer instance ID is GUID_NULL", "Give the instance ID that GetIdentity of the writer's metadata tells")
	}
	if err := a.check(op); err != nil {
		return err
	}
	c := Component{Type: t, LogicalPath: path, Name: name}
	if f := c.check(""); f != nil {
		return a.wrong(op, f.reason, "Give path and name as the writer's metadata has them")
	}
	w := d.Writer(instance, writer)
	if w != nil && w.Component(path, name) != nil {
		return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: op, Object: a.String(), Reason: "the component is in the document already",
			Remedy: "Add every component once"}
	}
	// Tried on a copy of the lists, so that a refusal leaves no trace.
	grown := clone(d.Components)
	if w == nil {
		grown = append(grown, WriterComponents{InstanceID: instance, WriterID: writer, Components: []Component{c}})
	} else {
		for i := range grown {
			if g := &grown[i]; g.InstanceID == instance && g.WriterID == writer {
				g.Components = append(clone(g.Components), c)
			}
		}
	}
	if f := (&Document{Components: grown}).componentTotals(); f != nil {
		return a.full(op, f)
	}
	d.Components = grown
	return nil
}

// SetBackupSucceeded records whether all files of a component, and of what it
// includes implicitly, were backed up. Writers truncate logs by it.
func (d *Document) SetBackupSucceeded(instance, writer vss.ID, t vss.ComponentType, path, name string, succeeded bool) error {
	const op = "SetBackupSucceeded"
	a := address{instance, writer, t, path, name}
	if instance.IsNull() {
		return a.wrong(op, "the writer instance ID is GUID_NULL", "Give the instance ID that AddComponent was given")
	}
	return d.change(op, a, func(c *Component) error {
		c.BackupSucceeded = succeeded
		return nil
	})
}

// SetBackupOptions gives the writer options for the backup of a component.
func (d *Document) SetBackupOptions(writer vss.ID, t vss.ComponentType, path, name, options string) error {
	return d.change("SetBackupOptions", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.BackupOptions = options
		return nil
	})
}

// SetPreviousBackupStamp hands the writer the stamp of the backup that this
// one builds on.
func (d *Document) SetPreviousBackupStamp(writer vss.ID, t vss.ComponentType, path, name, stamp string) error {
	return d.change("SetPreviousBackupStamp", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.PreviousBackupStamp = stamp
		return nil
	})
}

// SetRestoreOptions gives the writer options for the restore of a component.
func (d *Document) SetRestoreOptions(writer vss.ID, t vss.ComponentType, path, name, options string) error {
	return d.change("SetRestoreOptions", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.RestoreOptions = options
		return nil
	})
}

// SetAdditionalRestores tells the writer that more of a component will be
// restored afterwards, so that it must not recover yet.
func (d *Document) SetAdditionalRestores(writer vss.ID, t vss.ComponentType, path, name string, more bool) error {
	return d.change("SetAdditionalRestores", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.AdditionalRestores = more
		return nil
	})
}

// SetSelectedForRestore selects a component for restore, or not any more; then
// its subcomponents are not either.
func (d *Document) SetSelectedForRestore(writer vss.ID, t vss.ComponentType, path, name string, selected bool) error {
	return d.selectForRestore("SetSelectedForRestore", writer, t, path, name, selected, vss.GUIDNull)
}

// SetSelectedForRestoreEx is SetSelectedForRestore for a component that a
// certain running instance of the writer is to get; GUID_NULL stands for
// whichever has it.
func (d *Document) SetSelectedForRestoreEx(writer vss.ID, t vss.ComponentType, path, name string, selected bool, instance vss.ID) error {
	return d.selectForRestore("SetSelectedForRestoreEx", writer, t, path, name, selected, instance)
}

func (d *Document) selectForRestore(op string, writer vss.ID, t vss.ComponentType, path, name string, selected bool, instance vss.ID) error {
	return d.change(op, address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.SelectedForRestore, c.RestoreInstanceID = selected, instance
		if !selected {
			c.RestoreInstanceID, c.RestoreSubcomponents = vss.GUIDNull, nil
		}
		return nil
	})
}

// AddRestoreSubcomponent selects a part of a component that is selected for
// restore. The part lies below the component; repair is reserved and false.
// VSS_E_OBJECT_NOT_FOUND if the component is not selected. To add a part again
// changes nothing.
func (d *Document) AddRestoreSubcomponent(writer vss.ID, t vss.ComponentType, path, name, subPath, subName string, repair bool) error {
	const op = "AddRestoreSubcomponent"
	a := address{vss.GUIDNull, writer, t, path, name}
	if repair {
		return a.wrong(op, "repair is reserved", "Give false")
	}
	return d.change(op, a, func(c *Component) error {
		sub := Subcomponent{subPath, subName}
		switch {
		case subPath == "" || subName == "":
			return a.wrong(op, "the subcomponent has no logical path or no name", "Give both; a subcomponent's path begins with the component's path and name")
		case !below(subPath, fullName(path, name)):
			return a.wrong(op, fmt.Sprintf("%s is not below the component", shown(fullName(subPath, subName))), "Give the subcomponent's whole logical path, which begins with the component's path and name")
		case !c.SelectedForRestore:
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: a.String(), Reason: "the component is not selected for restore",
				Remedy: "Call SetSelectedForRestore for it first"}
		}
		for _, have := range c.RestoreSubcomponents {
			if have == sub {
				return nil
			}
		}
		c.RestoreSubcomponents = append(c.RestoreSubcomponents, sub)
		return nil
	})
}

// SetFileRestoreStatus tells the writer how many of a component's files were
// restored: RS_ALL, RS_NONE, or RS_FAILED for some.
func (d *Document) SetFileRestoreStatus(writer vss.ID, t vss.ComponentType, path, name string, status vss.FileRestoreStatus) error {
	const op = "SetFileRestoreStatus"
	a := address{vss.GUIDNull, writer, t, path, name}
	if status == vss.RS_UNDEFINED || !fileRestoreStatuses.has(status) {
		return a.wrong(op, fmt.Sprintf("%s is not a file restore status", status), "Use RS_NONE, RS_ALL or RS_FAILED")
	}
	return d.change(op, a, func(c *Component) error {
		c.FileRestoreStatus = status
		return nil
	})
}

// AddNewTarget tells the writer that the files of one of its file sets will be
// restored to another folder. One file set has one target.
func (d *Document) AddNewTarget(writer vss.ID, t vss.ComponentType, path, name, filePath, fileSpec string, recursive bool, alternatePath string) error {
	return d.change("AddNewTarget", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.NewTargets = withTarget(c.NewTargets, FileTarget{filePath, fileSpec, recursive, alternatePath})
		return nil
	})
}

// AddAlternativeLocationMapping records that the files of a file set were
// restored to the alternate location which the writer's metadata offers.
func (d *Document) AddAlternativeLocationMapping(writer vss.ID, t vss.ComponentType, path, name, filePath, fileSpec string, recursive bool, alternatePath string) error {
	return d.change("AddAlternativeLocationMapping", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.AlternateLocationMappings = withTarget(c.AlternateLocationMappings, FileTarget{filePath, fileSpec, recursive, alternatePath})
		return nil
	})
}

// withTarget adds a target; the very same one is added once.
func withTarget(list []FileTarget, t FileTarget) []FileTarget {
	for _, have := range list {
		if have == t {
			return list
		}
	}
	return append(list, t)
}

// SetRangesFilePath says where the file of ranges of a component's partial
// file was restored to. VSS_E_OBJECT_NOT_FOUND if the writer recorded no
// partial file of that index.
func (d *Document) SetRangesFilePath(writer vss.ID, t vss.ComponentType, path, name string, partialFile int, rangesFile string) error {
	const op = "SetRangesFilePath"
	a := address{vss.GUIDNull, writer, t, path, name}
	if f := checkPath("", "ranges file", rangesFile); f != nil {
		return a.wrong(op, f.reason, "Give the absolute path of the file")
	}
	return d.change(op, a, func(c *Component) error {
		if partialFile < 0 || partialFile >= len(c.PartialFiles) {
			return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: a.String(),
				Reason: fmt.Sprintf("it has %d partial files and none with index %d", len(c.PartialFiles), partialFile), Remedy: "Count from 0"}
		}
		c.PartialFiles[partialFile].RangesFile = rangesFile
		return nil
	})
}

// SetAuthoritativeRestore says that what is restored wins over its replicas.
func (d *Document) SetAuthoritativeRestore(writer vss.ID, t vss.ComponentType, path, name string, authoritative bool) error {
	return d.change("SetAuthoritativeRestore", address{vss.GUIDNull, writer, t, path, name}, func(c *Component) error {
		c.AuthoritativeRestore = authoritative
		return nil
	})
}

// SetRollForward says how far to roll forward: RF_NONE, RF_ALL, or RF_PARTIAL
// with a point in the writer's notation.
func (d *Document) SetRollForward(writer vss.ID, t vss.ComponentType, path, name string, how vss.RollForwardType, point string) error {
	const op = "SetRollForward"
	a := address{vss.GUIDNull, writer, t, path, name}
	if how == vss.RF_UNDEFINED || !rollForwardTypes.has(how) {
		return a.wrong(op, fmt.Sprintf("%s is not a roll-forward type", how), "Use RF_NONE, RF_ALL or RF_PARTIAL")
	}
	return d.change(op, a, func(c *Component) error {
		c.RollForward = RollForward{how, point}
		return nil
	})
}

// SetRestoreName gives the restored component another name.
func (d *Document) SetRestoreName(writer vss.ID, t vss.ComponentType, path, name, restoreName string) error {
	const op = "SetRestoreName"
	a := address{vss.GUIDNull, writer, t, path, name}
	if restoreName == "" {
		return a.wrong(op, "the new name is empty", "Give a name")
	}
	return d.change(op, a, func(c *Component) error {
		c.RestoreName = restoreName
		return nil
	})
}

// SetRestoreState says what kind of restore this is. Writers take
// RTYPE_UNDEFINED for RTYPE_BY_COPY.
func (d *Document) SetRestoreState(t vss.RestoreType) error {
	if !restoreTypes.has(t) {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "SetRestoreState", Object: t.String(), Reason: "not a restore type",
			Remedy: "Use RTYPE_BY_COPY, RTYPE_IMPORT or RTYPE_OTHER"}
	}
	d.RestoreState = t
	return nil
}

// UpdateComponent is how a writer changes its component during an event: f
// gets a copy and changes what is the writer's. If the result is not valid
// (E_INVALIDARG) or too large (E_OUTOFMEMORY), or f fails, nothing is changed.
// What identifies the component stays.
func (d *Document) UpdateComponent(instance, writer vss.ID, t vss.ComponentType, path, name string, f func(*Component) error) error {
	const op = "UpdateComponent"
	a := address{instance, writer, t, path, name}
	if instance.IsNull() {
		return a.wrong(op, "the writer instance ID is GUID_NULL", "Give the instance ID of the writer")
	}
	return d.change(op, a, func(c *Component) error {
		if err := f(c); err != nil {
			return err
		}
		c.Type, c.LogicalPath, c.Name = t, path, name
		return nil
	})
}

// address names a component as the arguments of a call do; GUID_NULL is any
// instance of the writer.
type address struct {
	instance, writer vss.ID
	t                vss.ComponentType
	path, name       string
}

func (a address) String() string {
	return fmt.Sprintf("component %s of writer %s", shown(fullName(a.path, a.name)), a.writer)
}

func (a address) wrong(op, reason, remedy string) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: a.String(), Reason: reason, Remedy: remedy}
}

func (a address) full(op string, f *fault) error {
	return &vss.Error{Code: vss.E_OUTOFMEMORY, Op: op, Object: a.String(), Reason: "the document is full: " + f.reason,
		Remedy: "Back up fewer components at once"}
}

func (a address) check(op string) error {
	switch {
	case a.writer.IsNull():
		return a.wrong(op, "the writer ID is GUID_NULL", "Give the class ID of the writer")
	case !componentTypes.has(a.t):
		return a.wrong(op, fmt.Sprintf("%s is not a component type", a.t), "Use CT_DATABASE or CT_FILEGROUP")
	case a.name == "":
		return a.wrong(op, "the component has no name", "Give the name; only the logical path may be left out")
	}
	return nil
}

// change applies f to a copy of the component and keeps it if it is valid.
func (d *Document) change(op string, a address, f func(*Component) error) error {
	if err := a.check(op); err != nil {
		return err
	}
	var c *Component
	for i := range d.Components {
		w := &d.Components[i]
		if w.WriterID != a.writer || !a.instance.IsNull() && w.InstanceID != a.instance {
			continue
		}
		found := w.Component(a.path, a.name)
		switch {
		case found == nil || found.Type != a.t:
		case c != nil:
			return a.wrong(op, "two instances of the writer have a component of this path and name", "Have the writer give its components different names")
		default:
			c = found
		}
	}
	if c == nil {
		return &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: op, Object: a.String(), Reason: "the component is not in the document",
			Remedy: "Give type, logical path and name as AddComponent was given them when the backup was made"}
	}
	old, changed := *c, c.detached()
	if err := f(&changed); err != nil {
		return err
	}
	if f := changed.check(""); f != nil {
		return a.wrong(op, f.reason, "Give a value that the documentation of the call allows")
	}
	*c = changed
	if f := d.componentTotals(); f != nil {
		*c = old
		return a.full(op, f)
	}
	return nil
}
