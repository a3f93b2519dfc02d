package meter

import (
	"bytes"
	"unicode/utf8"
)

const (
	maxLevels = 16  // how deep a schema reaches; what is deeper is counted, not stored
	maxToken  = 160 // bytes of a key, number or kept string; a longer one is passed over
	window    = 256 // bytes in which a string's end is searched at a time
)

// A value is a scalar as it stands in a document: the text of a string without its quotes and escapes, or a number,
// true or false. Null is never reported: it is the same as absent.
type value struct {
	text   []byte // valid during the call
	quoted bool
}

func (v value) is(s string) bool { return string(v.text) == s }
func (v value) isTrue() bool     { return !v.quoted && v.is("true") }

// A handler is told what a scanner finds at the paths of its schema.
type handler interface {
	begin(field)         // an object or array
	end(field)           //
	scalar(field, value) //
	text(field, text)    // a counted string has ended
	pipe(field, []byte)  // a piece of a piped string; nil ends it
	done()               // a document is whole: a top-level value, or an element of a top-level array
}

// A scanner reads a sequence of JSON documents in pieces of any size. It is lenient: what it was not asked for is
// skipped by its quotes and brackets alone.
type scanner struct {
	h     handler
	root  *node
	stack [maxLevels]*node // of the objects and arrays that are open; nil: a top-level array, whose elements are documents
	lists uint32           // which of them are arrays, by bits
	depth int
	skip  int // brackets open below a value that nobody asked for
	state state
	back  state // after a string
	whole bool  // the last document has ended, and none has begun since
	isKey bool
	node  *node // of the value that is next, or being read
	how   treatment
	drop  bool
	esc   int // hex digits of an escape that are still to come
	hex   rune
	high  rune // first half of a surrogate pair
	n     int
	tok   []byte // of maxToken bytes; it is apart, so that what is reported of it does not move the scanner to the heap
	long  bool
	count text
	one   []byte // room for the character of an escape
}

type state uint8

const (
	beforeValue state = iota
	beforeElement
	beforeKey
	afterKey
	afterValue
	inString
	inEscape
	inHex
	inPlain
	inSkip
	failed
)

func newScanner(root *node, h handler) *scanner {
	s := makeScanner(root, h, new(room))
	return &s
}

// room is where a scanner keeps what it reports.
type room [maxToken + utf8.UTFMax]byte

func makeScanner(root *node, h handler, r *room) scanner {
	return scanner{h: h, root: root, tok: r[:maxToken], one: r[maxToken:]}
}

// reset forgets an unfinished document.
func (s *scanner) reset() {
	s.depth, s.skip, s.state, s.isKey, s.high = 0, 0, beforeValue, false, 0
}

// idle reports whether no document has begun that has not ended.
func (s *scanner) idle() bool { return s.depth == 0 && s.state == beforeValue }

// write scans a piece. After an error it passes over everything up to the next reset.
func (s *scanner) write(p []byte) {
	for i := 0; i < len(p); {
		switch s.state {
		case failed:
			return
		case inString:
			i += s.inString(p[i:])
			continue
		case inSkip:
			i += s.inSkip(p[i:])
			continue
		}
		c := p[i]
		i++
		switch s.state {
		case inEscape:
			s.escape(c)
			continue
		case inHex:
			s.hexDigit(c)
			continue
		case inPlain:
			if isPlain(c) {
				s.keep(c)
				continue
			}
			s.endPlain()
		}
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			continue
		}
		s.structure(c)
	}
}

// close ends a document that ends by the end of the input alone: a bare number or literal. Inside of something that has
// not ended, a number may be cut in the middle: it is not reported.
func (s *scanner) close() {
	if s.state == inPlain && s.depth == 0 {
		s.endPlain()
	}
}

func (s *scanner) structure(c byte) {
	switch s.state {
	case beforeElement:
		if c == ']' {
			s.pop(true)
			return
		}
		s.value(c)
	case beforeValue:
		if s.depth == 0 {
			s.node, s.whole = s.root, false
			if c == '[' {
				s.push(nil, true)
				s.state = beforeElement
				return
			}
		}
		s.value(c)
	case beforeKey:
		switch c {
		case '"':
			s.isKey, s.how, s.drop = true, keep, false
			s.string(afterKey)
		case '}':
			s.pop(false)
		default:
			s.state = failed
		}
	case afterKey:
		if c != ':' {
			s.state = failed
			return
		}
		s.state = beforeValue
	case afterValue:
		switch {
		case c == ',' && s.inArray():
			s.state, s.node = beforeElement, s.root
			if top := s.stack[s.depth-1]; top != nil {
				s.node = top.elements
			}
		case c == ',':
			s.state = beforeKey
		case c == ']' || c == '}':
			s.pop(c == ']')
		default:
			s.state = failed
		}
	}
}

// value begins the value of s.node.
func (s *scanner) value(c byte) {
	n := s.node
	switch {
	case c == '{' && n != nil && n.members != nil, c == '[' && n != nil && n.elements != nil:
		if s.depth == maxLevels {
			s.state = failed
			return
		}
		s.push(n, c == '[')
		if n.field != fieldNone {
			s.h.begin(n.field)
		}
		s.state = beforeKey
		if c == '[' {
			s.state, s.node = beforeElement, n.elements
		}
	case c == '{' || c == '[':
		if n != nil && n.field != fieldNone {
			s.h.begin(n.field)
			s.h.end(n.field)
		}
		s.skip, s.state = 1, inSkip
	case c == '"':
		s.isKey, s.drop = false, n == nil || n.field == fieldNone
		if !s.drop {
			s.how = n.how
		}
		s.string(afterValue)
	case isPlain(c) && c != '+' && c != '.':
		s.n, s.long = 0, false
		s.keep(c)
		s.state = inPlain
	default:
		s.state = failed
	}
}

func (s *scanner) push(n *node, array bool) {
	s.stack[s.depth] = n
	s.lists &^= 1 << s.depth
	if array {
		s.lists |= 1 << s.depth
	}
	s.depth++
}

// inArray reports whether the innermost of what is open is an array.
func (s *scanner) inArray() bool { return s.lists&(1<<(s.depth-1)) != 0 }

func (s *scanner) pop(array bool) {
	if s.inArray() != array {
		s.state = failed
		return
	}
	s.depth--
	n := s.stack[s.depth]
	if n != nil && n.field != fieldNone {
		s.h.end(n.field)
	}
	s.ended(n != nil)
}

// ended is called after each value that was not skipped.
func (s *scanner) ended(document bool) {
	s.state = afterValue
	if document && (s.depth == 0 || s.depth == 1 && s.stack[0] == nil) {
		s.h.done()
	}
	if s.depth == 0 {
		s.state, s.whole = beforeValue, true
	}
}

func isPlain(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E'
}

func (s *scanner) endPlain() {
	first := s.tok[0]
	if n := s.node; n != nil && n.field != fieldNone && first != 'n' {
		text := s.tok[:s.n]
		if s.long {
			text = nil
		}
		s.h.scalar(n.field, value{text: text})
	}
	s.ended(true)
}

// inSkip looks for the end of what is skipped.
func (s *scanner) inSkip(p []byte) int {
	for i, c := range p {
		switch c {
		case '"':
			s.isKey, s.drop = false, true
			s.string(inSkip)
			return i + 1
		case '{', '[':
			s.skip++
		case '}', ']':
			if s.skip--; s.skip == 0 {
				s.ended(true)
				return i + 1
			}
		}
	}
	return len(p)
}

func (s *scanner) string(back state) {
	s.n, s.long, s.count, s.high = 0, false, text{}, 0
	s.state, s.back = inString, back
}

func (s *scanner) inString(p []byte) int {
	for i := 0; i < len(p); {
		w := p[i:min(i+window, len(p))]
		end := bytes.IndexByte(w, '"')
		if end >= 0 {
			w = w[:end]
		}
		escape := bytes.IndexByte(w, '\\')
		if escape >= 0 {
			w = w[:escape]
		}
		s.piece(w)
		i += len(w)
		switch {
		case escape >= 0:
			s.state = inEscape
			return i + 1
		case end >= 0:
			s.endString()
			return i + 1
		}
	}
	return len(p)
}

func (s *scanner) piece(w []byte) {
	switch {
	case s.drop || len(w) == 0:
	case s.how == count:
		s.count.add(w)
	case s.how == pipe:
		s.h.pipe(s.node.field, w)
	case s.how == measure:
		s.count.add(w)
		s.n += copy(s.tok[s.n:], w)
	case s.n+len(w) > maxToken:
		s.long = true
	default:
		s.n += copy(s.tok[s.n:], w)
	}
}

func (s *scanner) keep(c byte) {
	if s.n == maxToken {
		s.long = true
		return
	}
	s.tok[s.n] = c
	s.n++
}

func (s *scanner) escape(c byte) {
	s.state = inString
	switch c {
	case 'u':
		s.state, s.esc, s.hex = inHex, 4, 0
		return
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	}
	s.one[0] = c
	s.piece(s.one[:1])
}

func (s *scanner) hexDigit(c byte) {
	var d byte
	switch {
	case '0' <= c && c <= '9':
		d = c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		d = c | 0x20 - 'a' + 10
	default:
		s.state = failed
		return
	}
	s.hex = s.hex<<4 | rune(d)
	if s.esc--; s.esc > 0 {
		return
	}
	s.state = inString
	const surrogate, low, after = 0xd800, 0xdc00, 0xe000
	r := s.hex
	switch {
	case surrogate <= r && r < low:
		s.high = r
		return
	case low <= r && r < after && s.high != 0:
		r = (s.high-surrogate)<<10 + (r - low) + 0x10000
	}
	s.high = 0
	s.piece(s.one[:utf8.EncodeRune(s.one, r)])
}

func (s *scanner) endString() {
	s.state = s.back
	if s.isKey {
		s.isKey, s.node = false, nil
		in := s.stack[s.depth-1]
		if !s.long {
			s.node = in.members[string(s.tok[:s.n])]
		}
		if s.node == nil {
			s.node = in.rest
		}
		return
	}
	if s.back == inSkip {
		return
	}
	if !s.drop {
		switch f := s.node.field; {
		case s.how == measure:
			s.h.scalar(f, value{s.tok[:s.n], true})
			s.h.text(f, s.count)
		case s.how == count:
			s.h.text(f, s.count)
		case s.how == pipe:
			s.h.pipe(f, nil)
		case !s.long:
			s.h.scalar(f, value{s.tok[:s.n], true})
		}
	}
	s.ended(true)
}
