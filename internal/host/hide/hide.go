package hide

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Failpoints: one rule of several is there, or gone.
var (
	fpAfterRule    = failpoint.New("host.hide.after-rule")
	fpAfterRemoval = failpoint.New("host.hide.after-removal")
)

// DefaultDir is udev's folder for rules that last until the machine boots.
const DefaultDir = "/run/udev/rules.d"

// Rules are the hiding rules in one folder. Methods are idempotent and safe
// for concurrent use, by several processes as well: each LUN has its own file,
// which is replaced in one step.
type Rules struct {
	Dir string // DefaultDir if ""

	// Reload makes a running udev read its rules. Nil means udevadm control
	// --reload where udev runs, and nothing where it does not.
	Reload func(ctx context.Context) error

	// LVM is the folder of LVM's configuration, which is made to overlook what is
	// hidden; "" where the rules are not those of the running udev.
	LVM string

	// Vendor is where packages have their rules, VendorDir, so that their programs
	// are not started for hidden disks; "" where the rules are not those of the
	// running udev.
	Vendor string
}

const hideOp = "hide LUNs"

// Hide makes LUNs invisible before they arrive, admitted or not. It returns
// when udev has taken the rules, so that LocateLUNs may be called.
//
// Errors: E_INVALIDARG for a LUN without a qualifying identifier, nothing
// having been written then; VSS_E_UNEXPECTED if the rules cannot be written or
// udev does not take them, or LVM would see the LUNs all the same.
func (r Rules) Hide(ctx context.Context, luns []lun.Info) error {
	if err := r.filterLVM(ctx); err != nil {
		return err
	}
	return r.put(ctx, luns, fileName, render)
}

// Unhide removes the rules of LUNs that are not here any more, whether or not
// there are any. udev is not told, which would be a program's start for each LUN
// and all rules read anew: it notices by itself after some seconds, and rules for
// what does not come hide nothing.
func (r Rules) Unhide(ctx context.Context, luns []lun.Info) error { return r.drop(ctx, luns, fileName) }

// Admit excepts originals from what [Rules.HideFamily] hides. Errors are those
// of Hide.
func (r Rules) Admit(ctx context.Context, luns []lun.Info) error {
	return r.put(ctx, luns, admittedFile, renderAdmitted)
}

// Dismiss takes Admit back.
func (r Rules) Dismiss(ctx context.Context, luns []lun.Info) error {
	if err := ctx.Err(); err != nil || len(luns) == 0 {
		return err
	}
	return errors.Join(r.drop(ctx, luns, admittedFile), r.reload(ctx))
}

// HideFamily makes the LUNs of an array invisible that were not admitted. An
// original that this machine uses has to be admitted before: once hidden, its
// next event would end its mounts.
//
// Errors: E_INVALIDARG for what is no Family; VSS_E_UNEXPECTED as of Hide.
func (r Rules) HideFamily(ctx context.Context, f Family) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !f.valid() {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: hideOp, Object: string(f), Reason: "an array's LUNs cannot be told from others by these digits",
			Remedy: "Join the array again with a new bundle"}
	}
	return r.write(ctx, map[string]string{familyFile(f): renderFamily(f)})
}

// HideMapped makes device-mapper devices invisible whose UUID begins with
// MappedPrefix. Its rules stay: they concern nobody else's.
func (r Rules) HideMapped(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if have, err := os.ReadFile(filepath.Join(r.dir(), mappedFile)); err == nil && string(have) == renderMapped() {
		return nil
	}
	return r.write(ctx, map[string]string{mappedFile: renderMapped()})
}

func (r Rules) put(ctx context.Context, luns []lun.Info, name func(lun.Info) string, render func(lun.Info) (string, error)) error {
	if err := ctx.Err(); err != nil || len(luns) == 0 {
		return err
	}
	rules := make(map[string]string, len(luns))
	for _, l := range luns {
		text, err := render(l)
		if err != nil {
			return err
		}
		rules[name(l)] = text
	}
	return r.write(ctx, rules)
}

func (r Rules) write(ctx context.Context, rules map[string]string) error {
	if err := os.MkdirAll(r.dir(), 0o755); err != nil {
		return unwritable(r.dir(), err)
	}
	rules[multipathFile] = renderMultipath()
	rules[nbdFile] = renderNBD()
	r.spare(rules)
	for name, text := range rules {
		if have, err := os.ReadFile(filepath.Join(r.dir(), name)); err == nil && string(have) == text {
			continue
		}
		if err := replace(filepath.Join(r.dir(), name), text); err != nil {
			return unwritable(filepath.Join(r.dir(), name), err)
		}
		if err := fpAfterRule.Hit(ctx); err != nil {
			return unwritable(filepath.Join(r.dir(), name), err)
		}
	}
	return r.reload(ctx)
}

func (r Rules) drop(ctx context.Context, luns []lun.Info, name func(lun.Info) string) error {
	if err := ctx.Err(); err != nil || len(luns) == 0 {
		return err
	}
	var errs []error
	for _, l := range luns {
		path := filepath.Join(r.dir(), name(l))
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, unwritable(path, err))
		}
		if err := fpAfterRemoval.Hit(ctx); err != nil {
			errs = append(errs, unwritable(path, err))
		}
	}
	return errors.Join(errs...)
}

func (r Rules) dir() string {
	if r.Dir == "" {
		return DefaultDir
	}
	return r.Dir
}

// replace writes a file in one step: udev reads its folder when it likes. The
// temporary name does not end in .rules, so that udev leaves it alone.
func replace(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".umbra-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// reloadTime is long for a message to udev; its own client waits a minute.
const reloadTime = 20 * time.Second

func (r Rules) reload(ctx context.Context) error {
	if r.Reload != nil {
		return r.Reload(ctx)
	}
	if _, err := os.Stat("/run/udev/control"); err != nil {
		return nil // no udev runs: nobody acts on disks
	}
	return reload(ctx, func() ([]byte, error) {
		out, said, err := underway.Run(ctx, reloadTime, nil, "udevadm", "control", "--reload")
		if errors.As(err, new(underway.Late)) {
			said = err.Error()
		}
		return []byte(out + said), err
	})
}

// reload asks udev up to three times. It answers one at a time, and asks who is
// asking: what comes between its accepting a call and that is without credentials,
// and it hangs up ("Broken pipe"). One that does not answer at all is not asked
// again.
func reload(ctx context.Context, udevadm func() ([]byte, error)) error {
	var out []byte
	var err error
	for range 3 {
		if out, err = udevadm(); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.As(err, new(underway.Late)) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: hideOp, Object: "udevadm control --reload",
		Reason: fmt.Sprintf("udev did not take the rules: %s", strings.TrimSpace(string(out))),
		Remedy: "Start systemd-udevd, or stop it and remove /run/udev/control if it is not meant to run", Err: err}
}

func unwritable(path string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: hideOp, Object: path,
		Reason: "the rules file cannot be written", Remedy: "Make the folder writable for the service", Err: err}
}
