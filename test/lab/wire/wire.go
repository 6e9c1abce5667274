// Package wire is what the lab and its guests say to each other over a virtual
// serial port: frames of a kind, the number of a command, and bytes. Commands
// run side by side; what they read and write goes in frames of their number.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Port is the virtual serial port's name in the guest.
const Port = "umbra.lab"

// Kind says what a frame is.
type Kind byte

const (
	Hello  Kind = iota + 1 // guest: up; data: what failed on the way, if anything
	Run                    // lab: a Command
	Stdin                  // lab: data for a command; none is the end
	Signal                 // lab: one byte, the signal for a command and its children
	Stdout                 // guest
	Stderr                 // guest
	Exit                   // guest: a Result
	Become                 // lab: a Machine; Exit answers it
)

// Machine is who a guest is. It learns that when it is up: many begin with the
// memory of one that was nobody yet, and must not be twins.
type Machine struct {
	Name     string    `json:"name"`
	Hardware string    `json:"hardware"` // its network card's address
	Address  string    `json:"address"`  // with the length of the network's
	Hosts    string    `json:"hosts"`    // /etc/hosts
	Time     time.Time `json:"time"`
	Seed     []byte    `json:"seed"` // of all that is random
	BootID   string    `json:"boot_id"`

	// Already: it has been told before, and begins with the memory it had then. Its
	// clock has stood, and what is random must not come a second time; no more.
	Already bool `json:"already,omitempty"`
}

// Command is run by a shell with -e.
type Command struct {
	Shell string   `json:"shell"`
	Env   []string `json:"env,omitempty"`
}

// Result is how a command ended.
type Result struct {
	Code  int    `json:"code"`            // as a shell counts: 128 and the signal's number for one that was killed
	Error string `json:"error,omitempty"` // it could not be started or waited for
}

// Frame is one message.
type Frame struct {
	Kind Kind
	ID   uint32
	Data []byte
}

// Most is the most data that a frame may have.
const Most = 1 << 20

const header = 9

// Write sends a frame in one write: callers share the port.
func Write(w io.Writer, f Frame) error {
	if len(f.Data) > Most {
		return fmt.Errorf("a frame of %d bytes", len(f.Data))
	}
	b := make([]byte, header, header+len(f.Data))
	b[0] = byte(f.Kind)
	binary.BigEndian.PutUint32(b[1:], f.ID)
	binary.BigEndian.PutUint32(b[5:], uint32(len(f.Data)))
	_, err := w.Write(append(b, f.Data...))
	return err
}

// Read takes the next frame.
func Read(r io.Reader) (Frame, error) {
	var b [header]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: Kind(b[0]), ID: binary.BigEndian.Uint32(b[1:])}
	n := binary.BigEndian.Uint32(b[5:])
	if f.Kind < Hello || f.Kind > Become || n > Most {
		return Frame{}, fmt.Errorf("no frame: kind %d, %d bytes", b[0], n)
	}
	f.Data = make([]byte, n)
	_, err := io.ReadFull(r, f.Data)
	return f, err
}
