package vss

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestLacksResources(t *testing.T) {
	fork := &fs.PathError{Op: "fork/exec", Path: "/bin/true", Err: syscall.EAGAIN}
	for _, c := range []struct {
		err  error
		want HResult
	}{
		{syscall.ENOMEM, E_OUTOFMEMORY},
		{os.NewSyscallError("socket", syscall.EMFILE), E_OUTOFMEMORY},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENFILE}, E_OUTOFMEMORY},
		{fmt.Errorf("send: %w", syscall.ENOBUFS), E_OUTOFMEMORY},
		{syscall.ENOLCK, E_OUTOFMEMORY},
		{fork, E_OUTOFMEMORY},
		{&fs.PathError{Op: "read", Path: "/x", Err: syscall.EAGAIN}, VSS_E_UNEXPECTED},
		{syscall.ENOSPC, VSS_E_UNEXPECTED},
		{&Error{Code: VSS_E_UNEXPECTED, Op: "hide LUNs", Err: syscall.EMFILE}, E_OUTOFMEMORY},
		{&Error{Code: VSS_E_UNEXPECTED, Op: "x", Err: fork}, E_OUTOFMEMORY},
		// Who gave a code meant it.
		{&Error{Code: VSS_E_INSUFFICIENT_STORAGE, Err: syscall.ENOMEM}, VSS_E_INSUFFICIENT_STORAGE},
	} {
		err := fmt.Errorf("above: %w", c.err)
		if got := CodeOf(err); got != c.want {
			t.Errorf("CodeOf(%v) = %v, want %v", err, got, c.want)
		}
		e := AsError("op", err)
		if e.Code != c.want || !errors.Is(e, c.want) {
			t.Errorf("AsError(%v) = %+v", err, e)
		}
		if c.want == E_OUTOFMEMORY && (e.Remedy == "" || !LacksResources(e)) {
			t.Errorf("no remedy, or the cause is lost: %+v", e)
		}
	}
	if before := (&Error{Code: VSS_E_UNEXPECTED, Err: syscall.EMFILE}); AsError("", before).Code != E_OUTOFMEMORY || before.Code != VSS_E_UNEXPECTED {
		t.Error("the error itself was changed")
	}
}
