package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// app is what all commands share.
type app struct {
	socket string
	output string // table or json
	out    io.Writer
	err    io.Writer
}

func (a *app) json() bool { return a.output == "json" }

func (a *app) endpoint() requester.Option { return requester.Endpoint(a.socket) }

func (a *app) host() *requester.Host { return requester.NewHost(a.endpoint()) }

// emit prints v as JSON, or calls table.
func (a *app) emit(v any, table func(w io.Writer)) error {
	if a.json() {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// printError shows an error with everything a person can act on.
func (a *app) printError(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			a.printError(e)
		}
		return
	}
	var e *vss.Error
	if !errors.As(err, &e) {
		fmt.Fprintf(a.err, "umbra: %v\n", err)
		return
	}
	if a.json() {
		enc := json.NewEncoder(a.err)
		enc.SetIndent("", "  ")
		_ = enc.Encode(map[string]any{"error": e})
		return
	}
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(a.err, "  %-8s %s\n", k, v)
		}
	}
	fmt.Fprintf(a.err, "umbra: %s failed: %s\n", orElse(e.Op, "the operation"), e.Code)
	line("object", e.Object)
	line("reason", e.Why())
	line("remedy", e.Remedy)
	if e.EventID != "" {
		line("event", "umbra list events --id "+e.EventID)
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.4g %ciB", f, units[i])
}

func timeText(t vss.Timestamp) string { return t.Time().Local().Format("2006-01-02 15:04:05") }

func durationText(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// timeline prints an operation's phases.
func timeline(w io.Writer, phases []requester.Phase) {
	fmt.Fprintln(w, "PHASE\tOBJECT\tSTART\tTOOK")
	for _, p := range phases {
		fmt.Fprintf(w, "%s\t%s\t+%s\t%s\n", p.Name, orElse(p.Object, "-"), durationText(p.Start), durationText(p.Duration))
	}
}
