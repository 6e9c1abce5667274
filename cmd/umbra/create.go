package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

type createFlags struct {
	context       string
	transportable bool
	document      string
	exec          string
	provider      string
	differential  bool
	plex          bool
}

// created is what create prints.
type created struct {
	SetID     vss.ID            `json:"set_id"`
	Document  string            `json:"document"`
	Snapshots []createdCopy     `json:"snapshots"`
	Timeline  []requester.Phase `json:"timeline"`
}

// createdCopy is one copy. Where it is is known on this machine only if the set
// does not travel.
type createdCopy struct {
	ID           vss.ID `json:"id"`
	Volume       string `json:"volume"`
	DeviceObject string `json:"device_object,omitempty"`
	BlockDevice  string `json:"block_device,omitempty"`
}

func (a *app) createCmd() *cobra.Command {
	f := createFlags{}
	c := &cobra.Command{
		Use:   "create VOLUME...",
		Short: "Make a shadow copy set of volumes at one instant",
		Long: `Make a shadow copy set: all volumes at one instant, with their filesystems
frozen for milliseconds. VOLUME is a mount point or a mounted block device on
LUNs of an array this machine has joined.

The copies are shown to this machine, hidden and read-only: each is read at the
path that is printed, or mounted elsewhere with umbra expose. Copies of
persistent contexts stay until umbra delete. Copies of the contexts backup and
file-share-backup live as long as this command: give --exec.

With --transportable the copies stay masked on the array; the document is all
another machine needs to import them.

If anything fails nothing is left: the volumes run on, the copies are dropped.`,
		Example: `  umbra create /srv/db /srv/log
  umbra create /srv/db --context backup --exec /usr/local/bin/backup-copies
  umbra create /srv/db /srv/log --transportable --context app-rollback --document set.umbra
  umbra create /srv/db --transportable --document set.umbra --exec /usr/local/bin/ship-document`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, volumes []string) error { return a.create(cmd.Context(), volumes, f) },
	}
	c.Flags().StringVar(&f.context, "context", "app-rollback", "context: backup, file-share-backup, app-rollback, nas-rollback")
	c.Flags().BoolVar(&f.transportable, "transportable", false, "leave the copies masked, to be imported by another machine")
	c.Flags().StringVarP(&f.document, "document", "d", "", "file to write the Backup Components Document to (required with --transportable)")
	c.Flags().StringVar(&f.exec, "exec", "", "program to run when the set is made, before the session is closed; UMBRA_SET and UMBRA_DOCUMENT are in its environment and, without --transportable, UMBRA_COPY_n, UMBRA_PATH_n, UMBRA_DEVICE_n and UMBRA_ORIGINAL_n")
	c.Flags().StringVar(&f.provider, "provider", "", "provider ID (default: whichever supports the volume)")
	c.Flags().BoolVar(&f.differential, "differential", false, "require copy-on-write copies")
	c.Flags().BoolVar(&f.plex, "plex", false, "require full mirror copies")
	return c
}

func (a *app) create(ctx context.Context, volumes []string, f createFlags) (err error) {
	sc, err := vss.ParseContext(f.context)
	if err != nil {
		return usageError{err}
	}
	for flag, bit := range map[*bool]vss.Attributes{&f.transportable: vss.ATTR_TRANSPORTABLE, &f.differential: vss.ATTR_DIFFERENTIAL, &f.plex: vss.ATTR_PLEX} {
		if *flag {
			sc |= vss.Context(bit)
		}
	}
	if f.transportable && f.document == "" {
		return usageError{errors.New("create --transportable needs --document FILE: without the document nobody can import the set")}
	}
	provider := vss.GUIDNull
	if f.provider != "" {
		if provider, err = parseID(f.provider); err != nil {
			return err
		}
	}
	// The document's file is made before anything else: a set whose document
	// cannot be saved must not come to be.
	var doc *pendingFile
	if f.document != "" {
		if doc, err = newPendingFile(f.document); err != nil {
			return err
		}
		defer doc.discard()
	}

	bc, err := requester.CreateBackupComponents(ctx, a.endpoint())
	if err != nil {
		return err
	}
	defer func() { err = closing(bc, err) }()
	if err := bc.InitializeForBackup(ctx, nil); err != nil {
		return err
	}
	if err := bc.SetContext(ctx, sc); err != nil {
		return err
	}
	if err := bc.SetBackupState(ctx, false, false, vss.BT_COPY, false); err != nil {
		return err
	}
	if sc.Writers() {
		if err := a.finish(ctx, bc.GatherWriterMetadata); err != nil {
			return err
		}
	}
	out := created{Document: f.document}
	if out.SetID, err = bc.StartSnapshotSet(ctx); err != nil {
		return err
	}
	for _, v := range volumes {
		if abs, err := filepath.Abs(v); err == nil {
			v = abs
		}
		id, err := bc.AddToSnapshotSet(ctx, v, provider)
		if err != nil {
			return errors.Join(err, bc.AbortBackup(context.WithoutCancel(ctx)))
		}
		out.Snapshots = append(out.Snapshots, createdCopy{ID: id, Volume: v})
	}
	if sc.Writers() {
		if err := a.finish(ctx, bc.PrepareForBackup); err != nil {
			return err
		}
	}
	op, err := bc.DoSnapshotSet(ctx)
	if err != nil {
		return err
	}
	st, err := a.await(ctx, op)
	if err != nil {
		return err
	}
	if err := statusError(st, "DoSnapshotSet"); err != nil {
		return err
	}
	out.Timeline = st.Timeline
	var env []string
	if !f.transportable {
		if env, err = located(ctx, bc, out.Snapshots); err != nil {
			return err
		}
	}
	if doc != nil {
		xml, err := bc.SaveAsXML(ctx)
		if err != nil {
			return err
		}
		if err := doc.commit(xml); err != nil {
			return err
		}
	}
	if f.exec != "" {
		if err := a.runExec(ctx, f.exec, out.SetID, f.document, env...); err != nil {
			return err
		}
	}
	if sc.Writers() {
		if err := a.finish(ctx, bc.BackupComplete); err != nil {
			return err
		}
	}
	return a.emit(out, func(w io.Writer) {
		fmt.Fprintf(w, "Shadow copy set %s made.\n", out.SetID)
		if f.transportable {
			fmt.Fprintln(w, "COPY\tVOLUME")
			for _, s := range out.Snapshots {
				fmt.Fprintf(w, "%s\t%s\n", s.ID, s.Volume)
			}
		} else {
			fmt.Fprintln(w, "COPY\tVOLUME\tPATH\tDEVICE")
			for _, s := range out.Snapshots {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.ID, s.Volume, orElse(s.DeviceObject, "-"), s.BlockDevice)
			}
		}
		for _, p := range out.Timeline {
			if p.Object == "" && (p.Name == "hold" || p.Name == "commit" || p.Name == "flush") {
				fmt.Fprintf(w, "%s:\t%s\n", p.Name, durationText(p.Duration))
			}
		}
		if f.document != "" {
			fmt.Fprintf(w, "Document:\t%s\n", f.document)
		}
	})
}

// located fills in where the copies of a set are that does not travel, and
// returns what tells a program so.
func located(ctx context.Context, bc *requester.BackupComponents, copies []createdCopy) (env []string, err error) {
	for i := range copies {
		p, err := bc.GetSnapshotProperties(ctx, copies[i].ID)
		if err != nil {
			return nil, err
		}
		copies[i].DeviceObject, copies[i].BlockDevice = p.DeviceObject, p.BlockDevice
		env = append(env, copyEnv(i+1, p)...)
	}
	return env, nil
}

// copyEnv tells a program about its n-th copy.
func copyEnv(n int, p vss.SnapshotProp) []string {
	return []string{fmt.Sprintf("UMBRA_COPY_%d=%s", n, p.SnapshotID), fmt.Sprintf("UMBRA_PATH_%d=%s", n, p.DeviceObject),
		fmt.Sprintf("UMBRA_DEVICE_%d=%s", n, p.BlockDevice), fmt.Sprintf("UMBRA_ORIGINAL_%d=%s", n, p.OriginalVolumeName)}
}

// closing closes the object. That it cannot be closed is news only when all
// went well so far: else its cause has been told.
func closing(bc *requester.BackupComponents, err error) error {
	if cerr := bc.Close(); err == nil {
		return cerr
	}
	return err
}

// finish starts an asynchronous call and waits for it.
func (a *app) finish(ctx context.Context, start func(context.Context) (*requester.Async, error)) error {
	op, err := start(ctx)
	if err != nil {
		return err
	}
	st, err := op.WaitFor(ctx, requester.Infinite)
	if err != nil {
		return err
	}
	return errors.Join(statusError(st, "operation"), op.Release(ctx))
}

// statusError is nil for an operation that finished.
func statusError(st requester.Status, op string) error {
	switch {
	case st.Code == vss.VSS_S_ASYNC_FINISHED:
		return nil
	case st.Err != nil && st.Code.Failed():
		return st.Err
	case st.Code == vss.VSS_S_ASYNC_CANCELLED:
		e := &vss.Error{Code: st.Code, Op: op, Reason: "the operation was cancelled"}
		if st.Err != nil {
			e.Object, e.Remedy, e.EventID = st.Err.Object, st.Err.Remedy, st.Err.EventID
		}
		return e
	}
	return &vss.Error{Code: st.Code, Op: op, Reason: "the operation did not finish"}
}

// runExec runs the user's program and passes its failure on.
func (a *app) runExec(ctx context.Context, program string, set vss.ID, document string, env ...string) error {
	cmd := exec.CommandContext(ctx, program)
	cmd.Stdout, cmd.Stderr = a.err, a.err // stdout stays the command's own, for --output json
	cmd.Env = append(append(os.Environ(), "UMBRA_SET="+set.String(), "UMBRA_DOCUMENT="+document, "UMBRA_SOCKET="+a.socket), env...)
	if err := cmd.Run(); err != nil {
		return &vss.Error{Code: vss.E_FAIL, Op: "exec", Object: program, Reason: "the program failed; the shadow copies stay", Remedy: "Mend the program and run it again; the set is " + set.String(), Err: err}
	}
	return nil
}

// pendingFile is a document being written: it appears under its name complete
// and durable, or not at all.
type pendingFile struct {
	path  string
	tmp   *os.File
	named bool // tmp has a name of its own
}

func newPendingFile(path string) (*pendingFile, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "save document", Object: path, Reason: "the file is there already", Remedy: "Choose another name; a document is never overwritten"}
	}
	// Without a name where the filesystem can do that, so that a command that
	// is killed leaves nothing; mode 0600, since whoever has it may import.
	tmp, err := os.OpenFile(filepath.Dir(path), unix.O_TMPFILE|os.O_WRONLY, 0o600)
	named := errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR)
	if named {
		tmp, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	}
	if err != nil {
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "save document", Object: path, Reason: "the file cannot be made", Remedy: "Choose a folder that exists and is writable", Err: err}
	}
	return &pendingFile{path, tmp, named}, nil
}

func (p *pendingFile) discard() {
	if p.tmp != nil {
		p.tmp.Close()
		if p.named {
			os.Remove(p.tmp.Name())
		}
		p.tmp = nil
	}
}

func (p *pendingFile) commit(xml []byte) error {
	fail := func(err error) error {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "save document", Object: p.path, Reason: "the document could not be written; the shadow copies exist",
			Remedy: "See umbra list sets; delete the set with umbra delete set, or save the document elsewhere", Err: err}
	}
	d, err := document.Unmarshal(xml)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := document.WriteBundle(&b, d); err != nil {
		return err
	}
	if _, err := p.tmp.Write(b.Bytes()); err != nil {
		return fail(err)
	}
	if err := p.tmp.Sync(); err != nil {
		return fail(err)
	}
	// Link, not rename: somebody may have made the name meanwhile.
	from := p.tmp.Name()
	if !p.named {
		from = fmt.Sprintf("/proc/self/fd/%d", p.tmp.Fd())
	}
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, p.path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return fail(err)
	}
	dir, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return fail(err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fail(err)
	}
	return nil
}
