package document

import (
	"fmt"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// checkComponents looks at the writers' part of a document: every writer and
// every component of it once, everything within its limits.
func (d *Document) checkComponents() *fault {
	if f := d.componentTotals(); f != nil {
		return f
	}
	type identity struct{ instance, writer vss.ID }
	seen := map[identity]bool{}
	for i := range d.Components {
		w, at := &d.Components[i], step("writerComponents", i+1, true)
		if f := firstFault(checkID(at, "writer", w.WriterID), checkID(at, "writer instance", w.InstanceID)); f != nil {
			return f
		}
		if id := (identity{w.InstanceID, w.WriterID}); seen[id] {
			return faultAt(at, "the writer instance %s is listed twice", w.InstanceID)
		} else {
			seen[id] = true
		}
		if len(w.Components) == 0 {
			return faultAt(at, "the writer has no component")
		}
		names := map[[2]string]bool{}
		for k := range w.Components {
			c, at := &w.Components[k], at+"/"+step("component", k+1, true)
			if f := c.check(at); f != nil {
				return f
			}
			if n := [2]string{c.LogicalPath, c.Name}; names[n] {
				return faultAt(at, "the component %s is listed twice", shown(fullName(c.LogicalPath, c.Name)))
			} else {
				names[n] = true
			}
		}
	}
	return nil
}

// componentTotals bounds what components may make of a document, so that one
// that setters have filled can always be written.
func (d *Document) componentTotals() *fault {
	components, items, text := 0, 0, 0
	for i := range d.Components {
		w := &d.Components[i]
		components += len(w.Components)
		for k := range w.Components {
			items += w.Components[k].items()
		}
	}
	switch {
	case len(d.Components) > MaxWriters:
		return faultAt("", "components of %d writers, %d is the limit", len(d.Components), MaxWriters)
	case components > maxComponents:
		return faultAt("", "%d components, %d is the limit", components, maxComponents)
	case items > maxComponentItems:
		return faultAt("", "%d targets, subcomponents and files of components, %d is the limit", items, maxComponentItems)
	}
	for i := range d.Components {
		for k := range d.Components[i].Components {
			for _, t := range d.Components[i].Components[k].texts() {
				text += len(*t.s)
			}
		}
	}
	if text > maxComponentText {
		return faultAt("", "%d bytes of text in components, %d is the limit", text, maxComponentText)
	}
	return nil
}

func (c *Component) check(at string) *fault {
	if !componentTypes.has(c.Type) {
		return faultAt(at, "%s is not a component type", c.Type)
	}
	for _, t := range c.texts() {
		switch n := len(*t.s); {
		case n < t.least:
			return faultAt(at+t.at, "the %s is empty", t.what)
		case n > t.most:
			return faultAt(at+t.at, "the %s has %d bytes, %d is the limit", t.what, n, t.most)
		}
	}
	if strings.Contains(c.Name, `\`) {
		return faultAt(at, "the name %s has a backslash: what is before it is the logical path", shown(c.Name))
	}
	return firstFault(c.checkRestore(at), c.checkFiles(at))
}

func (c *Component) checkRestore(at string) *fault {
	at += "/restore"
	switch {
	case !fileRestoreStatuses.has(c.FileRestoreStatus):
		return faultAt(at, "%s is not a file restore status", c.FileRestoreStatus)
	case !restoreTargets.has(c.RestoreTarget):
		return faultAt(at, "%s is not a restore target", c.RestoreTarget)
	case !rollForwardTypes.has(c.RollForward.Type):
		return faultAt(at, "%s is not a roll-forward type", c.RollForward.Type)
	case c.RollForward.Type == vss.RF_PARTIAL && c.RollForward.Point == "":
		return faultAt(at, "a partial roll-forward has no point")
	case c.RollForward.Type != vss.RF_PARTIAL && c.RollForward.Point != "":
		return faultAt(at, "a roll-forward that is not partial has a point")
	case !c.SelectedForRestore && !c.RestoreInstanceID.IsNull():
		return faultAt(at, "a writer instance is named for a component that is not selected for restore")
	case !c.SelectedForRestore && len(c.RestoreSubcomponents) > 0:
		return faultAt(at, "a subcomponent is to be restored of a component that is not selected")
	}
	return nil
}

func (c *Component) checkFiles(at string) *fault {
	seen := map[any]string{}
	once := func(at string, key any) *fault {
		if first, ok := seen[key]; ok {
			return faultAt(at, "it says again what %s says", first)
		}
		seen[key] = strings.TrimPrefix(at, "/")
		return nil
	}
	for i, s := range c.RestoreSubcomponents {
		at := at + "/" + step("subcomponent", i+1, true)
		if strings.Contains(s.Name, `\`) {
			return faultAt(at, "the name %s has a backslash", shown(s.Name))
		}
		if !below(s.LogicalPath, fullName(c.LogicalPath, c.Name)) {
			return faultAt(at, "%s is not below the component", shown(fullName(s.LogicalPath, s.Name)))
		}
		if f := once(at, s); f != nil {
			return f
		}
	}
	for _, list := range []struct {
		name    string
		targets []FileTarget
	}{{"newTarget", c.NewTargets}, {"alternateLocationMapping", c.AlternateLocationMappings}} {
		for i, t := range list.targets {
			at := at + "/" + step(list.name, i+1, true)
			set := FileSet{Path: t.Path, FileSpec: t.FileSpec, Recursive: t.Recursive}
			if f := firstFault(set.checkPlace(at), checkPath(at, "alternate path", t.AlternatePath),
				once(at, [2]any{list.name, set})); f != nil {
				return f
			}
		}
	}
	for i, p := range c.PartialFiles {
		at := at + "/" + step("partialFile", i+1, true)
		if f := firstFault(checkPath(at, "path", p.Path), checkFileName(at, p.FileName)); f != nil {
			return f
		}
		if p.RangesFile != "" {
			if f := checkPath(at, "ranges file", p.RangesFile); f != nil {
				return f
			}
		}
	}
	for i, x := range c.DifferencedFiles {
		at := at + "/" + step("differencedFiles", i+1, true)
		set := FileSet{Path: x.Path, FileSpec: x.FileSpec, Recursive: x.Recursive}
		if f := firstFault(set.checkPlace(at), checkTimestamp(at, x.LastModify)); f != nil {
			return f
		}
	}
	for i, x := range c.DirectedTargets {
		at := at + "/" + step("directedTarget", i+1, true)
		if f := firstFault(checkPath(at, "source path", x.SourcePath), checkFileName(at, x.SourceFileName),
			checkPath(at, "target path", x.TargetPath), checkFileName(at, x.TargetFileName)); f != nil {
			return f
		}
	}
	return nil
}

// fullName is logical path and name of a component in one.
func fullName(path, name string) string {
	if path == "" {
		return name
	}
	return path + `\` + name
}

// below reports whether a logical path is that of the component with this full
// name, or of one below it: the comparison is by element.
func below(path, full string) bool {
	return path == full || strings.HasPrefix(path, full+`\`)
}

// spellings are the words of an enumeration, by number; what has none cannot
// be in a document.
type spellings[T ~int32] []string

func (n spellings[T]) has(v T) bool { return v >= 0 && int(v) < len(n) && n[v] != "" }

func (n spellings[T]) write(v T) string { return n[v] }

func (n spellings[T]) read(s string) (T, error) {
	for i, w := range n {
		if w == s && s != "" {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("not one of %s", strings.Trim(strings.Join(n, ", "), ", "))
}

var (
	componentTypes      = spellings[vss.ComponentType]{vss.CT_DATABASE: "database", vss.CT_FILEGROUP: "filegroup"}
	restoreTypes        = spellings[vss.RestoreType]{"undefined", "byCopy", "import", "other"}
	fileRestoreStatuses = spellings[vss.FileRestoreStatus]{"undefined", "none", "all", "failed"}
	rollForwardTypes    = spellings[vss.RollForwardType]{"undefined", "none", "all", "partial"}
	restoreTargets      = spellings[vss.RestoreTarget]{"undefined", "original", "alternate", "directed", "originalLocation"}
)
