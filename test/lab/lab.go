package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/umbra-vss/umbra/internal/site/sitetest"
	"github.com/umbra-vss/umbra/test/lab/image"
)

// Env must be 1 in the environment for machines to be started.
const Env = "UMBRA_LAB"

// EnvBoot may be 1 so that no machine goes on from a template's memory.
const EnvBoot = "UMBRA_LAB_BOOT"

// Machines are the names of a lab's machines, which are the names they know
// each other by (/etc/hosts). A name that begins with "array" is a storage
// array: a kernel that is a SCSI target, and an empty disk, /dev/vda. All
// others are hosts: initiators, with udev, LVM and open-iscsi running as
// Debian starts them.
type Machines []string

// T is what a lab wants of whom it serves: a test is one, and so is who tells a
// story with machines (package story). What must not go wrong ends the calling
// goroutine with Fatal.
type T interface {
	Helper()
	Log(args ...any)
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
	ArtifactDir() string
}

// Lab is machines on one network.
type Lab struct {
	t        T
	dir      string // sockets, disks, and what machines boot from
	logs     string
	image    image.Image
	hub      *hub
	machines map[string]*Machine
	order    []string
	ready    map[string]*template // what machines begin with, by role
}

// bootTime is for one machine to be ready, emulated, beside other work.
const bootTime = 90 * time.Second

// Start starts machines, waits until all of them are up, and ends them with the
// test. The test is skipped without UMBRA_LAB=1.
func Start(t T, names Machines) *Lab {
	t.Helper()
	return start(t, names, "")
}

// StartSystemd is Start for machines whose first process is Debian's systemd, with
// journald and udevd, and only what belongs to them beside it; iscsid starts when it
// is wanted. What they write to /etc and /var outlives their power, so what is
// enabled is started by PowerOn.
func StartSystemd(t T, names Machines) *Lab {
	t.Helper()
	return start(t, names, systemd)
}

// systemd is what is behind the role in such a machine's kind.
const systemd = "+systemd"

func start(t T, names Machines, first string) *Lab {
	t.Helper()
	l, ctx, cancel := newLab(t, names, first)
	defer cancel()
	l.begin(ctx, names...)
	return l
}

// newLab is a lab whose machines are all off, with a context that ends while its
// test can still say so.
func newLab(t T, names Machines, first string) (*Lab, context.Context, context.CancelFunc) {
	t.Helper()
	if os.Getenv(Env) != "1" {
		t.Skipf("virtual machines are started only with %s=1 (make lab)", Env)
	}
	// An emulated machine mostly waits for another one, or for this process: two
	// labs at a time take little longer than one.
	if p, ok := t.(interface{ Parallel() }); ok {
		p.Parallel()
	}
	// Short: a socket's path has 107 characters.
	dir, err := os.MkdirTemp("", "umbra-lab-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{t: t, dir: dir, logs: artifacts(t), order: names}
	made.Lock()
	made.labs = append(made.labs, dir) // gone soon, unless the process is interrupted
	made.Unlock()
	t.Cleanup(l.tearDown)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	if l.image, err = theImage(ctx); errors.Is(err, image.ErrUnavailable) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := alone(ctx, t.Logf); err != nil {
		t.Fatal(err)
	}
	roles := map[string]bool{}
	for _, name := range names {
		roles[roleOf(name)+first] = true
	}
	var ready map[string]*template
	if os.Getenv(EnvBoot) != "1" {
		if ready, err = templates(ctx, t, roles); err != nil {
			t.Fatalf("%v\n(with %s=1 every machine boots by itself)", err, EnvBoot)
		}
	}
	l.add(ready, first)
	return l, ctx, cancel
}

// add adds the machines to their lab.
func (l *Lab) add(ready map[string]*template, first string) {
	l.ready = ready
	l.hub, l.machines = newHub(), map[string]*Machine{}
	for i, name := range l.order {
		l.machines[name] = &Machine{lab: l, Name: name, number: i + 1, kind: roleOf(name) + first, template: ready[roleOf(name)+first], processes: map[string]*Process{}}
	}
}

// begin switches machines on for the first time.
func (l *Lab) begin(ctx context.Context, names ...string) {
	l.t.Helper()
	begin := time.Now()
	errs := make([]error, len(names))
	var up sync.WaitGroup
	for i, name := range names {
		m := l.Machine(name)
		up.Go(func() {
			if errs[i] = m.prepare(); errs[i] == nil {
				errs[i] = m.powerOn(ctx)
			}
		})
	}
	up.Wait()
	if err := errors.Join(errs...); err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("%s up in %.1f s", strings.Join(names, ", "), time.Since(begin).Seconds())
}

// Machine returns a machine by its name.
func (l *Lab) Machine(name string) *Machine {
	l.t.Helper()
	m := l.machines[name]
	if m == nil {
		l.t.Fatalf("the lab has no machine %s", name)
	}
	return m
}

// CutNetwork keeps two machines from each other, as a pulled cable would: what
// is under way is lost, and nobody is told.
func (l *Lab) CutNetwork(a, b string) { l.hub.cut(l.Machine(a).mac(), l.Machine(b).mac(), true) }

// HealNetwork takes CutNetwork back.
func (l *Lab) HealNetwork(a, b string) { l.hub.cut(l.Machine(a).mac(), l.Machine(b).mac(), false) }

func (l *Lab) tearDown() {
	for _, name := range l.order {
		if m := l.machines[name]; m != nil {
			m.stop()
			m.judge()
		}
	}
	if l.hub != nil {
		l.hub.close()
	}
	if l.t.Failed() {
		l.showLogs()
	}
	if err := os.RemoveAll(l.dir); err != nil {
		l.t.Error(err)
	}
}

// showLogs prints the end of every log.
func (l *Lab) showLogs() {
	found, _ := filepath.Glob(filepath.Join(l.logs, "*.log"))
	slices.Sort(found)
	for _, f := range found {
		if text := tail(f, 40); text != "" {
			l.t.Logf("--- the end of %s\n%s", filepath.Base(f), text)
		}
	}
}

// artifacts is where logs go: kept by go test -artifacts, else gone after the
// test.
func artifacts(t T) string { return t.ArtifactDir() }

// theImage is made once for all tests of a run.
func theImage(ctx context.Context) (image.Image, error) {
	made.Lock()
	defer made.Unlock()
	if made.image.Kernel != "" {
		return made.image, nil
	}
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return image.Image{}, errors.New("where the source is cannot be told")
	}
	source := filepath.Join(filepath.Dir(here), "..", "..")
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		// Built with -trimpath: the test runs in its package's folder.
		if source, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
			return image.Image{}, err
		}
	}
	var err error
	if made.dir, err = os.MkdirTemp("", "umbra-lab-image-"); err != nil {
		return image.Image{}, err
	}
	program, err := sitetest.Program(source, made.dir)
	if err != nil {
		return image.Image{}, err
	}
	made.image, err = image.Make(ctx, source, program, made.dir)
	return made.image, err
}

// alone waits until no other process on this machine has a lab: many at once make
// each other late. Processes of one go test are one. The lock goes with the process.
func alone(ctx context.Context, logf func(string, ...any)) error {
	made.Lock()
	defer made.Unlock()
	if made.lock != nil {
		return nil
	}
	cache, err := image.Cache()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(cache, "running"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	parent := fmt.Sprint(os.Getppid())
	for waited := false; ; waited = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			made.lock = f
			return errors.Join(f.Truncate(0), write(f, parent))
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if b, err := os.ReadFile(f.Name()); err == nil && string(b) == parent {
			made.lock = f
			go func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }() // when the other ends
			return nil
		}
		if !waited {
			logf("another lab runs on this machine: waiting for it")
		}
		select {
		case <-ctx.Done():
			f.Close()
			return errors.New("another lab runs on this machine, and does not end")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

var made struct {
	sync.Mutex
	dir   string
	image image.Image
	lock  *os.File

	templates map[string]*template // by kind of machine
	scenes    []*Scene             // that were played
	labs      []string             // folders
}

// Run is what a test package's TestMain does with a lab in it: the tests, and
// away with what they shared.
func Run(m interface{ Run() int }) int {
	code := m.Run()
	if err := Clean(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// Clean removes what all labs of this process share, and their folders if they
// were interrupted.
func Clean() error {
	made.Lock()
	defer made.Unlock()
	for role, t := range made.templates {
		t.close()
		delete(made.templates, role)
	}
	for _, s := range made.scenes {
		s.forget()
	}
	made.scenes = nil
	var errs []error
	for _, dir := range append(made.labs, made.dir) {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	made.dir, made.image, made.labs = "", image.Image{}, nil
	return errors.Join(errs...)
}
