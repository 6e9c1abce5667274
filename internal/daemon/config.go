package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/umbra-vss/umbra/internal/host/share"
	"github.com/umbra-vss/umbra/internal/journal"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/access"
	"github.com/umbra-vss/umbra/vss"
)

// DefaultConfigFile is read when it exists and no other is named.
const DefaultConfigFile = "/etc/umbra/umbra.toml"

// Config is the daemon's configuration. Flags override the file.
type Config struct {
	StateDir       string        `toml:"state_dir"`       // catalogue, hold intents, joined arrays
	RunDir         string        `toml:"run_dir"`         // device objects of imported copies
	Socket         string        `toml:"socket"`          // where requesters call
	HostName       string        `toml:"host_name"`       // who this machine is to arrays and in documents
	UdevRulesDir   string        `toml:"udev_rules_dir"`  // runtime rules that hide copies
	ArrivalTimeout time.Duration `toml:"arrival_timeout"` // how long an import waits for its disks
	HoldLimit      time.Duration `toml:"hold_limit"`      // the guard's automatic thaw, at most 10s
	FlushTimeout   time.Duration `toml:"flush_timeout"`   // syncfs before the hold
	Role           string        `toml:"role"`            // RoleServer or RoleClient
	Transport      string        `toml:"transport"`       // how LUNs are reached: "" for what will do, TransportLoop, or an export.Kind
	Journal        string        `toml:"journal"`         // where systemd's journal listens; "" for no mirror of events
	Access         access.Config `toml:"access"`          // who may call
	Limits         Limits        `toml:"limits"`
	Share          share.Config  `toml:"share"` // how copies are exposed remotely
}

// Roles of a machine. A client does everything but import, as client editions
// of Windows do.
const (
	RoleServer = "server"
	RoleClient = "client"
)

// Limits are the service's quotas.
type Limits struct {
	Sessions   int `toml:"sessions"`   // BackupComponents objects at once
	Operations int `toml:"operations"` // asynchronous operations that were not released
}

// Default is the configuration of a production machine.
func Default() Config {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return Config{StateDir: "/var/lib/umbra", RunDir: "/run/umbra", HostName: host,
		UdevRulesDir: "/run/udev/rules.d", ArrivalTimeout: 10 * time.Minute, HoldLimit: 10 * time.Second, FlushTimeout: 2 * time.Minute,
		Role: RoleServer, Journal: journal.Socket, Limits: Limits{Sessions: service.MaxSessions, Operations: service.MaxOperations},
		Access: access.Config{OperatorsGroup: access.DefaultOperatorsGroup}, Share: share.DefaultConfig()}
}

// Load reads a TOML file over the defaults. A file that is not named and not
// there is fine; an unknown key is E_INVALIDARG.
func Load(file string) (Config, error) {
	c := Default()
	named := file != ""
	if !named {
		file = DefaultConfigFile
	}
	f, err := os.Open(file)
	if err != nil {
		if !named && errors.Is(err, fs.ErrNotExist) {
			return c, nil
		}
		return c, &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: file, Reason: "the file cannot be read", Remedy: "Check --config", Err: err}
	}
	defer f.Close()
	// Durations are written as "10m", which TOML has no type for.
	raw := struct {
		StateDir       *string        `toml:"state_dir"`
		RunDir         *string        `toml:"run_dir"`
		Socket         *string        `toml:"socket"`
		HostName       *string        `toml:"host_name"`
		UdevRulesDir   *string        `toml:"udev_rules_dir"`
		ArrivalTimeout *duration      `toml:"arrival_timeout"`
		HoldLimit      *duration      `toml:"hold_limit"`
		FlushTimeout   *duration      `toml:"flush_timeout"`
		Role           *string        `toml:"role"`
		Transport      *string        `toml:"transport"`
		Journal        *string        `toml:"journal"`
		Access         *access.Config `toml:"access"`
		Limits         *Limits        `toml:"limits"`
		Share          *share.Config  `toml:"share"`
	}{&c.StateDir, &c.RunDir, &c.Socket, &c.HostName, &c.UdevRulesDir, (*duration)(&c.ArrivalTimeout), (*duration)(&c.HoldLimit), (*duration)(&c.FlushTimeout), &c.Role, &c.Transport, &c.Journal, &c.Access, &c.Limits, &c.Share}
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&raw); err != nil {
		reason := err.Error()
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			reason = strict.String()
		}
		return c, &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: file, Reason: reason, Remedy: "See docs/operations.md for the keys"}
	}
	return c, nil
}

type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

// check completes and verifies the configuration.
func (c *Config) check() error {
	bad := func(key, reason, remedy string) error {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "start daemon", Object: key, Reason: reason, Remedy: remedy}
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(c.RunDir, "umbra.sock")
	}
	for _, p := range []*string{&c.StateDir, &c.RunDir, &c.Socket, &c.UdevRulesDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return bad(*p, err.Error(), "Give an absolute path")
		}
		*p = abs
	}
	switch {
	case len(c.Socket) > 107:
		return bad("socket "+c.Socket, "a unix socket's path has at most 107 characters", "Choose a shorter --socket")
	case c.Journal != "" && (!filepath.IsAbs(c.Journal) || len(c.Journal) > 107):
		return bad("journal "+c.Journal, "it is not the absolute path of a unix socket, of at most 107 characters", "Leave the key out, or write \"\" for no journal")
	case c.HostName == "":
		return bad("host_name", "it is empty", "Give --host-name")
	case c.HoldLimit <= 0 || c.HoldLimit > 10*time.Second:
		return bad("hold_limit", "it must be more than 0 and at most 10s", "The hold window of the model is 10 s")
	case c.Role != RoleServer && c.Role != RoleClient:
		return bad("role "+c.Role, "there is no such role", `Give "server" or "client"`)
	case c.Transport != "" && c.Transport != TransportLoop && !slices.ContainsFunc(ways, func(w way) bool { return string(w.kind) == c.Transport }):
		return bad("transport "+c.Transport, "there is no such transport", `Give "loop", "iscsi", "nvme" or "nbd", or leave it out`)
	case c.Limits.Sessions <= 0 || c.Limits.Operations <= 0:
		return bad("limits", "they must be more than 0", "Leave them out for the defaults")
	case c.ArrivalTimeout <= 0 || c.FlushTimeout <= 0:
		return bad("arrival_timeout, flush_timeout", "they must be more than 0", "Give a duration such as 10m")
	}
	return nil
}
