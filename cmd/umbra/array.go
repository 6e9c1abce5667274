package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-vss/umbra/internal/array"
	"github.com/umbra-vss/umbra/internal/array/backend/lvmthin"
	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/vss"
)

// arrayAdmin is the socket of the array the admin commands talk to.
type arrayAdmin struct {
	*app
	admin string
}

// defaultArraySocket is where the unit has it.
const defaultArraySocket = "/run/umbra/array.sock"

func (a *app) arrayCmd() *cobra.Command {
	x := &arrayAdmin{app: a}
	c := &cobra.Command{Use: "array", Short: "The reference array: serve it, and administer it",
		Example: "  umbra array serve --dir /srv/array --listen tcp://0.0.0.0:7480\n  umbra array lun create db --size 10G\n  umbra array unmask db hosta\n  umbra array enroll hosta --bundle hosta.bundle"}
	c.PersistentFlags().StringVar(&x.admin, "array-socket", defaultArraySocket, "socket of the array's administration")
	lun := &cobra.Command{Use: "lun", Short: "Create, list and delete LUNs"}
	lun.AddCommand(x.lunCreate(), x.lunList(), x.lunDelete())
	host := &cobra.Command{Use: "host", Short: "List and remove hosts"}
	host.AddCommand(x.hostList(), x.hostRemove())
	c.AddCommand(x.serve(), lun, host, x.enroll(), x.mask("unmask"), x.mask("mask"), x.ticket(), x.sets(), x.info(), x.resume())
	return c
}

// do runs fn with an admin client.
func (x *arrayAdmin) do(fn func(*client.AdminClient) error) error {
	c := client.Admin(x.admin)
	defer c.Close()
	return fn(c)
}

func (x *arrayAdmin) serve() *cobra.Command {
	var cfg array.Config
	var storeSize string
	var stdin bool
	c := &cobra.Command{Use: "serve", Short: "Serve an array",
		Long: `Serve an array: LUNs are files on a reflink filesystem, snapshots are clones that
share their blocks. If --dir is on a filesystem without reflink (ext4), the
array makes an XFS image there and mounts it. With --backend lvmthin LUNs are thin
devices of a device-mapper thin pool, which the array makes in a volume group or
on two block devices; --dir then has the array's database only.

Hosts talk to --listen addresses over mutual TLS; a host on this machine gets
its LUNs as descriptors over --data-socket. Hosts of other machines get theirs
over iSCSI at --iscsi-portal or NVMe/TCP at --nvme-portal, from the kernel's own
targets (LIO, nvmet), or over NBD with TLS at --nbd-portal, from QEMU's storage
daemon. A host that could have several takes them in this order (key transport
of its configuration).`,
		Example: "  umbra array serve --dir /srv/array\n  umbra array serve --dir /srv/array --listen tcp://0.0.0.0:7480 --iscsi-portal 192.0.2.1:3260\n  umbra array serve --backend lvmthin --vg san",
		Args:    args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return &vss.Error{Code: vss.E_ACCESSDENIED, Op: "array serve", Object: cfg.Dir, Reason: "the array mounts its store and opens LUNs as root", Remedy: "Run it as root"}
			}
			if storeSize != "" {
				n, err := parseSize(storeSize)
				if err != nil {
					return err
				}
				cfg.StoreSize = int64(n)
			}
			cfg.AdminSocket, cfg.Logger = x.admin, logger()
			ctx := cmd.Context()
			if stdin {
				ctx = untilStdinEnds(ctx)
			}
			arr, err := array.Open(ctx, cfg)
			if err != nil {
				return err
			}
			defer arr.Close()
			fmt.Fprintln(x.err, "umbra: ready")
			return arr.Serve(ctx)
		}}
	f := c.Flags()
	f.StringVar(&cfg.Dir, "dir", "/var/lib/umbra-array", "the array's folder")
	f.StringVar(&cfg.Name, "name", "array", "the array's name, for people")
	f.StringVar(&cfg.DataSocket, "data-socket", "/run/umbra/array-data.sock", "socket that passes LUNs to hosts on this machine")
	f.StringSliceVar(&cfg.Listen, "listen", []string{"unix:///run/umbra/array-hosts.sock"}, "where hosts call: tcp://HOST:PORT or unix:///PATH (mutual TLS on both)")
	f.StringSliceVar(&cfg.Advertise, "advertise", nil, "addresses that join bundles name instead of --listen")
	f.StringSliceVar(&cfg.ISCSIPortals, "iscsi-portal", nil, "ADDRESS:PORT where hosts of other machines get their LUNs over iSCSI")
	f.StringSliceVar(&cfg.NBDPortals, "nbd-portal", nil, "ADDRESS:PORT where they get them over NBD; each host has a port of its own, from PORT upwards; once for each address")
	f.StringSliceVar(&cfg.NVMePortals, "nvme-portal", nil, "ADDRESS:PORT where hosts of other machines get their LUNs over NVMe/TCP")
	f.DurationVar(&cfg.CloneLimit, "clone-limit", 2*time.Second, "refuse sets whose cloning would hold writes longer (at most 8s)")
	f.Float64Var(&cfg.Watermark, "watermark", 0.05, "part of the store that is kept free")
	f.StringVar(&storeSize, "store-size", "", "size of a new XFS image, e.g. 500G (default 64G, at most 80% of what is free), or of a new thin pool (default all of --vg)")
	f.StringVar(&cfg.Backend, "backend", "file", "where LUNs are: file, or lvmthin (a thin pool; needs --vg, or --pool-data and --pool-metadata)")
	f.StringVar(&cfg.VG, "vg", "", "volume group in which the thin pool is made, on two logical volumes")
	f.StringVar(&cfg.PoolData, "pool-data", "", "block device for the thin pool's data, instead of --vg")
	f.StringVar(&cfg.PoolMetadata, "pool-metadata", "", "block device for the thin pool's metadata, instead of --vg")
	hiddenStdin(c, &stdin)
	return c
}

// hiddenStdin adds the flag by which a test site ends its services.
func hiddenStdin(c *cobra.Command, v *bool) {
	c.Flags().BoolVar(v, "exit-with-stdin", false, "end when standard input does")
	_ = c.Flags().MarkHidden("exit-with-stdin")
}

// untilStdinEnds returns a context that also ends with standard input.
func untilStdinEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

func parseSize(s string) (uint64, error) {
	n, unit := uint64(0), ""
	if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil && unit == "" && n == 0 {
		return 0, usageError{fmt.Errorf("size %q: give a number of bytes, or one with K, M, G or T", s)}
	}
	i := strings.Index(" KMGT", strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(unit), "IB"), "B"))
	if unit == "" {
		i = 0
	}
	if i < 0 || n == 0 || n > 1<<62>>(10*i) {
		return 0, usageError{fmt.Errorf("size %q: give a number of bytes, or one with K, M, G or T", s)}
	}
	return n << (10 * i), nil
}

func (x *arrayAdmin) lunCreate() *cobra.Command {
	var size string
	c := &cobra.Command{Use: "create [NAME]", Short: "Create a thin LUN", Example: "  umbra array lun create db --size 10G", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, as []string) error {
			n, err := parseSize(size)
			if err != nil {
				return err
			}
			name := ""
			if len(as) > 0 {
				name = as[0]
			}
			return x.do(func(c *client.AdminClient) error {
				l, err := c.CreateLUN(cmd.Context(), name, n)
				if err != nil {
					return err
				}
				return x.emit(l, func(w io.Writer) { fmt.Fprintln(w, l.NAA) })
			})
		}}
	c.Flags().StringVar(&size, "size", "", "size, e.g. 10G (required)")
	_ = c.MarkFlagRequired("size")
	return c
}

func (x *arrayAdmin) lunList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all LUNs", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return x.do(func(c *client.AdminClient) error {
			ls, err := c.ListLUNs(cmd.Context())
			if err != nil {
				return err
			}
			return x.emit(ls, func(w io.Writer) {
				fmt.Fprintln(w, "LUN\tNAME\tSIZE\tKIND\tUNMASKED TO\tATTACHED BY\tSET")
				for _, l := range ls {
					kind, set := "original", "-"
					if l.Copy {
						kind = "copy"
					}
					if l.SetID != nil {
						set = l.SetID.String()
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.NAA, orElse(l.Name, "-"), bytesText(l.Size), kind,
						orElse(strings.Join(l.Masks, ","), "-"), orElse(strings.Join(l.AttachedBy, ","), "-"), set)
				}
			})
		})
	}}
}

func (x *arrayAdmin) lunDelete() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "delete LUN", Short: "Delete a LUN by identifier or name", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
		return x.do(func(c *client.AdminClient) error {
			if err := c.DeleteLUN(cmd.Context(), as[0], force); err != nil {
				return err
			}
			return x.emit(map[string]string{"deleted": as[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is deleted.\n", as[0]) })
		})
	}}
	c.Flags().BoolVar(&force, "force", false, "also when a host has it attached")
	return c
}

func (x *arrayAdmin) mask(verb string) *cobra.Command {
	var force bool
	short := "Let a host see a LUN"
	if verb == "mask" {
		short = "Hide a LUN from a host"
	}
	c := &cobra.Command{Use: verb + " LUN HOST", Short: short, Example: "  umbra array " + verb + " db hosta", Args: args(cobra.ExactArgs(2)), RunE: func(cmd *cobra.Command, as []string) error {
		return x.do(func(c *client.AdminClient) error {
			var l client.LUN
			var err error
			if verb == "mask" {
				l, err = c.Mask(cmd.Context(), as[0], as[1], force)
			} else {
				l, err = c.Unmask(cmd.Context(), as[0], as[1])
			}
			if err != nil {
				return err
			}
			return x.emit(l, func(w io.Writer) {
				fmt.Fprintf(w, "%s is unmasked to: %s\n", l.NAA, orElse(strings.Join(l.Masks, ", "), "nobody"))
			})
		})
	}}
	if verb == "mask" {
		c.Flags().BoolVar(&force, "force", false, "also when the host has it attached")
	}
	return c
}

func (x *arrayAdmin) enroll() *cobra.Command {
	var file, cluster string
	c := &cobra.Command{Use: "enroll HOST", Short: "Make a host's join bundle",
		Long: `Make the bundle with which HOST joins this array: its certificate and key, the
array's addresses and keys, and if the array has iSCSI or NVMe portals the
host's name and secrets for them. Enrolling a host again revokes its old certificate.`,
		Example: "  umbra array enroll hostb --bundle hostb.bundle", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			if file == "" {
				file = as[0] + ".bundle"
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return &vss.Error{Code: vss.E_INVALIDARG, Op: "enroll", Object: file, Reason: "the bundle's file cannot be made", Remedy: "Choose a name that is not there yet with --bundle", Err: err}
			}
			err = x.do(func(c *client.AdminClient) error {
				b, err := c.EnrollHost(cmd.Context(), as[0], cluster)
				if err != nil {
					return err
				}
				_, err = f.Write(b)
				return err
			})
			if err = errors.Join(err, f.Close()); err != nil {
				os.Remove(file)
				return err
			}
			return x.emit(map[string]string{"host": as[0], "bundle": file}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is enrolled. Bring %s to it, secretly, and run there: umbra join %s\n", as[0], file, file)
			})
		}}
	c.Flags().StringVar(&file, "bundle", "", "file for the bundle (default HOST.bundle)")
	c.Flags().StringVar(&cluster, "cluster", "", "cluster the host is a member of")
	return c
}

func (x *arrayAdmin) hostList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List enrolled hosts", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return x.do(func(c *client.AdminClient) error {
			hs, err := c.ListHosts(cmd.Context())
			if err != nil {
				return err
			}
			return x.emit(hs, func(w io.Writer) {
				fmt.Fprintln(w, "HOST\tCLUSTER\tENROLLED\tEXPIRES")
				for _, h := range hs {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, orElse(h.Cluster, "-"), h.Enrolled.Local().Format(time.DateTime), h.Expires.Local().Format(time.DateTime))
				}
			})
		})
	}}
}

func (x *arrayAdmin) hostRemove() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "remove HOST", Short: "Revoke a host, end its iSCSI and NVMe sessions, mask every LUN from it", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
		return x.do(func(c *client.AdminClient) error {
			if err := c.RemoveHost(cmd.Context(), as[0], force); err != nil {
				return err
			}
			return x.emit(map[string]string{"removed": as[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is removed.\n", as[0]) })
		})
	}}
	c.Flags().BoolVar(&force, "force", false, "also when it has LUNs attached")
	return c
}

func (x *arrayAdmin) ticket() *cobra.Command {
	var file, host string
	var life time.Duration
	c := &cobra.Command{Use: "ticket SET", Short: "Sign a set's transport ticket again",
		Long:    "Sign the transport ticket of a committed set again, for a document whose ticket\nexpired or was made for another host. The ticket's text is written to --file.",
		Example: "  umbra array ticket 77aa... --host hostb --life 24h --file set.ticket", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			id, err := parseID(as[0])
			if err != nil {
				return err
			}
			return x.do(func(c *client.AdminClient) error {
				t, err := c.IssueTicket(cmd.Context(), id, host, life)
				if err != nil {
					return err
				}
				if file == "" {
					return x.emit(map[string][]byte{"ticket": t}, func(w io.Writer) { fmt.Fprintf(w, "%s\n", t) })
				}
				return os.WriteFile(file, t, 0o600)
			})
		}}
	c.Flags().StringVar(&file, "file", "", "file to write the ticket to")
	c.Flags().StringVar(&host, "host", "", "the one host that may import")
	c.Flags().DurationVar(&life, "life", 0, "how long the ticket is good (default: as long as the set)")
	return c
}

func (x *arrayAdmin) sets() *cobra.Command {
	return &cobra.Command{Use: "sets", Short: "List shadow copy sets on the array", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return x.do(func(c *client.AdminClient) error {
			ss, err := c.ListSets(cmd.Context())
			if err != nil {
				return err
			}
			return x.emit(ss, func(w io.Writer) {
				fmt.Fprintln(w, "SET\tMADE BY\tSTATE")
				for _, s := range ss {
					fmt.Fprintf(w, "%s\t%s\t%s\n", s.SetID, s.Host, s.State)
				}
			})
		})
	}}
}

// resume is what the unit runs when the array has ended: no LUN may stay
// suspended because its array was killed while it copied.
func (x *arrayAdmin) resume() *cobra.Command {
	return &cobra.Command{Use: "resume-luns", Short: "Let LUNs of thin pools go on that an array which died left suspended", Args: args(cobra.NoArgs),
		Long: `Let LUNs of thin pools go on that were suspended for a copy when their array was
killed. An array does so itself when it starts; this is for when it does not.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := lvmthin.Resume(cmd.Context())
			if e := (*vss.Error)(nil); errors.As(err, &e) && e.Code == vss.VSS_E_NOT_SUPPORTED {
				names, err = nil, nil // without device-mapper nothing is suspended
			}
			if err != nil {
				return err
			}
			return x.emit(map[string][]string{"resumed": names}, func(w io.Writer) {
				for _, n := range names {
					fmt.Fprintf(w, "%s goes on.\n", n)
				}
			})
		}}
}

func (x *arrayAdmin) info() *cobra.Command {
	return &cobra.Command{Use: "info", Short: "How the array is", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return x.do(func(c *client.AdminClient) error {
			i, err := c.Info(cmd.Context())
			if err != nil {
				return err
			}
			return x.emit(i, func(w io.Writer) {
				fmt.Fprintf(w, "Array:\t%s (%s)\nStore:\t%s\nSpace:\t%s free of %s\nClone limit:\t%s\nClone rate:\t%s per extent\nLUNs:\t%d\nCopies:\t%d\nSets:\t%d\nHosts:\t%d\n",
					i.Name, i.ArrayID, i.Store, bytesText(i.FreeBytes), bytesText(i.TotalBytes), i.CloneLimit, i.ClonePerExtent, i.LUNs, i.Copies, i.Sets, i.Hosts)
				for _, s := range i.Served {
					fmt.Fprintf(w, "%s portals:\t%s\n", s.Transport.Label(), strings.Join(s.Portals, ", "))
				}
				if i.MetadataTotal > 0 {
					fmt.Fprintf(w, "Metadata:\t%s free of %s\n", bytesText(i.MetadataFree), bytesText(i.MetadataTotal))
				}
				for _, s := range slices.Concat(i.Warnings, i.Strays, i.Lost, i.Differences) {
					fmt.Fprintf(w, "Attention:\t%s\n", s)
				}
			})
		})
	}}
}
