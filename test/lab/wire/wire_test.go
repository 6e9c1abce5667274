package wire

import (
	"bytes"
	"testing"
)

func TestFrames(t *testing.T) {
	var line bytes.Buffer
	sent := []Frame{{Hello, 0, nil}, {Run, 1, []byte(`{"shell":"true"}`)}, {Stdout, 1 << 31, bytes.Repeat([]byte{0, 255}, Most/2)}}
	for _, f := range sent {
		if err := Write(&line, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		got, err := Read(&line)
		if err != nil || got.Kind != want.Kind || got.ID != want.ID || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%d %d, %d bytes, %v", got.Kind, got.ID, len(got.Data), err)
		}
	}
	if err := Write(&line, Frame{Kind: Stdout, Data: make([]byte, Most+1)}); err == nil || line.Len() > 0 {
		t.Error("a frame that nobody would read was sent")
	}
	for _, bad := range []string{"", "\x01", "\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x09\x00\x00\x00\x00\x00\x00\x00\x00", "\x05\x00\x00\x00\x00\xff\xff\xff\xff", "\x05\x00\x00\x00\x00\x00\x00\x00\x05abc"} {
		if f, err := Read(bytes.NewBufferString(bad)); err == nil {
			t.Errorf("%q is the frame %v", bad, f)
		}
	}
}
