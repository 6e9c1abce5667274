package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/daemon"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/doctor"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

func (a *app) doctorCmd() *cobra.Command {
	var limit time.Duration
	var file, stateDir, arraySocket string
	c := &cobra.Command{Use: "doctor", Short: "Say who is stuck, since when, and what helps",
		Long: `Say what is stuck, lost or left on this machine: who, since when, why it matters
and the command that helps. It changes nothing, and asks nobody who may hang.

It works whatever the service does: a daemon that is dead, stopped or silent is a
finding itself, and the machine is looked at instead.

Exit code 0: nothing was found. 1: something was, or it could not be looked.`,
		Example: "  umbra doctor\n  umbra doctor --output json --timeout 10s", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			if limit <= 0 {
				return usageError{errors.New("--timeout must be more than 0")}
			}
			if !cmd.Flags().Changed("state-dir") {
				if cfg, err := daemon.Load(file); err == nil {
					stateDir = cfg.StateDir
				} else if file != "" {
					return err
				}
			}
			d, err := a.diagnose(cmd.Context(), limit, stateDir, arraySocket)
			if err != nil {
				return err
			}
			if err := a.emit(d, func(w io.Writer) { printDiagnosis(w, d, time.Now()) }); err != nil {
				return err
			}
			if len(d.Findings) > 0 {
				return errReported
			}
			return nil
		}}
	c.Flags().DurationVar(&limit, "timeout", 3*time.Second, "how long to look, and to wait for the service")
	c.Flags().StringVar(&file, "config", "", "the daemon's configuration file (default "+daemon.DefaultConfigFile+" if it exists)")
	c.Flags().StringVar(&stateDir, "state-dir", daemon.Default().StateDir, "the daemon's state folder, if it does not say so itself")
	c.Flags().StringVar(&arraySocket, "array-socket", defaultArraySocket, "socket of this machine's array, if it has one")
	return c
}

var errStopped = errors.New("the daemon is stopped")

// diagnose asks the service, and looks at the machine.
func (a *app) diagnose(ctx context.Context, limit time.Duration, stateDir, arraySocket string) (requester.Diagnosis, error) {
	h := a.host()
	defer h.Close()
	begin := time.Now()
	places := doctor.Places{Socket: a.socket, ArraySocket: arraySocket, State: stateDir}
	var d requester.Diagnosis
	err := errStopped // one that is stopped need not be waited for
	if !doctor.Outside(places).Daemon().Process.Stopped() {
		// What it is given is what it looks; its answer takes a moment more.
		actx, cancel := context.WithTimeout(ctx, limit+limit/5)
		d, err = h.Doctor(actx, limit)
		cancel()
	}
	switch {
	case vss.CodeOf(err) == vss.E_ACCESSDENIED:
		return d, err
	case ctx.Err() != nil:
		return d, err
	case err == nil:
		places.State = d.StateDir
	default:
		if os.Geteuid() != 0 { // who cannot see must not say that there is nothing
			return d, errors.Join(err, &vss.Error{Code: vss.E_ACCESSDENIED, Op: "doctor", Object: "this machine", Reason: "without the service, processes and the catalogue have to be looked at, which needs root", Remedy: "Run it as root"})
		}
		places.Silent = time.Since(begin)
		d.StateDir, d.RunDir, d.Findings, d.Operations = stateDir, "", []requester.Finding{}, []requester.Running{}
	}
	places.Holds = daemon.HoldDir(places.State)
	mctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	machine := doctor.Outside(places)
	var found, recorded []doctor.Finding
	var wg sync.WaitGroup
	wg.Go(func() { found = doctor.ExamineMachine(mctx, machine) })
	if err != nil {
		wg.Go(func() { recorded = fromCopy(mctx, filepath.Join(stateDir, "catalog.db"), machine.Daemon().PID != 0) })
	}
	wg.Wait()
	found = append(found, recorded...)
	doctor.Sort(found)
	var all []requester.Finding
	for _, f := range found {
		all = append(all, requester.Finding{Name: f.Name, Severity: string(f.Severity), Object: f.Object, Who: f.Who, Since: f.Since, Deadline: f.Deadline, What: f.What, Why: f.Why, Help: f.Help})
	}
	d.Findings = append(all, d.Findings...)
	if d.Findings == nil {
		d.Findings = []requester.Finding{}
	}
	return d, nil
}

// fromCopy runs the checks of what is on record, on a copy of the catalogue: its
// daemon does not answer.
func fromCopy(ctx context.Context, path string, lives bool) []doctor.Finding {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	c, done, err := catalog.OpenCopy(path)
	if err != nil {
		return doctor.ExamineRecords(ctx, service.Records(func(func(*catalog.Tx) error) error { return err }, lives))
	}
	defer done()
	return doctor.ExamineRecords(ctx, service.Records(c.View, lives))
}

func printDiagnosis(w io.Writer, d requester.Diagnosis, now time.Time) {
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(w, "  %s\t%s\n", k, v)
		}
	}
	for _, o := range d.Operations {
		fmt.Fprintf(w, "%s is under way: phase %s, since %s.\n", o.Op, orElse(o.Phase, "start"), doctor.Since(o.Since, now))
	}
	if len(d.Findings) == 0 {
		fmt.Fprintln(w, "Nothing is stuck, lost or left.")
		return
	}
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%s: %s: %s\n", f.Severity, f.Name, f.Object)
		line("what", f.What)
		line("who", f.Who)
		line("since", doctor.Since(f.Since, now))
		if !f.Deadline.IsZero() {
			line("given up", f.Deadline.Local().Format("15:04:05"))
		}
		line("why", f.Why)
		line("help", f.Help)
	}
}
