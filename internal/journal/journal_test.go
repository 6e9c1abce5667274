package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

// fake is a journal as systemd's documentation describes it.
type fake struct {
	t    *testing.T
	fd   int
	path string
}

func listen(t *testing.T, path string) *fake {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	f := &fake{t, fd, path}
	t.Cleanup(f.close)
	return f
}

func (f *fake) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// next reads an entry; big says that it came as a file.
func (f *fake) next() (fields map[string]string, big bool) {
	f.t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, 256)
	n, oobn, _, _, err := unix.Recvmsg(f.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		f.t.Fatalf("no entry: %v", err)
	}
	entry := buf[:n]
	if oobn > 0 {
		ms, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(ms) != 1 || n != 0 {
			f.t.Fatalf("%v, %d bytes beside a descriptor", err, n)
		}
		fds, err := unix.ParseUnixRights(&ms[0])
		if err != nil || len(fds) != 1 {
			f.t.Fatalf("%v, %v", fds, err)
		}
		file := os.NewFile(uintptr(fds[0]), "entry")
		defer file.Close()
		const want = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		if seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&want != want {
			f.t.Errorf("seals %x, %v: the journal would refuse it", seals, err)
		}
		if entry, err = io.ReadAll(io.NewSectionReader(file, 0, 1<<30)); err != nil {
			f.t.Fatal(err)
		}
		big = true
	}
	fields, err = parse(entry)
	if err != nil {
		f.t.Fatalf("%v: %q", err, entry)
	}
	return fields, big
}

func parse(b []byte) (map[string]string, error) {
	out := map[string]string{}
	for len(b) > 0 {
		i := bytes.IndexAny(b, "=\n")
		if i <= 0 {
			return nil, errors.New("no field name")
		}
		name := string(b[:i])
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" || name[0] == '_' || len(name) > 64 {
			return nil, fmt.Errorf("bad field name %q", name)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s twice", name)
		}
		size := bytes.IndexByte(b[i+1:], '\n')
		rest := b[i+1:]
		if b[i] == '\n' {
			if len(rest) < 8 {
				return nil, errors.New("no length")
			}
			size, rest = int(binary.LittleEndian.Uint64(rest)), rest[8:]
		}
		if size < 0 || len(rest) <= size || rest[size] != '\n' {
			return nil, fmt.Errorf("%s does not end", name)
		}
		out[name], b = string(rest[:size]), rest[size+1:]
	}
	return out, nil
}

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

func TestEvent(t *testing.T) {
	f := listen(t, filepath.Join(t.TempDir(), "s"))
	j := open(t, f.path)
	set, session := vss.NewID(), vss.NewID()
	j.Event(catalog.Event{ID: "17", Number: 201, Level: "warning", Name: "import.partial", Time: time.UnixMicro(1234567), SetID: set, Session: session,
		Object: "/srv/a\nb", Message: "some", Failure: &catalog.Failure{Code: vss.VSS_E_PROVIDER_VETO, Op: "locate", Reason: "first line\nUMBRA_SET=forged", Remedy: "Look"}})
	got, big := f.next()
	want := map[string]string{"PRIORITY": "4", "SYSLOG_IDENTIFIER": "umbra", "MESSAGE_ID": MessageID(201), "UMBRA_EVENT": "import.partial", "UMBRA_EVENT_NUMBER": "201",
		"UMBRA_EVENT_ID": "17", "UMBRA_EVENT_TIME": "1234567", "UMBRA_SET": set.String(), "UMBRA_SESSION": session.String(), "UMBRA_OBJECT": "/srv/a\nb",
		"UMBRA_CODE": vss.VSS_E_PROVIDER_VETO.String(), "UMBRA_REASON": "first line\nUMBRA_SET=forged", "UMBRA_REMEDY": "Look"}
	message := got["MESSAGE"]
	delete(got, "MESSAGE")
	if !reflect.DeepEqual(got, want) || big || !strings.HasPrefix(message, "import.partial: some: ") || !strings.HasSuffix(message, ". Look") {
		t.Errorf("%q, message %q", got, message)
	}
	for level, priority := range map[string]string{"info": "6", "warning": "4", "error": "3"} {
		j.Event(catalog.Event{Name: "x.y", Level: level, Message: "m"})
		want := map[string]string{"MESSAGE": "x.y: m", "PRIORITY": priority, "SYSLOG_IDENTIFIER": "umbra", "UMBRA_EVENT": "x.y", "UMBRA_EVENT_TIME": fmt.Sprint(time.Time{}.UnixMicro())}
		if got, _ := f.next(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", level, got)
		}
	}
}

// TestMessageID: the same for ever, each its own.
func TestMessageID(t *testing.T) {
	for number, want := range map[int]string{100: "040a826e191581b496ec728fcf0814cd", 910: "da363be1626482e19984f845af2250e6"} {
		if got := MessageID(number); got != want {
			t.Errorf("%d is %s now, it was %s", number, got, want)
		}
	}
	seen := map[string]bool{}
	for _, k := range catalog.Kinds {
		id := MessageID(k.Number)
		if seen[id] || len(id) != 32 || id[12] != '8' || !strings.Contains("89ab", id[16:17]) {
			t.Errorf("%s: %s", k.Name, id)
		}
		seen[id] = true
	}
}

func TestBigEntry(t *testing.T) {
	f := listen(t, filepath.Join(t.TempDir(), "s"))
	j := open(t, f.path)
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		value := strings.Repeat("x\n", size/2)
		j.Send(Field{"MESSAGE", value}, Field{"AFTER", "a"})
		got, big := f.next()
		if got["MESSAGE"] != value || got["AFTER"] != "a" || big != (size > 200<<10) {
			t.Errorf("%d bytes: %d came, as a file %v", size, len(got["MESSAGE"]), big)
		}
	}
	if n := j.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

// TestSlowJournal: who writes never waits; what is dropped is counted and said.
func TestSlowJournal(t *testing.T) {
	f := listen(t, filepath.Join(t.TempDir(), "s"))
	j := open(t, f.path)
	const sent = 5000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range sent {
			j.Send(Field{"N", fmt.Sprint(i)})
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		f.close() // lets it go
		t.Fatal("a journal that does not read holds up who writes")
	}
	dropped := int(j.Dropped())
	if dropped == 0 || dropped == sent {
		t.Fatalf("%d of %d dropped", dropped, sent)
	}
	for i := range sent - dropped {
		if got, _ := f.next(); got["N"] != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i, got)
		}
	}
	j.Send(Field{"N", "last"})
	if got, _ := f.next(); got["N"] != "last" {
		t.Errorf("%q", got)
	}
	if got, _ := f.next(); got["UMBRA_DROPPED"] != fmt.Sprint(dropped) || got["PRIORITY"] != "4" || got["MESSAGE"] == "" {
		t.Errorf("the note is %q, %d were dropped", got, dropped)
	}
	j.Send(Field{"N", "more"})
	if got, _ := f.next(); got["N"] != "more" {
		t.Errorf("%q", got)
	}
}

// TestJournalComesAndGoes: none is no loss, and one that is started, or started
// anew, is written to.
func TestJournalComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	j := open(t, path)
	j.Send(Field{"N", "1"})
	f := listen(t, path)
	j.Send(Field{"N", "2"})
	if got, _ := f.next(); got["N"] != "2" {
		t.Errorf("%q", got)
	}
	f.close() // the socket is still there, nobody listens
	j.Send(Field{"N", "3"})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f = listen(t, path)
	j.Send(Field{"N", "4"})
	if got, _ := f.next(); got["N"] != "4" || j.Dropped() != 0 {
		t.Errorf("%q, %d dropped", got, j.Dropped())
	}
	j.Close()
	j.Send(Field{"N", "5"}) // is ignored
	j.Close()
}

// TestAtOnce: several goroutines write whole entries.
func TestAtOnce(t *testing.T) {
	f := listen(t, filepath.Join(t.TempDir(), "s"))
	j := open(t, f.path)
	var writers sync.WaitGroup
	const sent = 4 * 50
	for w := range 4 {
		writers.Go(func() {
			for i := range sent / 4 {
				j.Send(Field{"N", fmt.Sprint(w, " ", i)}, Field{"M", fmt.Sprint(w, " ", i)})
			}
		})
	}
	end := make(chan struct{})
	go func() {
		writers.Wait()
		_ = unix.Sendto(j.fd, []byte("END=1\n"), 0, &unix.SockaddrUnix{Name: f.path}) // may have no room: then the reader makes it
		close(end)
	}()
	seen := map[string]bool{}
	for len(seen)+int(j.Dropped()) < sent {
		got, _ := f.next()
		switch {
		case got["UMBRA_DROPPED"] != "" || got["END"] != "":
		case got["N"] != got["M"] || seen[got["N"]]:
			t.Errorf("%q", got)
		default:
			seen[got["N"]] = true
		}
	}
	<-end
	if len(seen) == 0 {
		t.Error("nothing came")
	}
}

// TestStream: what systemd says of standard error is compared with it.
func TestStream(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "1": false, "a:b": false, fmt.Sprintf("%d:", st.Dev): false,
	} {
		if isStream(stream, int(file.Fd())) != want {
			t.Errorf("%q: %v", stream, !want)
		}
	}
}

func TestWithoutEvents(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(WithoutEvents(slog.NewTextHandler(&out, nil)))
	log.Info("one", "a", 1)
	log.Info("two", "event", "import.done", "a", 1)
	log.With("b", 2).WithGroup("g").Info("three", "a", 1)
	log.With("b", 2).Info("four", "a", 1, "event", "x")
	if s := out.String(); strings.Count(s, "\n") != 2 || !strings.Contains(s, "one") || !strings.Contains(s, "three") {
		t.Error(s)
	}
}
