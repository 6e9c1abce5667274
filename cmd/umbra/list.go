package main

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

func (a *app) listCmd() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List sets, copies, providers, LUNs, events",
		Example: "  umbra list copies\n  umbra list luns --orphaned\n  umbra list events --level warning --since 2h"}
	c.AddCommand(a.listSets(), a.listCopies(), a.listProviders(), a.listLUNs(), a.listEvents(), a.listArrays())
	return c
}

func (a *app) listSets() *cobra.Command {
	return &cobra.Command{Use: "sets", Short: "Sets created or imported on this machine", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		h := a.host()
		defer h.Close()
		sets, err := h.Sets(cmd.Context())
		if err != nil {
			return err
		}
		return a.emit(sets, func(w io.Writer) {
			fmt.Fprintln(w, "SET\tROLE\tSTATE\tCOPIES\tMADE\tFROM")
			for _, s := range sets {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.ID, s.Role, s.State, s.Count, timeText(s.CreationTimestamp), orElse(s.OriginatingMachine, "-"))
			}
		})
	}}
}

func (a *app) listCopies() *cobra.Command {
	var set, volume string
	c := &cobra.Command{Use: "copies", Short: "Copies on this machine",
		Long: `List the copies on this machine: all, those of a set, or those of a volume, which
is named as on the machine that has the original.`,
		Example: "  umbra list copies\n  umbra list copies --set 77aa...\n  umbra list copies --volume /srv/db --output json",
		Args:    args(cobra.NoArgs)}
	c.Flags().StringVar(&set, "set", "", "only copies of this set")
	c.Flags().StringVar(&volume, "volume", "", "only copies of this volume")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var f requester.QueryFilter
		if cmd.Flags().Changed("set") {
			var err error
			if f.Set, err = parseID(set); err != nil {
				return err
			}
			if f.Set.IsNull() {
				return usageError{fmt.Errorf("--set %q: no set has this ID", set)}
			}
		}
		if cmd.Flags().Changed("volume") {
			if !path.IsAbs(volume) {
				return usageError{fmt.Errorf("--volume %q: give a mount point or a device, from /", volume)}
			}
			f.Volume = path.Clean(volume)
		}
		return a.session(cmd.Context(), func(bc *requester.BackupComponents) error {
			cs, err := bc.QuerySnapshotsOf(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.emit(cs, func(w io.Writer) {
				fmt.Fprintln(w, "COPY\tSET\tORIGINAL\tFROM\tMADE\tPATH\tDEVICE\tEXPOSED")
				for _, c := range cs {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.SnapshotID, c.SnapshotSetID, c.OriginalVolumeName, c.OriginatingMachine,
						timeText(c.CreationTimestamp), orElse(c.DeviceObject, "-"), c.BlockDevice, orElse(exposures(c), "-"))
				}
			})
		})
	}
	return c
}

// exposures are the folder or share, and the volume group, of a copy.
func exposures(c vss.SnapshotProp) string {
	all := c.ExposedName
	if c.VolumeGroup != "" {
		all = strings.TrimPrefix(all+", volume group "+c.VolumeGroup, ", ")
	}
	return all
}

func (a *app) listProviders() *cobra.Command {
	return &cobra.Command{Use: "providers", Short: "Registered providers", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return a.session(cmd.Context(), func(bc *requester.BackupComponents) error {
			ps, err := bc.QueryProviders(cmd.Context())
			if err != nil {
				return err
			}
			return a.emit(ps, func(w io.Writer) {
				fmt.Fprintln(w, "PROVIDER\tNAME\tTYPE\tVERSION")
				for _, p := range ps {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.ProviderID, p.Name, p.Type, p.Version)
				}
			})
		})
	}}
}

func (a *app) listLUNs() *cobra.Command {
	var orphaned bool
	c := &cobra.Command{Use: "luns", Short: "LUNs attached to this machine or left by imports",
		Long: "List the LUNs attached to this machine. --orphaned lists only those that failed\nor broken-off imports left; umbra cleanup SET removes them.",
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			h := a.host()
			defer h.Close()
			luns, err := h.LUNs(cmd.Context(), orphaned)
			if err != nil {
				return err
			}
			return a.emit(luns, func(w io.Writer) { printLUNs(w, luns) })
		}}
	c.Flags().BoolVar(&orphaned, "orphaned", false, "only LUNs that imports left behind")
	return c
}

func printLUNs(w io.Writer, luns []requester.LUN) {
	fmt.Fprintln(w, "LUN\tDEVICE\tSIZE\tACCESS\tSTATE\tSET\tREASON")
	for _, l := range luns {
		access, set, size := "-", "-", "-"
		if l.Device != "" {
			access, size = "rw", bytesText(l.Size)
			if l.ReadOnly {
				access = "ro"
			}
		}
		if !l.SetID.IsNull() {
			set = l.SetID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, orElse(l.Device, "-"), size, access, l.State, set, orElse(cmp.Or(l.Reason, l.Fault), "-"))
		printVolumes(w, l)
	}
}

// printVolumes writes a line for each volume of a LUN, if it is not one itself.
func printVolumes(w io.Writer, l requester.LUN) {
	for _, v := range l.Volumes {
		kind := fmt.Sprintf("%s partition %d", l.Table, v.Number)
		if v.Number == 0 {
			if v.Filesystem != filesystem.TypeLUKS && v.Filesystem != filesystem.TypeLVM {
				continue
			}
			kind = "whole LUN"
		}
		state := "not in the set"
		switch {
		case len(v.Copies) > 0:
			state = "in the set"
		case l.SetID.IsNull():
			state = "-"
		}
		what := strings.TrimSpace(strings.Join([]string{orElse(v.Filesystem, "nothing known"), v.Label}, " "))
		fmt.Fprintf(w, "  %s\t%s\t%s\t-\t%s\t%s\t%s\n", strings.TrimSpace(kind+" "+v.Name), cmp.Or(v.Device, fmt.Sprintf("at %d", v.Offset)), bytesText(v.Length), state, what, orElse(v.Fault, "-"))
	}
}

func (a *app) listEvents() *cobra.Command {
	var q requester.EventQuery
	var set, session, since, until string
	c := &cobra.Command{Use: "events", Short: "The service's event log, newest first",
		Long: `List what the service recorded, the newest first. Options choose; several of
them choose what all of them choose. Names, numbers and levels are stable:
docs/operations.md lists them. The service keeps the last 10,000 events.

--since and --until take a time (2026-01-02, "2026-01-02 15:04", RFC 3339) or how
long ago it was (90s, 2h, 7d).`,
		Example: `  umbra list events --level warning --since 2h
  umbra list events --set 77aa...
  umbra list events --name import --since 2026-01-02 --until 2026-01-03
  umbra list events --level error --limit 1000 --output json
  umbra list events --id 4711`,
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			var err error
			for into, text := range map[*vss.ID]string{&q.SetID: set, &q.Session: session} {
				if text == "" {
					continue
				}
				if *into, err = parseID(text); err != nil {
					return err
				}
			}
			if q.Since, err = parseTime("--since", since, now); err != nil {
				return err
			}
			if q.Until, err = parseTime("--until", until, now); err != nil {
				return err
			}
			if q.Limit < 1 {
				return usageError{fmt.Errorf("--limit %d: give a number of events, at least 1", q.Limit)}
			}
			h := a.host()
			defer h.Close()
			es, err := h.Events(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.emit(es, func(w io.Writer) { printEvents(w, es) })
		}}
	f := c.Flags()
	f.StringVar(&q.ID, "id", "", "only the event with this ID")
	f.StringVar(&set, "set", "", "only events of this set")
	f.StringVar(&session, "session", "", "only events of this session (requester object)")
	f.StringVar(&q.Name, "name", "", "only events of this name (import.done), or area (import)")
	f.StringVar(&q.Level, "level", "", "only events of this level (info, warning, error) and worse")
	f.StringVar(&since, "since", "", "only events since then: a time, or how long ago")
	f.StringVar(&until, "until", "", "only events before then: a time, or how long ago")
	f.IntVar(&q.Limit, "limit", 100, "at most so many")
	return c
}

func printEvents(w io.Writer, es []requester.Event) {
	fmt.Fprintln(w, "EVENT\tTIME\tLEVEL\tNUMBER\tNAME\tOBJECT\tMESSAGE")
	for _, e := range es {
		msg := e.Message
		if e.Err != nil {
			msg += ": " + e.Err.Error()
			if e.Err.Remedy != "" {
				msg += ". " + e.Err.Remedy
			}
		}
		object := e.Object
		if object == "" && !e.SetID.IsNull() {
			object = e.SetID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.ID, e.Time.Local().Format(time.DateTime), e.Level, e.Number, e.Name, orElse(object, "-"), msg)
	}
}

// parseTime reads a time, or how long before now it was; "" is the zero time.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q: give a time such as 2026-01-02 or 2026-01-02T15:04:05Z, or how long ago it was: 90s, 2h, 7d", flag, text)}
}

func (a *app) listArrays() *cobra.Command {
	return &cobra.Command{Use: "arrays", Short: "Arrays this machine has joined", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		h := a.host()
		defer h.Close()
		as, err := h.Arrays(cmd.Context())
		if err != nil {
			return err
		}
		return a.emit(as, func(w io.Writer) {
			fmt.Fprintln(w, "ARRAY\tNAME\tANSWERS\tENDPOINTS")
			for _, x := range as {
				ans := "yes"
				if !x.Reachable {
					ans = "no: " + x.Err.Error()
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", x.ID, x.Name, ans, x.Endpoints)
			}
		})
	}}
}

func (a *app) showCmd() *cobra.Command {
	return &cobra.Command{Use: "show SET", Short: "One set: copies, LUNs, timeline", Example: "  umbra show 77aa...", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
		id, err := parseID(as[0])
		if err != nil {
			return err
		}
		h := a.host()
		defer h.Close()
		s, err := h.Set(cmd.Context(), id)
		if err != nil {
			return err
		}
		return a.emit(s, func(w io.Writer) {
			fmt.Fprintf(w, "Set:\t%s\nRole:\t%s\nState:\t%s\nAttributes:\t%s\nMade:\t%s\nFrom:\t%s\nCopies:\t%d\n\n", s.ID, s.Role, s.State, s.Attributes,
				timeText(s.CreationTimestamp), orElse(s.OriginatingMachine, "-"), s.Count)
			if s.Err != nil {
				fmt.Fprintf(w, "Error:\t%v\nRemedy:\t%s\n\n", s.Err, s.Err.Remedy)
			}
			fmt.Fprintln(w, "COPY\tLUN\tSIZE")
			for _, l := range s.LUNs {
				fmt.Fprintf(w, "%s\t%s\t%s\n", l.SnapshotID, l.Name, bytesText(l.Size))
			}
			fmt.Fprintln(w)
			if len(s.LogicalVolumes) > 0 {
				printLogical(w, s.LogicalVolumes)
				fmt.Fprintln(w)
			}
			for _, c := range s.Copies {
				if c.Err != nil {
					fmt.Fprintf(w, "%s\tnot imported\t%v\n", c.SnapshotID, c.Err)
				}
			}
			timeline(w, s.Timeline)
		})
	}}
}

// printLogical writes what logical volumes and their disks are called: where they
// were copied and, if LVM sees them here, on this machine.
func printLogical(w io.Writer, vs []requester.LogicalVolume) {
	fmt.Fprintln(w, "COPY\tLOGICAL VOLUME\tUUID\tGROUP'S UUID\tHERE\tUUID HERE\tGROUP'S UUID HERE")
	for _, v := range vs {
		fmt.Fprintf(w, "%s\t%s/%s\t%s\t%s\t%s\t%s\t%s\n", v.SnapshotID, v.Group, v.Name, v.UUID, v.GroupUUID, orElse(v.Path, "-"), orElse(v.NewUUID, "-"), orElse(v.NewGroupUUID, "-"))
		for _, d := range v.Disks {
			where := "on " + d.LUN
			if d.Offset > 0 {
				where += fmt.Sprintf(" at %d", d.Offset)
			}
			fmt.Fprintf(w, "  physical volume\t%s\t%s\t-\t-\t%s\t-\n", where, d.UUID, orElse(d.NewUUID, "-"))
		}
	}
}

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "This machine's service", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		h := a.host()
		defer h.Close()
		s, err := h.Status(cmd.Context())
		if err != nil {
			return err
		}
		return a.emit(s, func(w io.Writer) {
			fmt.Fprintf(w, "Host:\t%s\nVersion:\t%s\nStarted:\t%s\nState:\t%s\nRun:\t%s\nSessions:\t%d\n", s.HostName, s.Version, s.Started.Local().Format(time.DateTime), s.StateDir, s.RunDir, s.Sessions)
		})
	}}
}
