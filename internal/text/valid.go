package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// most is how many bytes an indexed column takes.
const most = 255

// Valid checks what goes into an indexed text column.
func Valid(kind error, what, s string, required bool) error {
	switch {
	case s == "" && required:
		return fmt.Errorf("%w: the %s is empty", kind, what)
	case len(s) > most:
		return fmt.Errorf("%w: the %s %.32q… has %d bytes, and %d are allowed", kind, what, s, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: the %s %q is not UTF-8", kind, what, s)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: the %s %q has a control character", kind, what, s)
	}
	return nil
}

// OuterSpace returns an error for what begins or ends with a space of whatever kind, also one that has no width.
func OuterSpace(kind error, what, s string) error {
	space := func(r rune) bool { return unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff' }
	if strings.TrimFunc(s, space) != s {
		return fmt.Errorf("%w: the %s %q has a space at an end", kind, what, s)
	}
	return nil
}

// Printable makes text that a provider chose fit for its column. It never fails: the call was made and paid for.
func Printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
