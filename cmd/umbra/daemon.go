package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/daemon"
	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/vss"
)

func (a *app) daemonCmd() *cobra.Command {
	var file, stateDir, runDir, hostName, rulesDir, transport string
	var arrival, hold time.Duration
	var stdin bool
	c := &cobra.Command{Use: "daemon", Short: "Run this machine's shadow copy service",
		Long: `Run the shadow copy service. One daemon serves a machine; several can share a
kernel if each has its own --state-dir, --run-dir, --socket and --host-name.

At start it first thaws filesystems a killed predecessor may have left frozen.`,
		Example: "  umbra daemon\n  umbra daemon --state-dir /tmp/a/state --run-dir /tmp/a/run --socket /tmp/a/umbra.sock --host-name hosta",
		Args:    args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := daemon.Load(file)
			if err != nil {
				return err
			}
			f := cmd.Flags()
			for name, p := range map[string]*string{"state-dir": &cfg.StateDir, "run-dir": &cfg.RunDir, "host-name": &cfg.HostName, "udev-rules-dir": &cfg.UdevRulesDir, "transport": &cfg.Transport} {
				if f.Changed(name) {
					*p = f.Lookup(name).Value.String()
				}
			}
			if f.Changed("arrival-timeout") {
				cfg.ArrivalTimeout = arrival
			}
			if f.Changed("hold-limit") {
				cfg.HoldLimit = hold
			}
			if f.Changed("socket") {
				cfg.Socket = a.socket
			}
			ctx := cmd.Context()
			if stdin {
				ctx = untilStdinEnds(ctx)
			}
			return daemon.Run(ctx, cfg, version, logger(), func() { fmt.Fprintln(a.err, "umbra: ready") })
		}}
	d := daemon.Default()
	c.Flags().StringVar(&file, "config", "", "configuration file (default "+daemon.DefaultConfigFile+" if it exists)")
	c.Flags().StringVar(&stateDir, "state-dir", d.StateDir, "folder for the catalogue, hold intents and joined arrays")
	c.Flags().StringVar(&runDir, "run-dir", d.RunDir, "folder for the device objects of imported copies")
	c.Flags().StringVar(&hostName, "host-name", d.HostName, "name of this machine to arrays and in documents")
	c.Flags().DurationVar(&arrival, "arrival-timeout", d.ArrivalTimeout, "how long an import waits for its disks")
	c.Flags().DurationVar(&hold, "hold-limit", d.HoldLimit, "automatic thaw after this long, at most 10s")
	hiddenStdin(c, &stdin)
	c.Flags().StringVar(&transport, "transport", d.Transport, "how LUNs are reached: loop, iscsi, nvme, nbd (default: what will do)")
	c.Flags().StringVar(&rulesDir, "udev-rules-dir", d.UdevRulesDir, "folder for the udev rules that hide copies")
	return c
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (a *app) thawIntentsCmd() *cobra.Command {
	var stateDir string
	c := &cobra.Command{Use: "thaw-intents", Short: "Thaw what a dead daemon may have left frozen",
		Long: `Thaw every filesystem named by a hold intent that a dead daemon left, and remove
the intents. The systemd unit runs it when the daemon stops; it is harmless at
any other time, but it must not be run while a daemon with the same state
folder holds a set. A freeze that an administrator made on the same volume in
that window is thawed too: the kernel does not say who owns a freeze.`,
		Example: "  umbra thaw-intents --state-dir /var/lib/umbra",
		Args:    args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 { // who cannot see the intents must not say that there are none
				return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "thaw intents", Object: stateDir, Reason: "reading intents and thawing need root", Remedy: "Run it as root"}
			}
			rs, err := freeze.RecoverIntents(cmd.Context(), daemon.HoldDir(stateDir), logger())
			type row struct {
				Set    string `json:"set"`
				Name   string `json:"name"`
				Action string `json:"action"`
			}
			rows := []row{}
			for _, r := range rs {
				rows = append(rows, row{r.SetID, r.Name, string(r.Action)})
			}
			return errors.Join(err, a.emit(rows, func(w io.Writer) {
				if len(rows) == 0 {
					fmt.Fprintln(w, "Nothing was held.")
				}
				for _, r := range rows {
					fmt.Fprintf(w, "%s\t%s\t%s\n", r.Set, r.Name, r.Action)
				}
			}))
		}}
	c.Flags().StringVar(&stateDir, "state-dir", daemon.Default().StateDir, "the daemon's state folder")
	return c
}
