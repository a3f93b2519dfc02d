package tenant_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// fault is what happens to a lane's commit.
type fault int

const (
	lostCommit fault = iota // the connection breaks before the commit is sent: the server rolls back
	lostAnswer              // the connection breaks when the server has committed, before the client hears of it
)

var errFault = errors.New("the test has cut the connection")

// faults breaks connections where a test says so.
type faults struct {
	mu     sync.Mutex
	next   fault
	times  int  // how often it still breaks
	stay   bool // nothing connects any more after it broke
	down   bool // nothing connects, and what is connected breaks with its next message
	silent bool // whatever is sent gets no answer
}

// arm makes the next commits break.
func (f *faults) arm(next fault, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.times = next, times
}

// armAndStayDown makes the next commit break, and nothing connects after it.
func (f *faults) armAndStayDown(next fault) {
	f.arm(next, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stay = true
}

// left returns how many breaks are still to come.
func (f *faults) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times
}

func (f *faults) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *faults) setSilent(silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = silent
}

func (f *faults) isSilent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.silent
}

func (f *faults) isDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

// strikes reports whether the fault happens now.
func (f *faults) strikes(now fault) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times == 0 || f.next != now {
		return false
	}
	f.times--
	f.down = f.down || f.stay
	return true
}

// faultyPool opens a pool whose connections break as told.
func faultyPool(t *testing.T, dsn string) (*sql.DB, *faults) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.TLSConfig, config.Fallbacks = nil, nil // the messages are read on the way
	f := &faults{}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if f.isDown() {
			return nil, errFault
		}
		if f.isSilent() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &faultyConn{Conn: conn, faults: f, commits: map[string]bool{}}, nil
	}
	pool := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = pool.Close() })
	return pool, f
}

// faultyConn follows the messages of PostgreSQL's protocol in both directions, to break at the right one. A lane's COMMIT
// is in capitals; what database/sql sends is not.
type faultyConn struct {
	net.Conn
	*faults
	sent    []byte          // the beginning of a message that was not sent whole
	begun   bool            // the first message, which has no type, was sent
	commits map[string]bool // the prepared statements that are a COMMIT
	answers []byte          // messages that were read and are not handed out
}

// Write sends messages on, up to the one at which the connection breaks.
func (c *faultyConn) Write(b []byte) (int, error) {
	if c.isDown() || c.commit(b) && c.strikes(lostCommit) {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	if c.isSilent() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// commit reports whether there is a message in b that has a COMMIT run.
func (c *faultyConn) commit(b []byte) (found bool) {
	c.sent = append(c.sent, b...)
	for {
		head := 1
		if !c.begun {
			head = 0
		}
		if len(c.sent) < head+4 {
			return found
		}
		end := head + int(binary.BigEndian.Uint32(c.sent[head:]))
		if len(c.sent) < end {
			return found
		}
		if head == 1 {
			name, rest := text(c.sent[head+4 : end])
			second, _ := text(rest)
			switch c.sent[0] {
			case 'P': // prepare: its name, its text
				c.commits[name] = second == "COMMIT"
			case 'B': // bind: the portal, the statement
				found = found || c.commits[second]
			}
		}
		c.begun = true
		c.sent = c.sent[end:]
	}
}

// text cuts a text off a message.
func text(b []byte) (string, []byte) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:]
		}
	}
	return "", nil
}

// Read hands out whole messages of the server, up to the one at which the connection breaks.
func (c *faultyConn) Read(b []byte) (int, error) {
	for len(c.answers) == 0 {
		message, err := c.message()
		if err != nil {
			return 0, err
		}
		if string(message[min(5, len(message)):]) == "COMMIT\x00" && message[0] == 'C' && c.strikes(lostAnswer) {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		c.answers = message
	}
	n := copy(b, c.answers)
	c.answers = c.answers[n:]
	return n, nil
}

// message reads one message of the server.
func (c *faultyConn) message() ([]byte, error) {
	message := make([]byte, 5)
	if _, err := io.ReadFull(c.Conn, message); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(message[1:])-4)
	_, err := io.ReadFull(c.Conn, body)
	return append(message, body...), err
}

// faultyLedger opens a ledger whose lanes' connections break as told, on a database whose other connections do not.
func faultyLedger(t *testing.T, options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger, *faults) {
	t.Helper()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	pool, faults := faultyPool(t, dsn)
	return db, openLedger(t, db, append(options, tenant.WithLaneDB(pool))...), faults
}
