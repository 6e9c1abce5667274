package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

type importFlags struct {
	check  bool
	noWait bool
	exec   string
	ticket string
}

// imported is what import prints.
type imported struct {
	SetID    vss.ID                 `json:"set_id"`
	Code     vss.HResult            `json:"code"`
	Result   string                 `json:"result"`
	Copies   []vss.SnapshotProp     `json:"copies"`
	Statuses []requester.CopyStatus `json:"statuses"`
	Timeline []requester.Phase      `json:"timeline"`
	Err      *vss.Error             `json:"error,omitempty"`
}

func (a *app) importCmd() *cobra.Command {
	f := importFlags{}
	c := &cobra.Command{
		Use:   "import DOCUMENT",
		Short: "Import a transported shadow copy set on this machine",
		Long: `Import the set a document describes: the array unmasks its LUNs to this
machine, they are recognised by their page 0x83 identifiers, verified, and
arrive hidden and read-only. Nothing is copied. A set can be imported once.

Only one import runs on a machine at a time: this command waits for its turn,
unless --no-wait.

Copies of persistent contexts stay until umbra delete. Copies of the contexts
backup and file-share-backup live as long as this command: give --exec.

A failed import is never undone by itself: see umbra list luns --orphaned and
umbra cleanup.`,
		Example: `  umbra import set.umbra
  umbra import set.umbra --check
  umbra import set.umbra --exec /usr/local/bin/backup-copies`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, as []string) error { return a.importSet(cmd.Context(), as[0], f) },
	}
	c.Flags().BoolVar(&f.check, "check", false, "verify everything and change nothing")
	c.Flags().BoolVar(&f.noWait, "no-wait", false, "fail if another import runs on this machine")
	c.Flags().StringVar(&f.ticket, "ticket", "", "file with a ticket that umbra array ticket wrote, used instead of the document's own")
	c.Flags().StringVar(&f.exec, "exec", "", "program to run when the copies are there; UMBRA_SET, UMBRA_COPY_n, UMBRA_PATH_n, UMBRA_DEVICE_n and UMBRA_ORIGINAL_n are in its environment")
	return c
}

// readDocument reads a document file within the size a document may have.
func readDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "read document", Object: path, Reason: "the file cannot be read", Remedy: "Give the file that umbra create --document wrote", Err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, document.MaxSize+1))
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "read document", Object: path, Reason: "the file cannot be read", Remedy: "Check the file and the disk it is on", Err: err}
	}
	return b, nil
}

// withTicket puts a ticket that was issued again in the place of the
// document's own. Tickets are not part of what they sign.
func withTicket(b []byte, file string) ([]byte, error) {
	d, err := document.Read(b)
	if err != nil {
		return nil, err
	}
	t, err := os.ReadFile(file)
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "read ticket", Object: file, Reason: "the file cannot be read", Remedy: "Give the file that umbra array ticket --file wrote", Err: err}
	}
	if d.Set == nil || len(d.Set.Tickets) != 1 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "read ticket", Object: file, Reason: "the document has not exactly one ticket to replace", Remedy: "Import the document as it is"}
	}
	d.Set.Tickets[0].Data = t
	return document.Marshal(d)
}

func (a *app) importSet(ctx context.Context, path string, f importFlags) (err error) {
	b, err := readDocument(path)
	if err != nil {
		return err
	}
	if f.ticket != "" {
		if b, err = withTicket(b, f.ticket); err != nil {
			return err
		}
	}
	bc, err := requester.CreateBackupComponents(ctx, a.endpoint())
	if err != nil {
		return err
	}
	defer func() { err = closing(bc, err) }()
	if len(b) == 0 {
		b = []byte(" ") // an empty file is a bad document, not a new backup
	}
	if err := bc.InitializeForBackup(ctx, b); err != nil {
		return err
	}
	if err := bc.SetContext(ctx, vss.CTX_ALL); err != nil {
		return err
	}
	if f.check {
		return a.checkImport(ctx, bc)
	}
	start := bc.ImportSnapshotsQueued
	if f.noWait {
		start = bc.ImportSnapshots
	}
	op, err := start(ctx)
	if err != nil {
		return err
	}
	st, err := a.await(ctx, op)
	if err != nil {
		return err
	}
	if st.Code != vss.VSS_S_ASYNC_FINISHED && st.Code != vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED {
		return statusError(st, "ImportSnapshots")
	}
	ctx = context.WithoutCancel(ctx)
	out := imported{Code: st.Code, Result: st.Code.Name(), Statuses: st.Copies, Timeline: st.Timeline, Err: st.Err}
	var env []string
	for _, c := range st.Copies {
		if c.Code != vss.S_OK {
			continue
		}
		p, err := bc.GetSnapshotProperties(ctx, c.SnapshotID)
		if err != nil {
			return err
		}
		out.SetID = p.SnapshotSetID
		out.Copies = append(out.Copies, p)
		env = append(env, copyEnv(len(out.Copies), p)...)
	}
	if f.exec != "" {
		if err := a.runExec(ctx, f.exec, out.SetID, path, env...); err != nil {
			return err
		}
	}
	err = a.emit(out, func(w io.Writer) {
		fmt.Fprintf(w, "Shadow copy set %s imported: %d of %d copies (%s).\n", out.SetID, len(out.Copies), len(out.Statuses), out.Result)
		fmt.Fprintln(w, "COPY\tORIGINAL\tPATH\tDEVICE")
		for _, p := range out.Copies {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.SnapshotID, p.OriginalVolumeName, orElse(p.DeviceObject, "-"), p.BlockDevice)
		}
		for _, s := range out.Statuses {
			if s.Err != nil {
				fmt.Fprintf(w, "%s\tnot imported\t%v\t%s\n", s.SnapshotID, s.Err, s.Err.Remedy)
			}
		}
	})
	if err != nil {
		return err
	}
	if st.Code == vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED {
		if st.Err != nil {
			a.printError(st.Err)
		}
		return errPartial
	}
	return nil
}

func (a *app) checkImport(ctx context.Context, bc *requester.BackupComponents) error {
	items, err := bc.CheckImport(ctx)
	if err != nil {
		return err
	}
	var first *vss.Error
	err = a.emit(items, func(w io.Writer) {
		fmt.Fprintln(w, "CHECK\tOBJECT\tRESULT\tDETAIL")
		for _, i := range items {
			result, detail := "ok", i.Detail
			if !i.OK {
				result, detail = i.Err.Code.Name(), i.Err.Reason
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, orElse(i.Object, "-"), result, detail)
		}
	})
	for _, i := range items {
		if !i.OK && first == nil {
			first = i.Err
		}
	}
	if first != nil {
		return errors.Join(err, first)
	}
	return err
}
