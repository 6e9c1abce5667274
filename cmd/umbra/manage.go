package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// session runs fn with an object for administration (context all).
func (a *app) session(ctx context.Context, fn func(*requester.BackupComponents) error) (err error) {
	bc, err := requester.CreateBackupComponents(ctx, a.endpoint())
	if err != nil {
		return err
	}
	defer func() { err = closing(bc, err) }()
	if err := bc.InitializeForBackup(ctx, nil); err != nil {
		return err
	}
	if err := bc.SetContext(ctx, vss.CTX_ALL); err != nil {
		return err
	}
	return fn(bc)
}

func (a *app) exposeCmd() *cobra.Command {
	var share, path, group string
	var newIdentity bool
	c := &cobra.Command{
		Use:   "expose COPY|SET [FOLDER]",
		Short: "Mount a copy on an empty folder, share it, or show its volume group to LVM, read-only",
		Long: `Mount an imported, persistent copy read-only on an existing empty folder, with
the options that are right for a clone beside its original. Its files are
readable without this under the copy's PATH (umbra list copies).

With --share instead of a folder, make the copy, or a part of it, available to
other machines, read-only, by the file server that the daemon's configuration
names in [share].

With --new-identity, let this machine's LVM see the volume group that a copy, or
the copies of a set, lie in: under another name and with other UUIDs, so that it
can be here beside the original. It has the volumes that the set has copies of, as
/dev/GROUP/VOLUME, read-only; nothing is written to the copy. umbra show SET says
what is called how. Mount a volume read-only and as a clone: -o ro,noload for
ext4, -o ro,nouuid,norecovery for XFS.`,
		Example: "  umbra expose 3f0e...  /mnt/db\n  umbra expose 3f0e...  --share db --path data/2026\n  umbra expose 77aa...  --new-identity --vg-name data_monday",
		Args: args(func(cmd *cobra.Command, as []string) error {
			if newIdentity {
				if cmd.Flags().Changed("share") || cmd.Flags().Changed("path") {
					return errors.New("--new-identity is an exposure of its own, without --share and --path")
				}
				return cobra.ExactArgs(1)(cmd, as)
			}
			if cmd.Flags().Changed("vg-name") {
				return errors.New("--vg-name needs --new-identity")
			}
			if cmd.Flags().Changed("share") {
				return cobra.ExactArgs(1)(cmd, as)
			}
			if cmd.Flags().Changed("path") {
				return errors.New("--path needs --share")
			}
			return cobra.ExactArgs(2)(cmd, as)
		}),
		RunE: func(cmd *cobra.Command, as []string) error {
			id, err := parseID(as[0])
			if err != nil {
				return err
			}
			if newIdentity {
				return a.session(cmd.Context(), func(bc *requester.BackupComponents) error {
					vs, err := bc.ExposeVolumeGroups(cmd.Context(), id, group)
					if err != nil {
						return err
					}
					return a.emit(vs, func(w io.Writer) { printLogical(w, vs) })
				})
			}
			attr, how, name := vss.ATTR_EXPOSED_REMOTELY, "shared as", share
			if !cmd.Flags().Changed("share") {
				attr, how, name = vss.ATTR_EXPOSED_LOCALLY, "exposed at", as[1]
			}
			return a.session(cmd.Context(), func(bc *requester.BackupComponents) error {
				where, err := bc.ExposeSnapshot(cmd.Context(), id, path, attr, name)
				if err != nil {
					return err
				}
				return a.emit(map[string]string{"copy": id.String(), "exposed": where}, func(w io.Writer) { fmt.Fprintf(w, "%s %s %s, read-only.\n", id, how, where) })
			})
		},
	}
	c.Flags().StringVar(&share, "share", "", "share the copy under this name; \"\" lets the service choose one")
	c.Flags().StringVar(&path, "path", "", "share only this folder, a path from the copy's root")
	c.Flags().BoolVar(&newIdentity, "new-identity", false, "show the volume group to LVM under a new name and new UUIDs")
	c.Flags().StringVar(&group, "vg-name", "", "call the group so; without it, as its original, with the first digits of the set's ID")
	return c
}

func (a *app) unexposeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "unexpose COPY|SET|FOLDER|SHARE|GROUP", Short: "Take an exposure away; the copy stays",
		Long: `Take an exposure away: a mount, a share, or a volume group that expose
--new-identity showed. A copy that is exposed in several ways loses its mount or
share; name the group, or the set, to end the group.`,
		Example: "  umbra unexpose /mnt/db\n  umbra unexpose data_monday",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, as []string) error {
			ctx := cmd.Context()
			return a.session(ctx, func(bc *requester.BackupComponents) error {
				id, err := vss.ParseID(as[0])
				unexpose := bc.UnexposeSnapshot
				if err != nil {
					var group bool
					if id, group, err = exposedAt(ctx, bc, as[0]); group {
						unexpose = bc.UnexposeVolumeGroups
					}
				} else if cs, qerr := bc.QuerySnapshotsOf(ctx, requester.QueryFilter{Set: id}); qerr == nil && len(cs) > 0 {
					unexpose = bc.UnexposeVolumeGroups // of the set
				}
				if err == nil {
					err = unexpose(ctx, id)
				}
				if err != nil {
					return err
				}
				return a.emit(map[string]string{"copy": id.String()}, func(w io.Writer) { fmt.Fprintf(w, "%s is no longer exposed.\n", id) })
			})
		},
	}
}

// exposedAt finds the copy exposed at a folder, by a share, or in a volume group.
func exposedAt(ctx context.Context, bc *requester.BackupComponents, where string) (id vss.ID, group bool, err error) {
	cs, err := bc.QuerySnapshots(ctx)
	if err != nil {
		return vss.GUIDNull, false, err
	}
	for _, c := range cs {
		if c.ExposedName == where {
			return c.SnapshotID, false, nil
		}
	}
	for _, c := range cs {
		if slices.Contains(strings.Split(c.VolumeGroup, ", "), where) {
			return c.SnapshotID, true, nil
		}
	}
	return vss.GUIDNull, false, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "UnexposeSnapshot", Object: where, Reason: "no copy is exposed there", Remedy: "See umbra list copies"}
}

func (a *app) deleteCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "delete",
		Short: "Delete copies and give their LUNs back to the array",
		Long: `Delete imported copies: they are unmounted and detached, and the array reclaims
their LUNs. On the machine that created a set, umbra delete set drops copies
that nobody has imported.

A copy that a program uses is refused, and the program named. With --force it
goes all the same: it disappears from its folders and from the array at once. A
program that has a file of it open can read that to the end; the device and the
space on the array go when the last one has closed it. The program is not told.`,
		Example: "  umbra delete copy 3f0e...\n  umbra delete set 77aa... --force\n  umbra delete oldest\n  umbra delete all",
	}
	force := false
	run := func(pick func(ctx context.Context, bc *requester.BackupComponents, as []string) (ids []vss.ID, kind vss.ObjectType, err error)) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, as []string) error {
			ctx := cmd.Context()
			return a.session(ctx, func(bc *requester.BackupComponents) error {
				ids, kind, err := pick(ctx, bc, as)
				if err != nil {
					return err
				}
				total := 0
				for _, id := range ids {
					n, _, derr := bc.DeleteSnapshots(ctx, id, kind, force)
					total += n
					if derr != nil {
						err = derr
						break
					}
				}
				if perr := a.emit(map[string]int{"deleted": total}, func(w io.Writer) { fmt.Fprintf(w, "%d copies deleted.\n", total) }); perr != nil {
					return perr
				}
				return err
			})
		}
	}
	one := func(kind vss.ObjectType) func(context.Context, *requester.BackupComponents, []string) ([]vss.ID, vss.ObjectType, error) {
		return func(_ context.Context, _ *requester.BackupComponents, as []string) ([]vss.ID, vss.ObjectType, error) {
			id, err := parseID(as[0])
			return []vss.ID{id}, kind, err
		}
	}
	named := []*cobra.Command{
		{Use: "copy COPY", Short: "Delete one copy", Args: args(cobra.ExactArgs(1)), RunE: run(one(vss.OBJECT_SNAPSHOT))},
		{Use: "set SET", Short: "Delete the copies of a set", Args: args(cobra.ExactArgs(1)), RunE: run(one(vss.OBJECT_SNAPSHOT_SET))},
	}
	for _, x := range named {
		x.Flags().BoolVar(&force, "force", false, "delete also what programs on this machine use")
	}
	c.AddCommand(named...)
	c.AddCommand(
		&cobra.Command{Use: "oldest", Short: "Delete the oldest copy on this machine", Args: args(cobra.NoArgs), RunE: run(func(ctx context.Context, bc *requester.BackupComponents, _ []string) ([]vss.ID, vss.ObjectType, error) {
			cs, err := bc.QuerySnapshots(ctx)
			if err != nil {
				return nil, 0, err
			}
			if len(cs) == 0 {
				return nil, 0, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "DeleteSnapshots", Object: "oldest copy", Reason: "there is no copy on this machine", Remedy: "See umbra list copies"}
			}
			oldest := cs[0]
			for _, s := range cs {
				if s.CreationTimestamp < oldest.CreationTimestamp {
					oldest = s
				}
			}
			return []vss.ID{oldest.SnapshotID}, vss.OBJECT_SNAPSHOT, nil
		})},
		&cobra.Command{Use: "all", Short: "Delete every copy on this machine", Args: args(cobra.NoArgs), RunE: run(func(ctx context.Context, bc *requester.BackupComponents, _ []string) ([]vss.ID, vss.ObjectType, error) {
			cs, err := bc.QuerySnapshots(ctx)
			var ids []vss.ID
			for _, s := range cs {
				ids = append(ids, s.SnapshotID)
			}
			return ids, vss.OBJECT_SNAPSHOT, err
		})},
	)
	return c
}

func (a *app) cleanupCmd() *cobra.Command {
	var reclaim bool
	c := &cobra.Command{
		Use:   "cleanup SET",
		Short: "Remove what a failed import left on this machine",
		Long: `Remove the LUNs that a failed, cancelled or broken-off import of SET left on
this machine (umbra list luns --orphaned). By default they are masked and keep
their data; --reclaim destroys the copies on the array. If some cannot be
removed, those that were are printed, the others stay listed, and the command
fails; it can be repeated.`,
		Example: "  umbra cleanup 77aa...\n  umbra cleanup 77aa... --reclaim",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, as []string) error {
			id, err := parseID(as[0])
			if err != nil {
				return err
			}
			mode := requester.Mask
			if reclaim {
				mode = requester.Reclaim
			}
			return a.session(cmd.Context(), func(bc *requester.BackupComponents) error {
				luns, err := bc.CleanupImport(cmd.Context(), id, mode)
				if err != nil && len(luns) == 0 {
					return err
				}
				return errors.Join(a.emit(luns, func(w io.Writer) {
					fmt.Fprintln(w, "LUN\tDEVICE\tACTION")
					for _, l := range luns {
						fmt.Fprintf(w, "%s\t%s\t%s\n", l.Name, orElse(l.Device, "-"), l.Action)
					}
				}), err)
			})
		},
	}
	c.Flags().BoolVar(&reclaim, "reclaim", false, "destroy the copies instead of masking them")
	return c
}
