package lvm

import "fmt"

// Config is what LVM's configuration says of the devices it looks at.
type Config struct {
	// Filter is devices/global_filter: patterns, the first that fits counts. Set
	// says that there is one.
	Filter []string
	Set    bool
	// DevicesFile says that LVM looks only at devices that are listed in a file,
	// below its folder "devices", and does not ask the filter.
	DevicesFile string
}

// ReadConfig reads configuration files in the order in which LVM does: of a
// setting in two the later counts.
func ReadConfig(texts ...string) (Config, error) {
	all := &section{settings: map[string][]value{}, sections: map[string]*section{}}
	for _, t := range texts {
		s, err := parseText(t)
		if err != nil {
			return Config{}, err
		}
		all.merge(s)
	}
	c := Config{}
	if v, ok := all.find("devices", "global_filter"); ok {
		c.Set = true
		for _, x := range v {
			c.Filter = append(c.Filter, x.text)
		}
	}
	if v, ok := all.find("devices", "use_devicesfile"); ok && len(v) == 1 && v[0].number != 0 {
		c.DevicesFile = "system.devices"
		if name, ok := all.find("devices", "devicesfile"); ok && len(name) == 1 && name[0].isText {
			c.DevicesFile = name[0].text
		}
		if len(c.DevicesFile) > maxString {
			return Config{}, fmt.Errorf("devices/devicesfile is too long")
		}
	}
	return c, nil
}

// find looks a setting up, in its section or written as a path.
func (s *section) find(in, name string) ([]value, bool) {
	if x := s.sections[in]; x != nil {
		if v, ok := x.settings[name]; ok {
			return v, true
		}
	}
	v, ok := s.settings[in+"/"+name]
	return v, ok
}
