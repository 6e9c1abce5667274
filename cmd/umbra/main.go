// Command umbra makes, transports, imports and manages shadow copies. It is
// every role in one binary: the requester's commands, the service (umbra
// daemon), the reference array (umbra array serve).
//
// The commands are thin: they parse, call package requester (or the array's
// admin API) and print. Exit codes: 0 done, 1 failed, 2 usage, 3 partial
// import.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/vss"
)

// version is set by the build.
var version = "0.1.0-dev"

// Exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3
)

// usageError marks errors of the command line itself.
type usageError struct{ error }

// errPartial ends a command whose work was done in part; all is printed already.
var errPartial = errors.New("partial")

// errReported ends a command whose failure is printed already.
var errReported = errors.New("reported")

func main() {
	if err := failpoint.ArmFromEnv(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	a := &app{out: os.Stdout, err: os.Stderr}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var ue usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &ue), strings.HasPrefix(err.Error(), "required flag(s) "): // cobra has no type for it
		fmt.Fprintf(a.err, "umbra: %v\nSee umbra --help.\n", err)
		return exitUsage
	}
	a.printError(err)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "umbra",
		Short: "Transportable shadow copies for Linux",
		Long: `Umbra makes shadow copies of whole LUNs on one machine, all volumes at one
instant, and imports them on another, with no data copied.

On machine A:   umbra create /srv/db /srv/log --transportable --context app-rollback --document set.umbra
On machine B:   umbra import set.umbra
                umbra expose COPY /mnt/db`,
		SilenceErrors: true, SilenceUsage: true, Version: version,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return usageError{fmt.Errorf("--output %q: use table or json", a.output)}
			}
			return nil
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.PersistentFlags().StringVar(&a.socket, "socket", "/run/umbra/umbra.sock", "socket of this machine's service (env UMBRA_SOCKET)")
	c.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "output format: table or json")
	if s := os.Getenv("UMBRA_SOCKET"); s != "" {
		a.socket = s
	}
	c.AddGroup(&cobra.Group{ID: "copies", Title: "Shadow copies:"}, &cobra.Group{ID: "machine", Title: "This machine:"}, &cobra.Group{ID: "services", Title: "Services:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, x := range cmds {
			x.GroupID = group
			c.AddCommand(x)
		}
	}
	add("copies", a.createCmd(), a.importCmd(), a.exposeCmd(), a.unexposeCmd(), a.listCmd(), a.showCmd(), a.deleteCmd(), a.cleanupCmd(), a.saveCmd())
	add("machine", a.joinCmd(), a.rescanCmd(), a.detachCmd(), a.providerCmd(), a.statusCmd(), a.doctorCmd())
	add("services", a.daemonCmd(), a.arrayCmd(), a.thawIntentsCmd(), a.demoCmd())
	refuseUnknown(c)
	return c
}

// refuseUnknown makes a group of commands refuse a word that is none of them,
// and a missing word, with the usage code: a script must not take a help text
// for success.
func refuseUnknown(c *cobra.Command) {
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
	if !c.HasSubCommands() || c.Runnable() {
		return
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, as []string) error {
		switch {
		case len(as) > 0:
			return usageError{fmt.Errorf("%s: unknown command %q", c.CommandPath(), as[0])}
		case c.HasParent():
			return usageError{fmt.Errorf("%s: name a command of it", c.CommandPath())}
		}
		return c.Help()
	}
}

// args wraps cobra's argument checks so that they end with the usage code.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return usageError{fmt.Errorf("%s: %w", c.CommandPath(), err)}
		}
		return nil
	}
}

// parseID reads an ID from the command line.
func parseID(s string) (vss.ID, error) {
	id, err := vss.ParseID(s)
	if err != nil {
		return id, usageError{err}
	}
	return id, nil
}
