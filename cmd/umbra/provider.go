package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

func (a *app) providerCmd() *cobra.Command {
	c := &cobra.Command{Use: "provider", Short: "Providers that are programs of their own",
		Long: `Providers make and own shadow copies. One is part of Umbra, for its arrays; others
are programs of their own, which the service starts when it needs them and ends
when they have been idle. docs/provider-guide.md tells how one is written.`,
		Example: "  umbra provider validate --manifest acme.toml\n  umbra provider register acme.toml\n  umbra provider list"}
	c.AddCommand(a.providerRegister(), a.providerUnregister(), a.providerList(), a.providerValidate())
	return c
}

func readManifest(op, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", &vss.Error{Code: vss.E_INVALIDARG, Op: op, Object: path, Reason: "the manifest cannot be read", Remedy: "Give the provider's TOML file", Err: err}
	}
	return string(b), nil
}

func (a *app) providerRegister() *cobra.Command {
	var replace bool
	c := &cobra.Command{Use: "register MANIFEST", Short: "Register a provider",
		Long: `Register the provider that MANIFEST, a TOML file, describes. Its program is started
once, to see that it is who the manifest says. The service keeps the manifest's
text: register again with --replace after a change of it, as for a new version.`,
		Example: "  umbra provider register /etc/acme/umbra.toml\n  umbra provider register --replace /etc/acme/umbra.toml", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, as []string) error {
			m, err := readManifest("RegisterProvider", as[0])
			if err != nil {
				return err
			}
			h := a.host()
			defer h.Close()
			p, err := h.RegisterProvider(cmd.Context(), m, replace)
			if err != nil {
				return err
			}
			return a.emit(p, func(w io.Writer) {
				fmt.Fprintf(w, "Registered %s, version %s (%s).\n", p.Name, p.Version, p.ProviderID)
			})
		}}
	c.Flags().BoolVar(&replace, "replace", false, "take the place of a registered provider of the same ID")
	return c
}

func (a *app) providerUnregister() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "unregister PROVIDER", Short: "Forget a provider",
		Long:    "Forget the provider with this ID, and end its program. Refused while it makes a\nset, and without --force while copies of it are on this machine: nobody could\ndelete them then but its own tools.",
		Example: "  umbra provider unregister {3f0c5f0e-...}", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			id, err := parseID(as[0])
			if err != nil {
				return err
			}
			h := a.host()
			defer h.Close()
			if err := h.UnregisterProvider(cmd.Context(), id, force); err != nil {
				return err
			}
			return a.emit(map[string]vss.ID{"provider_id": id}, func(w io.Writer) { fmt.Fprintf(w, "%s is unregistered.\n", id) })
		}}
	c.Flags().BoolVar(&force, "force", false, "although copies of it are on this machine")
	return c
}

func (a *app) providerList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the providers and their programs", Example: "  umbra provider list\n  umbra provider list --output json", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := a.host()
			defer h.Close()
			ps, err := h.Providers(cmd.Context())
			if err != nil {
				return err
			}
			return a.emit(ps, func(w io.Writer) {
				fmt.Fprintln(w, "PROVIDER\tNAME\tTYPE\tVERSION\tSTATE\tPID\tPROGRAM")
				for _, p := range ps {
					state, pid := "not loaded", "-"
					switch {
					case p.BuiltIn:
						state = "built in"
					case p.Loaded:
						state = "loaded"
					}
					if p.PID != 0 {
						pid = strconv.Itoa(p.PID)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ProviderID, p.Name, p.Type, p.Version, state, pid, orElse(p.Program, "-"))
				}
			})
		}}
}

func (a *app) providerValidate() *cobra.Command {
	var v requester.Validation
	var manifest string
	c := &cobra.Command{Use: "validate [PROVIDER]", Short: "Hold a provider to the contract",
		Long: `Run the conformance suite on a provider, registered or not, and say in plain words
what it does wrong. The suite makes sets of the LUNs named, or of two that the
provider supports, and removes what it made. No other set can be made meanwhile.

With --scratch the content of these LUNs is overwritten: more cases can be run
then, such as whether a copy stays what it was.

Exit code 0: no case failed. 1: one did, or the suite could not be run.`,
		Example: "  umbra provider validate {3f0c5f0e-...}\n  umbra provider validate --manifest acme.toml --lun naa.6001405... --scratch\n  umbra provider validate {3f0c5f0e-...} --case order/commit-when-preparing --output json",
		Args:    args(cobra.MaximumNArgs(1))}
	c.Flags().StringVar(&manifest, "manifest", "", "validate the provider of this file, which is not registered")
	c.Flags().StringArrayVar(&v.LUNs, "lun", nil, "copy this LUN or device (repeatable)")
	c.Flags().BoolVar(&v.Scratch, "scratch", false, "the content of the LUNs may be overwritten")
	c.Flags().StringArrayVar(&v.Cases, "case", nil, "run only this case (repeatable)")
	c.RunE = func(cmd *cobra.Command, as []string) (err error) {
		if (len(as) == 1) == (manifest != "") {
			return usageError{errors.New("umbra provider validate: name a registered provider, or give --manifest")}
		}
		if manifest != "" {
			v.Manifest, err = readManifest("ValidateProvider", manifest)
		} else {
			v.ID, err = parseID(as[0])
		}
		if err != nil {
			return err
		}
		h := a.host()
		defer h.Close()
		var all []requester.CaseResult
		count := map[string]int{}
		err = h.ValidateProvider(cmd.Context(), v, func(r requester.CaseResult) {
			all = append(all, r)
			count[r.Outcome]++
			if a.json() {
				return
			}
			fmt.Fprintf(a.out, "%-8s %s\n", r.Outcome, r.Name)
			if r.Outcome == "failed" {
				fmt.Fprintf(a.out, "         rule: %s\n         but:  %s\n", r.Rule, strings.ReplaceAll(r.Words, "\n", "\n               "))
			} else if r.Words != "" {
				fmt.Fprintf(a.out, "         %s\n", r.Words)
			}
		})
		if len(all) > 0 || err == nil {
			err = errors.Join(err, a.emit(all, func(w io.Writer) {
				fmt.Fprintf(w, "%d passed, %d failed, %d skipped.\n", count["passed"], count["failed"], count["skipped"])
				if count["failed"] == 0 {
					return
				}
				which := "--manifest " + manifest
				if manifest == "" {
					which = v.ID.String()
				}
				first := slices.IndexFunc(all, func(r requester.CaseResult) bool { return r.Outcome == "failed" })
				fmt.Fprintf(w, "Mend what broke the rules: docs/provider-guide.md tells what each call is for, the\nevents and the service's log what the provider said. Then try one case again:\n  umbra provider validate %s --case %s\n", which, all[first].Name)
			}))
		}
		if err == nil && count["failed"] > 0 {
			return errReported
		}
		return err
	}
	return c
}
