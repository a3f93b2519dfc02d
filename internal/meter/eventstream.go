package meter

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	preludeLen     = 12 // two lengths and their checksum
	checksumLen    = 4
	maxMessage     = 24 << 20 // more than the encoding allows
	maxHeaders     = 128 << 10
	maxHeadersKept = 2 << 10
)

// messages reads the binary event stream of AWS: each message has headers and a payload, which is one JSON document.
type messages struct {
	scanner *scanner
	prelude [preludeLen]byte
	headers [maxHeadersKept]byte
	n       int // bytes of the prelude or of the headers that are kept
	at      part
	left    int // bytes of this part
	payload int
	failed  bool // an exception was among the messages, or the encoding is broken
}

type part uint8

const (
	inPrelude part = iota
	inHeaders
	inPayload
	inChecksum
)

func (m *messages) write(p []byte) {
	for len(p) > 0 {
		switch m.at {
		case inPrelude:
			n := copy(m.prelude[m.n:], p)
			m.n += n
			p = p[n:]
			if m.n == preludeLen && !m.begin() {
				m.failed = true
				m.at, m.left = inChecksum, 1<<62 // nothing after it can be found again
			}
			continue
		case inHeaders:
			w := p[:min(len(p), m.left)]
			m.n += copy(m.headers[m.n:], w)
			p = m.pass(p, len(w))
		case inPayload:
			w := p[:min(len(p), m.left)]
			m.scanner.write(w)
			p = m.pass(p, len(w))
		case inChecksum:
			p = m.pass(p, min(len(p), m.left))
		}
		m.advance()
	}
}

func (m *messages) pass(p []byte, n int) []byte {
	m.left -= n
	return p[n:]
}

// begin reads a prelude. It reports whether it is one.
func (m *messages) begin() bool {
	total := binary.BigEndian.Uint32(m.prelude[0:])
	headers := binary.BigEndian.Uint32(m.prelude[4:])
	sum := binary.BigEndian.Uint32(m.prelude[8:])
	if sum != crc32.ChecksumIEEE(m.prelude[:8]) || total > maxMessage || headers > maxHeaders ||
		total < preludeLen+headers+checksumLen {
		return false
	}
	m.n, m.at, m.left = 0, inHeaders, int(headers)
	m.payload = int(total - preludeLen - headers - checksumLen)
	m.advance()
	return true
}

// advance goes on to the next part that has bytes.
func (m *messages) advance() {
	for m.left == 0 {
		switch m.at {
		case inHeaders:
			if exception(m.headers[:m.n]) {
				m.failed = true
			}
			m.at, m.left = inPayload, m.payload
		case inPayload:
			m.scanner.close()
			m.scanner.reset()
			m.at, m.left = inChecksum, checksumLen
		case inChecksum:
			m.at, m.n = inPrelude, 0
			return
		case inPrelude:
			return
		}
	}
}

// exception reports whether the headers say that the message is none of the model's.
func exception(h []byte) bool {
	const str = 7 // the type of a header that is text
	for len(h) > 0 {
		name := int(h[0])
		if len(h) < 1+name+1 {
			return false
		}
		key, typ := h[1:1+name], h[1+name]
		h = h[2+name:]
		size := 0
		switch typ {
		case 0, 1: // true and false
		case 2:
			size = 1
		case 3:
			size = 2
		case 4:
			size = 4
		case 5, 8:
			size = 8
		case 9:
			size = 16
		case 6, str:
			if len(h) < 2 {
				return false
			}
			size = int(binary.BigEndian.Uint16(h))
			h = h[2:]
		default:
			return false
		}
		if len(h) < size {
			return false
		}
		if typ == str && string(key) == ":message-type" {
			return string(h[:size]) != "event"
		}
		h = h[size:]
	}
	return false
}

func (m *messages) close() bool { return false }
