package document

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// escape writes any bytes as text that every XML processor keeps as it is.
//
// Linux names are bytes: a volume's path may hold control characters or be no
// UTF-8 at all, XML 1.0 has no way to say either, and attribute values lose
// tabs and line ends. So a backslash becomes \\, and every byte that is not
// part of a printable character becomes \xHH. All else is written as it is.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && n == 1, !plain(r):
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// plain reports whether the character survives every XML processor: a Char of
// XML 1.0 that is neither a control character nor a line or paragraph
// separator, which XML 1.1 and editors turn into line ends.
func plain(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f, r == 0x2028, r == 0x2029, r == 0xfeff, r == 0xfffe, r == 0xffff:
		return false
	}
	return true
}

// unescape reads what escape wrote and nothing else: every value has one
// spelling.
func unescape(t string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		switch {
		case t[i] != '\\':
			b.WriteByte(t[i])
		case strings.HasPrefix(t[i:], `\\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(t[i:], `\x`) && i+4 <= len(t) && hexDigit(t[i+2]) && hexDigit(t[i+3]):
			b.WriteByte(unhex(t[i+2])<<4 | unhex(t[i+3]))
			i += 3
		default:
			return "", fmt.Errorf("a backslash is followed by neither a backslash nor x and two lower-case hexadecimal digits")
		}
	}
	s := b.String()
	if escape(s) != t {
		return "", fmt.Errorf("the text is not in its canonical spelling")
	}
	return s, nil
}

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
