package meter

import "bytes"

// A frame finds the documents in a body.
type frame interface {
	write([]byte)
	// close is called after the last byte. It reports whether the body has ended where the frame says that it ends.
	close() bool
}

// documents is JSON with nothing around it: one document, several, or an array of them.
type documents struct{ scanner *scanner }

func (d documents) write(p []byte) { d.scanner.write(p) }

func (d documents) close() bool {
	d.scanner.close()
	return d.scanner.whole && d.scanner.state != failed
}

// lines is one document a line. A line that cannot be read does not spoil the next.
type lines struct {
	scanner *scanner
	cut     bool // the last line is not whole
}

func (l *lines) write(p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.scanner.write(p)
			l.cut = true
			return
		}
		l.scanner.write(p[:end])
		l.next()
		p = p[end+1:]
	}
}

func (l *lines) next() {
	l.scanner.close()
	l.cut = !l.scanner.whole
	l.scanner.reset()
}

func (l *lines) close() bool {
	if l.cut {
		l.next()
	}
	return !l.cut
}

// events is the stream of server-sent events. Names of events are passed over: the data say what they are.
type events struct {
	scanner *scanner
	at      place
	n       int // bytes of a field's name
	name    [5]byte
	afterCR bool
	match   int  // bytes of the data that are those of the end mark; -1: it is not
	begun   bool // the event has data
	marked  bool // the end mark was there
}

type place uint8

const (
	inName place = iota
	afterColon
	inData
	inOther
)

const endMark = "[DONE]"

var newline = []byte("\n")

func (e *events) write(p []byte) {
	for len(p) > 0 {
		if e.afterCR {
			e.afterCR = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		switch e.at {
		case inName:
			c := p[0]
			p = p[1:]
			e.nameByte(c)
		case afterColon:
			if p[0] == ' ' {
				p = p[1:]
			}
			e.at = inData
			if e.match = -1; e.scanner.idle() {
				e.match = 0
			}
		default:
			p = e.line(p)
		}
	}
}

func (e *events) nameByte(c byte) {
	switch {
	case c == '\n' || c == '\r':
		e.afterCR = c == '\r'
		if e.n == 0 {
			e.dispatch()
		}
		e.n = 0
	case c == ':':
		e.at = inOther
		if string(e.name[:min(e.n, len(e.name))]) == "data" {
			e.at = afterColon
		}
		e.n = 0
	default:
		if e.n < len(e.name) {
			e.name[e.n] = c
		}
		e.n = min(e.n+1, len(e.name)+1)
	}
}

// line reads up to the end of the line, or of the window.
func (e *events) line(p []byte) []byte {
	w := p[:min(len(p), 16*window)]
	end := bytes.IndexByte(w, '\n')
	if end >= 0 {
		w = w[:end]
	}
	if cr := bytes.IndexByte(w, '\r'); cr >= 0 {
		w, end = w[:cr], cr
	}
	if e.at == inData {
		e.data(w)
	}
	if end < 0 {
		return p[len(w):]
	}
	if e.at == inData {
		e.data(newline)
	}
	e.at, e.afterCR = inName, p[end] == '\r'
	return p[end+1:]
}

func (e *events) data(p []byte) {
	for e.match >= 0 && e.match < len(endMark) && len(p) > 0 {
		if e.match == 0 && p[0] == ' ' {
			p = p[1:]
			continue
		}
		if p[0] != endMark[e.match] {
			e.scanner.write([]byte(endMark[:e.match]))
			e.match = -1
			break
		}
		e.match++
		p = p[1:]
	}
	if e.match == len(endMark) {
		e.marked = true
		return
	}
	e.begun = e.begun || len(p) > 0
	e.scanner.write(p)
}

// dispatch ends an event.
func (e *events) dispatch() {
	if e.begun {
		e.scanner.close()
		e.scanner.reset()
		e.begun = false
	}
}

func (e *events) close() bool {
	e.dispatch()
	return e.marked
}

// opaque is a body that says nothing: sound, or an encoding that nobody here reads.
type opaque struct{}

func (opaque) write([]byte) {}
func (opaque) close() bool  { return false }
