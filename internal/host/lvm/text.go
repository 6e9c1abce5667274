package lvm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of a text. LVM's own largest groups come nowhere near them.
const (
	maxDepth  = 8
	maxNodes  = 1 << 20 // sections, settings and values
	maxString = 4096
)

// section is a named part of a text: settings, and sections in it.
type section struct {
	settings map[string][]value
	sections map[string]*section
	order    []string // names of sections, as they come
}

// value is a string or a number of a setting. Fractions, of which a group's
// text has none that matter, are strings.
type value struct {
	text   string
	number int64
	isText bool
}

// parseText reads LVM's configuration language, which its metadata and its
// configuration files are written in: `name { … }`, `name = value`, where a
// value is a string, a number or a list of these; # begins a comment.
func parseText(text string) (*section, error) {
	p := parser{rest: text, line: 1}
	s, err := p.section(0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.line, err)
	}
	return s, nil
}

type parser struct {
	rest  string
	line  int
	nodes int
}

// section reads up to the brace that ends it, or the end of the text.
func (p *parser) section(depth int) (*section, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d sections in one another", maxDepth)
	}
	s := &section{settings: map[string][]value{}, sections: map[string]*section{}}
	for {
		p.blank()
		if p.rest == "" {
			if depth > 0 {
				return nil, errors.New("a section does not end")
			}
			return s, nil
		}
		if p.take("}") {
			if depth == 0 {
				return nil, errors.New("a section ends that did not begin")
			}
			return s, nil
		}
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		p.blank()
		switch {
		case p.take("{"):
			inner, err := p.section(depth + 1)
			if err != nil {
				return nil, err
			}
			if have := s.sections[name]; have != nil {
				// In configuration files a section may come in pieces.
				have.merge(inner)
				continue
			}
			s.sections[name] = inner
			s.order = append(s.order, name)
		case p.take("="):
			if s.settings[name], err = p.values(); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s is followed by neither { nor =", name)
		}
	}
}

// merge adds another section's content; of a setting in both the later counts.
func (s *section) merge(o *section) {
	for k, v := range o.settings {
		s.settings[k] = v
	}
	for _, name := range o.order {
		if have := s.sections[name]; have != nil {
			have.merge(o.sections[name])
			continue
		}
		s.sections[name] = o.sections[name]
		s.order = append(s.order, name)
	}
}

// blank skips white space and comments.
func (p *parser) blank() {
	for p.rest != "" {
		switch c := p.rest[0]; c {
		case '\n':
			p.line++
			p.rest = p.rest[1:]
		case ' ', '\t', '\r', '\v', '\f':
			p.rest = p.rest[1:]
		case '#':
			end := strings.IndexByte(p.rest, '\n')
			if end < 0 {
				end = len(p.rest)
			}
			p.rest = p.rest[end:]
		default:
			return
		}
	}
}

func (p *parser) take(what string) bool {
	rest, ok := strings.CutPrefix(p.rest, what)
	if ok {
		p.rest = rest
	}
	return ok
}

// count bounds what one text may hold.
func (p *parser) count() error {
	if p.nodes++; p.nodes > maxNodes {
		return fmt.Errorf("more than %d sections and values", maxNodes)
	}
	return nil
}

// name reads a name; a path of names ("devices/filter") is one.
func (p *parser) name() (string, error) {
	if err := p.count(); err != nil {
		return "", err
	}
	if p.rest[0] == '"' {
		v, err := p.string()
		return v.text, err
	}
	end := strings.IndexAny(p.rest, " \t\r\n\v\f#={}[]\",")
	if end < 0 {
		end = len(p.rest)
	}
	if end == 0 || end > maxString {
		return "", fmt.Errorf("no name at %.20q", p.rest)
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	return name, nil
}

func (p *parser) values() ([]value, error) {
	p.blank()
	if !p.take("[") {
		v, err := p.value()
		return []value{v}, err
	}
	var list []value
	for {
		p.blank()
		if p.take("]") {
			return list, nil
		}
		if len(list) > 0 {
			if !p.take(",") {
				return nil, fmt.Errorf("no comma at %.20q", p.rest)
			}
			p.blank()
			if p.take("]") {
				return list, nil
			}
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (p *parser) value() (value, error) {
	if err := p.count(); err != nil {
		return value{}, err
	}
	if p.rest == "" {
		return value{}, errors.New("a value is missing")
	}
	if p.rest[0] == '"' || p.rest[0] == '\'' {
		return p.string()
	}
	end := strings.IndexAny(p.rest, " \t\r\n\v\f#={}[]\",")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	if end == 0 || end > maxString {
		return value{}, fmt.Errorf("no value at %.20q", p.rest)
	}
	p.rest = p.rest[end:]
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return value{text: word, number: n}, nil
	}
	return value{text: word, isText: true}, nil
}

// string reads a string in quotes. Within double quotes a backslash means the
// character after it.
func (p *parser) string() (value, error) {
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.rest = p.rest[i+1:]
			return value{text: b.String(), isText: true}, nil
		case c == '\\' && quote == '"' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case c == '\n':
			return value{}, errors.New("a string does not end")
		default:
			b.WriteByte(c)
		}
		if b.Len() > maxString {
			return value{}, fmt.Errorf("a string of more than %d bytes", maxString)
		}
	}
	return value{}, errors.New("a string does not end")
}

// str is a setting that is one string.
func (s *section) str(name string) (string, error) {
	if v := s.settings[name]; len(v) == 1 && v[0].isText {
		return v[0].text, nil
	}
	return "", fmt.Errorf("%s is no string", name)
}

// num is a setting that is one number, not negative.
func (s *section) num(name string) (uint64, error) {
	if v := s.settings[name]; len(v) == 1 && !v[0].isText && v[0].number >= 0 {
		return uint64(v[0].number), nil
	}
	return 0, fmt.Errorf("%s is no number", name)
}
