package main

import (
	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/demo"
)

func (a *app) demoCmd() *cobra.Command {
	var verbose bool
	c := &cobra.Command{Use: "demo", Short: "The whole story on one machine, with real devices",
		Long: `Tell the whole story on this machine: an array, machines A and B in namespaces of
their own, a set made on A under load, imported on B from the document alone,
verified, deleted. Needs root, loop devices, mkfs.ext4 and mkfs.xfs; removes
everything it made, also on Ctrl-C.`,
		Example: "  umbra demo\n  umbra demo --verbose", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Options{Out: a.out, Verbose: verbose})
		}}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "also print the services' logs")
	return c
}
