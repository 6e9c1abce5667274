package catalog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

const childEnv = "CATALOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		writeForever(path)
	}
	os.Exit(m.Run())
}

// writeForever files the same number as a set, a LUN and an intent, each in
// one transaction, and says each number it was promised is on disk.
func writeForever(path string) {
	c, err := Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := uint64(1); ; i++ {
		err := c.Update(context.Background(), func(tx *Tx) error {
			l := sampleLUN(byte(i))
			l.Reason = fmt.Sprint(i)
			if err := tx.PutLUN(l); err != nil {
				return err
			}
			s := Set{ID: vss.ID{15: 1}, Role: Imported, ImportID: vss.ID{8: byte(i >> 8), 9: byte(i)}, Begun: time.Now()}
			if err := tx.PutSet(s); err != nil {
				return err
			}
			_, err := tx.OpenIntent(Intent{Kind: "import", Object: fmt.Sprint(i)})
			return err
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// TestKill: a process killed amid its writing leaves a catalogue that opens,
// holds all it was promised, and no half of a transaction. A copy of the file
// taken while it is written may be older, or refused, but never half.
func TestKill(t *testing.T) {
	for round := range 5 {
		path := filepath.Join(t.TempDir(), "catalog.db")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+37*round) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		var promised, n uint64
		for line := range bytes.Lines(out.Bytes()) {
			if _, err := fmt.Fscanf(bytes.NewReader(line), "%d\n", &n); err == nil {
				promised = n
			}
		}
		consistent(t, path, promised)
		if promised == 0 {
			t.Logf("round %d: killed before the first transaction", round)
		}
	}
}

// TestCopyMidWay takes copies of the file while it is written.
func TestCopyMidWay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "catalog.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, _ = out.Read(make([]byte, 1)) // the first is on disk
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for i := range 5 {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(p)
		if err != nil {
			t.Logf("copy %d is refused: %v", i, err) // said, not suffered
			continue
		}
		c.Close()
	}
}

// consistent opens the file and holds its records to each other: n in all
// places is at least what was promised.
func consistent(t *testing.T, path string, promised uint64) {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	defer c.Close()
	err = c.View(func(tx *Tx) error {
		is, err := tx.Intents()
		if err != nil {
			return err
		}
		n := uint64(len(is))
		if n < promised {
			t.Errorf("%d transactions were promised, %d are there", promised, n)
		}
		if n == 0 {
			return nil
		}
		s, found, err := tx.Set(Imported, vss.ID{15: 1})
		if err != nil || !found || s.ImportID != (vss.ID{8: byte(n >> 8), 9: byte(n)}) || is[n-1].ID != n {
			t.Errorf("%d intents, set %+v, %v", n, s.ImportID, err)
		}
		l, found, err := tx.LUN(sampleLUN(byte(n)).Name)
		if err != nil || !found || l.Reason != fmt.Sprint(n) {
			t.Errorf("LUN %+v, %v", l, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), func(tx *Tx) error { _, err := tx.AddEvent(Event{Name: "alive"}); return err }); err != nil {
		t.Fatal(err)
	}
}
