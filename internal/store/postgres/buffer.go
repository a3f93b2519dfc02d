package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// buffer is what a session's requests are written into on their way to the server. pgx forgets its own one with every request of
// more than forgotten bytes, and makes the next in many steps.
type buffer []byte

const (
	forgotten = 1024

	// maxBuffer bounds what is kept between requests.
	maxBuffer = 1 << 20
)

// Frontend implements pgproto3.FrontendMessage, as the methods beside it. It is a message of no bytes: whatever follows is
// written into the buffer.
func (buffer) Frontend() {}

// Decode is never called.
func (buffer) Decode([]byte) error { return nil }

// Encode returns the buffer with what is to be sent before.
func (b buffer) Encode(before []byte) ([]byte, error) { return append(b[:0], before...), nil }

// send sends a request and reads all of its results. Only a request that pgx forgets is written into the buffer, so that nobody
// else writes into it: the connection may be given back to the pool.
func (s *session) send(ctx context.Context, conn *pgx.Conn, r *request) error {
	if r.size <= forgotten || r.untyped || r.size > maxBuffer {
		return conn.SendBatch(ctx, &r.Batch).Close()
	}
	memory := s.buffer
	s.buffer = nil
	if room := r.size + r.size/4; cap(memory) < room {
		memory = make(buffer, 0, room)
	}
	conn.PgConn().Frontend().Send(memory)
	err := conn.SendBatch(ctx, &r.Batch).Close()
	if err == nil {
		s.buffer = memory
	}
	return err
}

// weight is how many bytes an argument takes at least.
func weight(arg any) int {
	const head = 4 // of each value
	switch v := arg.(type) {
	case string:
		return len(v) + head
	case [][16]byte:
		return len(v) * (head + 16)
	case []string:
		n := 0
		for i := range v {
			n += len(v[i]) + head
		}
		return n
	}
	return head
}
