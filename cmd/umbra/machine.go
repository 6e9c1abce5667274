package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/vss"
)

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{Use: "join BUNDLE", Short: "Join an array with the bundle its administrator made",
		Long: `Join an array: BUNDLE is the file that umbra array enroll HOST wrote. It holds
this machine's certificate and key, the array's addresses and the key that
signs transport tickets. Keep it secret, and remove it afterwards.`,
		Example: "  umbra join hostb.bundle", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			b, err := os.ReadFile(as[0])
			if err != nil {
				return &vss.Error{Code: vss.E_INVALIDARG, Op: "join", Object: as[0], Reason: "the bundle cannot be read", Remedy: "Give the file umbra array enroll wrote", Err: err}
			}
			h := a.host()
			defer h.Close()
			arr, err := h.Join(cmd.Context(), b)
			if err != nil {
				return err
			}
			return a.emit(arr, func(w io.Writer) { fmt.Fprintf(w, "Joined array %s (%s).\n", arr.Name, arr.ID) })
		}}
}

func (a *app) rescanCmd() *cobra.Command {
	var partitions bool
	c := &cobra.Command{Use: "rescan [LUN...]", Short: "Attach LUNs the arrays have unmasked to this machine",
		Long:    "Attach original LUNs that the joined arrays have unmasked to this machine: all of\nthem, or those named. Shadow copies come by umbra import only.\n\nLUNs of joined arrays are hidden from udev unless they were let through here.\numbra detach takes that back.\n\nWith --partitions, partitions for which the kernel has made no block devices get\nthem: the list names them. They stay until the LUN is detached, or the machine boots.",
		Example: "  umbra rescan\n  umbra rescan naa.6001405...\n  umbra rescan --partitions", RunE: func(cmd *cobra.Command, as []string) error {
			h := a.host()
			defer h.Close()
			rescan := h.Rescan
			if partitions {
				rescan = h.Reach
			}
			luns, err := rescan(cmd.Context(), as...)
			if len(luns) > 0 || err == nil {
				err = errors.Join(a.emit(luns, func(w io.Writer) { printLUNs(w, luns) }), err)
			}
			return err
		}}
	c.Flags().BoolVar(&partitions, "partitions", false, "make block devices of partitions for which the kernel has made none")
	return c
}

func (a *app) detachCmd() *cobra.Command {
	return &cobra.Command{Use: "detach LUN", Short: "Remove an original LUN's device from this machine", Example: "  umbra detach naa.6001405...",
		Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			h := a.host()
			defer h.Close()
			if err := h.DetachLUN(cmd.Context(), as[0]); err != nil {
				return err
			}
			return a.emit(map[string]string{"lun": as[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is detached.\n", as[0]) })
		}}
}
