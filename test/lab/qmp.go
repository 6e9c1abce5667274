package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// monitor is QEMU's own control line (QMP): a question in JSON, an answer, and
// events in between, which say nothing that is not asked for as well.
type monitor struct {
	line net.Conn
	in   *json.Decoder
}

// monitorOf greets QEMU on a line that it has just opened.
func monitorOf(line net.Conn) (*monitor, error) {
	m := &monitor{line: line, in: json.NewDecoder(bufio.NewReader(line))}
	var greeting struct{ QMP json.RawMessage }
	if err := m.in.Decode(&greeting); err != nil || greeting.QMP == nil {
		return nil, errors.Join(err, errors.New("QEMU does not greet"))
	}
	return m, m.do("qmp_capabilities", nil, nil)
}

// do asks for something and waits until it is done.
func (m *monitor) do(what string, args, answer any) error {
	b, err := json.Marshal(map[string]any{"execute": what, "arguments": args})
	if args == nil {
		b, err = json.Marshal(map[string]any{"execute": what})
	}
	if err != nil {
		return err
	}
	if _, err := m.line.Write(b); err != nil {
		return fmt.Errorf("QEMU: %s: %w", what, err)
	}
	for {
		var got struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := m.in.Decode(&got); {
		case err != nil:
			return fmt.Errorf("QEMU: %s: %w", what, err)
		case got.Error != nil:
			return fmt.Errorf("QEMU: %s: %s", what, got.Error.Desc)
		case got.Event != "":
		case answer != nil:
			return json.Unmarshal(got.Return, answer)
		default:
			return nil
		}
	}
}

// ignoreShared says that the memory is in a file and stays there.
func (m *monitor) ignoreShared() error {
	return m.do("migrate-set-capabilities", map[string]any{"capabilities": []any{map[string]any{"capability": "x-ignore-shared", "state": true}}}, nil)
}

// migrated waits until what was begun with migrate or migrate-incoming is over.
func (m *monitor) migrated(ctx context.Context) error {
	for {
		var got struct {
			Status string
			Desc   string `json:"error-desc"`
		}
		if err := m.do("query-migrate", nil, &got); err != nil {
			return err
		}
		switch got.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU: the machine's state: %s %s", got.Status, got.Desc)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
