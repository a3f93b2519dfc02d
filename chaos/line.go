package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// line is one session through a proxy.
type line struct {
	*proxy
	client, server net.Conn

	mu     sync.Mutex
	hidden []bool // of the answers "ready" that are to come, which the client did not ask for
	mute   bool   // nothing more is answered
}

// message is one of the protocol's, with its header.
type message []byte

func (m message) kind() byte { return m[0] }

const (
	headerSize     = 5
	longestMessage = 64 << 20
)

func readMessage(r *bufio.Reader) (message, error) {
	header, err := r.Peek(headerSize)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n < 4 || n > longestMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	m := make(message, 1+n)
	_, err = io.ReadFull(r, m)
	return m, err
}

// The kinds of messages that matter here.
const (
	simple  = 'Q' // a statement as text, answered by "ready"
	parse   = 'P'
	bind    = 'B'
	execute = 'E'
	syncs   = 'S' // the end of a request of several messages, answered by "ready"
	ready   = 'Z' // of the server's, as are those below
	refusal = 'E'
)

// requests passes on what the client sends.
func (l *line) requests(from *bufio.Reader) error {
	code, failing := "", false // the rest of the request is swallowed, and the server raises an error in its place
	for {
		m, err := readMessage(from)
		if err != nil {
			return err
		}
		ends := m.kind() == simple || m.kind() == syncs
		switch {
		case failing:
			if !ends {
				continue
			}
			failing = false
			if err := l.fail(code, true); err != nil {
				return err
			}
			continue
		case m.kind() == simple, m.kind() == parse, m.kind() == bind, m.kind() == execute:
			if code, failing = l.fails(); failing {
				l.told(injected)
				if m.kind() != simple {
					continue
				}
				failing = false
				if err := l.fail(code, false); err != nil {
					return err
				}
				continue
			}
		}
		cut := ends && l.once(l.doing().cutIn)
		if cut {
			l.silence()
		}
		if ends {
			l.expect(false)
		}
		if cut {
			l.told(unanswered) // before the client can see it
		}
		if _, err := l.server.Write(m); err != nil {
			return err
		}
	}
}

// fail has the server raise an error. In a request of several messages, what was sent of it is ended first: the server
// heeds nothing else after an error of its own.
func (l *line) fail(code string, several bool) error {
	var out []byte
	var err error
	if several {
		l.expect(true)
		if out, err = (&pgproto3.Sync{}).Encode(out); err != nil {
			return err
		}
	}
	l.expect(false)
	raise := pgproto3.Query{String: "DO $$ BEGIN RAISE EXCEPTION 'chaos: this statement was made to fail' USING ERRCODE = '" + code + "'; END $$"}
	if out, err = raise.Encode(out); err != nil {
		return err
	}
	_, err = l.server.Write(out)
	return err
}

// expect notes that the server is going to say once more that it is ready.
func (l *line) expect(hidden bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = append(l.hidden, hidden)
}

// silence lets no answer through any more: not even one that is on its way.
func (l *line) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute = true
}

// answers passes on what the server says. The end of a session it tells as pgpool-II does, where it is told to.
func (l *line) answers(from *bufio.Reader) error {
	loggedIn := false
	for {
		m, err := readMessage(from)
		if (err != nil || fatal(m)) && loggedIn && l.doing().pgpool && !l.muted() {
			l.told(pgpooled)
			return tell(l.client, "unable to read data from DB node 0", "EOF encountered with backend")
		}
		if err != nil {
			return err
		}
		loggedIn = loggedIn || m.kind() == ready
		hidden := l.hides(m)
		if l.muted() { // also the answers to what was sent before
			if m.kind() == ready && l.idle() {
				return errCut // what was sent is carried out
			}
			continue
		}
		if hidden {
			continue
		}
		if _, err := l.client.Write(m); err != nil {
			return err
		}
	}
}

// fatal reports whether a message of the server's ends the session.
func fatal(m message) bool {
	if m.kind() != refusal {
		return false
	}
	var said pgproto3.ErrorResponse
	return said.Decode(m[headerSize:]) == nil && said.Severity == "FATAL"
}

var errCut = errors.New("cut off")

// idle reports whether the server has answered all requests.
func (l *line) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.hidden) == 0
}

func (l *line) muted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mute
}

// hides reports whether an answer is one that the client did not ask for.
func (l *line) hides(m message) bool {
	if m.kind() != ready {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hidden) == 0 {
		return false // of the login
	}
	hidden := l.hidden[0]
	l.hidden = l.hidden[1:]
	return hidden
}
