package volume

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/devicemapper"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

func target(kind string, length uint64, params string) devicemapper.Target {
	return devicemapper.Target{Length: length, Type: kind, Params: params}
}

func TestTargets(t *testing.T) {
	p, err := parsePiece(target("linear", 100, "8:16 2048"))
	if err != nil || p.length != 51200 || p.chunk != 0 || len(p.on) != 1 || p.on[0] != (spot{"8:16", 1 << 20}) {
		t.Errorf("linear: %+v, %v", p, err)
	}
	p, err = parsePiece(target("striped", 512, "2 128 8:16 2048 8:32 4096"))
	if err != nil || p.chunk != 64<<10 || len(p.on) != 2 || p.on[1] != (spot{"8:32", 2 << 20}) {
		t.Errorf("striped: %+v, %v", p, err)
	}
	if p, err = parsePiece(target("striped", 512, "1 128 8:16 0")); err != nil || p.chunk != 0 {
		t.Errorf("one stripe: %+v, %v", p, err)
	}
	for _, bad := range []devicemapper.Target{
		target("linear", 8, ""), target("linear", 8, "8:16"), target("linear", 8, "8:16 0 8:32 0"), target("linear", 8, "sda 0"), target("linear", 8, "8:16 -1"),
		target("linear", 8, "8:16 99999999999999999999"), target("striped", 512, ""), target("striped", 512, "2 128 8:16 0"), target("striped", 512, "0 128"),
		target("striped", 512, "2 0 8:16 0 8:32 0"), target("striped", 500, "2 128 8:16 0 8:32 0"), target("striped", 512, "70000 128 8:16 0"),
	} {
		if p, err := parsePiece(bad); err == nil {
			t.Errorf("%+v is read as %+v", bad, p)
		}
	}
}

// Every kind that is not copied is refused by its name, with a way out.
func TestKindsRefused(t *testing.T) {
	for kind := range remedies {
		_, err := parsePiece(target(kind, 8, "anything"))
		if err == nil {
			t.Fatalf("%s is taken", kind)
		}
		err = refuseTarget(block.Device{Path: "/dev/dm-9"}, target(kind, 8, ""), err)
		if !strings.Contains(err.Error(), kind) && kind != "error" && kind != "zero" {
			t.Errorf("%s: %v", kind, err)
		}
		if e := vss.AsError("", err); e.Code != vss.VSS_E_VOLUME_NOT_SUPPORTED || e.Remedy != remedies[kind] {
			t.Errorf("%s: %v", kind, err)
		}
	}
	err := refuseTarget(block.Device{Path: "/dev/dm-9"}, target("vdo", 8, ""), errTarget)
	if !strings.Contains(err.Error(), "vdo") {
		t.Error(err)
	}
}

func TestTablesHoweverCut(t *testing.T) {
	on := func(device string, offset uint64) spot { return spot{device, offset} }
	one := []piece{{length: 300, on: []spot{on("8:0", 10)}}}
	cut := []piece{{length: 100, on: []spot{on("8:0", 10)}}, {length: 200, on: []spot{on("8:0", 110)}}}
	if !samePieces(one, cut) {
		t.Error("linear, cut in two")
	}
	striped := []piece{{length: 400, chunk: 10, on: []spot{on("8:0", 0), on("8:16", 50)}}}
	stripedCut := []piece{{length: 200, chunk: 10, on: []spot{on("8:0", 0), on("8:16", 50)}}, {length: 200, chunk: 10, on: []spot{on("8:0", 100), on("8:16", 150)}}}
	if !samePieces(striped, stripedCut) {
		t.Error("striped, cut in two")
	}
	for name, other := range map[string][]piece{
		"another place":  {{length: 300, on: []spot{on("8:0", 20)}}},
		"another device": {{length: 300, on: []spot{on("8:16", 10)}}},
		"shorter":        {{length: 200, on: []spot{on("8:0", 10)}}},
		"another order":  {cut[1], cut[0]},
		"nothing":        nil,
	} {
		if samePieces(one, other) {
			t.Errorf("%s is the same", name)
		}
	}
	stripedCut[1].chunk = 20
	if samePieces(striped, stripedCut) {
		t.Error("another chunk is the same")
	}
}
