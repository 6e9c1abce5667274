package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Scene is what many scenarios begin with: machines that have done something
// together. The first test that wants it plays it; then all of its machines are
// stopped, and every lab that starts with the scene begins with copies of their
// memory and disks, programs, connections and all.
//
// A machine that is switched off and on again boots like any other, as nobody
// who has played anything, but for its disk.
type Scene struct {
	Machines Machines
	Play     func(t T, l *Lab)

	mu    sync.Mutex
	takes map[string]*template // by the machine's name; nil until it was played
}

// Start is the function Start for a scene's machines, or those of them that are
// named; the rest is off.
func (s *Scene) Start(t T, names ...string) *Lab {
	t.Helper()
	l, ctx, cancel := newLab(t, s.Machines, "")
	defer cancel()
	if os.Getenv(EnvBoot) == "1" {
		l.begin(ctx, s.Machines...)
		s.Play(t, l)
		return l
	}
	takes := s.played(ctx, t, l)
	for _, name := range names {
		l.Machine(name).first = takes[name]
	}
	l.begin(ctx, names...)
	return l
}

// played returns the scene's templates, and makes them if nobody has. For a lab
// is another: the scene's machines are none of the test's.
func (s *Scene) played(ctx context.Context, t T, for_ *Lab) map[string]*template {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takes != nil {
		return s.takes
	}
	dir, err := os.MkdirTemp("", "umbra-lab-")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	l := &Lab{t: t, dir: dir, logs: for_.logs, image: for_.image, order: for_.order}
	defer l.tearDown()
	l.add(for_.ready, "")
	takes := map[string]*template{}
	fail := func(err error) {
		t.Helper()
		for _, take := range takes {
			take.close()
		}
		t.Fatalf("a scene: %v", err)
	}
	for name, m := range l.machines {
		if takes[name], err = newTemplate(); err == nil {
			m.becomes = takes[name]
			err = copyData(m.becomes.memory, m.template.memory)
		}
		if err != nil {
			fail(err)
		}
	}
	l.begin(ctx, s.Machines...)
	s.Play(t, l)
	for name, m := range l.machines { // all at once, or nearly so
		if err := m.qemu.do("stop", nil, nil); err != nil {
			fail(fmt.Errorf("%s: %w", name, err))
		}
	}
	for name, m := range l.machines {
		if err := m.freeze(ctx); err != nil {
			fail(fmt.Errorf("%s: %w", name, err))
		}
	}
	made.Lock()
	made.scenes = append(made.scenes, s)
	made.Unlock()
	t.Logf("a scene of %d machines is ready after %.1f s", len(takes), time.Since(begin).Seconds())
	s.takes = takes
	return takes
}

// freeze makes a template of a machine that was stopped.
func (m *Machine) freeze(ctx context.Context) error {
	to := m.becomes
	m.mu.Lock()
	c := m.control
	for name, p := range m.processes {
		select {
		case <-p.r.done:
		default:
			to.running[name], to.said[name] = p.id, p.Log()
		}
	}
	m.mu.Unlock()
	c.mu.Lock()
	to.last = c.last
	c.mu.Unlock()
	err := to.take(ctx, m.qemu)
	for _, d := range m.disks() {
		to.disks[d] = filepath.Join(made.dir, fmt.Sprintf("scene-%d-%s.%s", time.Now().UnixNano(), m.Name, d))
		err = errors.Join(err, copyFile(to.disks[d], m.file(d)))
	}
	return err
}

// forget frees what the scene keeps.
func (s *Scene) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, take := range s.takes {
		take.close()
	}
	s.takes = nil
}
