package lab

import (
	"os"
	"regexp"
	"strings"
)

// tail is the end of a file, for people.
func tail(name string, lines int) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// trouble is what a kernel says when it is wrong itself. (A hung task says
// "blocked for more than"; I/O errors and dropped sessions are the scenarios'
// own doing.)
var trouble = regexp.MustCompile(`(?m)^.*(\bOops\b|\bBUG:|kernel BUG at|Kernel panic|WARNING: CPU|general protection fault|KASAN|blocked for more than|Call Trace:).*$`)

// kernelTrouble is the first such line of a console, with what follows it.
func kernelTrouble(console string) string {
	at := trouble.FindStringIndex(console)
	if at == nil {
		return ""
	}
	lines := strings.SplitN(strings.ReplaceAll(console[at[0]:], "\r", ""), "\n", 41)
	return strings.Join(lines[:min(len(lines), 40)], "\n")
}

// judge fails the test if the machine's kernel was in trouble.
func (m *Machine) judge() {
	b, err := os.ReadFile(m.console())
	if err != nil {
		return // never started
	}
	if text := kernelTrouble(string(b)); text != "" {
		m.lab.t.Errorf("the kernel of %s was in trouble:\n%s", m.Name, text)
	}
}
