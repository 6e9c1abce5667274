package lvm

import (
	"reflect"
	"testing"
)

func TestReadConfig(t *testing.T) {
	for _, c := range []struct {
		texts []string
		want  Config
	}{
		{[]string{""}, Config{}},
		{[]string{"devices {\n# global_filter = [ \"a|.*|\" ]\n}\nglobal { use_devicesfile = 1 }"}, Config{}},
		{[]string{"devices { global_filter = [ \"a|x|\", \"r|.*|\" ] }"}, Config{Filter: []string{"a|x|", "r|.*|"}, Set: true}},
		{[]string{"devices { global_filter = \"r|x|\" }"}, Config{Filter: []string{"r|x|"}, Set: true}},
		{[]string{"devices { global_filter = [] }"}, Config{Set: true}},
		{[]string{"devices/global_filter = \"r|x|\""}, Config{Filter: []string{"r|x|"}, Set: true}},
		{[]string{"devices { global_filter = \"r|x|\" }", "local { }\ndevices { use_devicesfile = 0 }\ndevices { global_filter = \"r|y|\" }"}, Config{Filter: []string{"r|y|"}, Set: true}},
		{[]string{"devices { use_devicesfile = 1 }"}, Config{DevicesFile: "system.devices"}},
		{[]string{"devices { use_devicesfile = 1 devicesfile = \"own\" }"}, Config{DevicesFile: "own"}},
	} {
		got, err := ReadConfig(c.texts...)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.texts, got, err, c.want)
		}
	}
	if _, err := ReadConfig("devices {"); err == nil {
		t.Error("half a file is read")
	}
}
