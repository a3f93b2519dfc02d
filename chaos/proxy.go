package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// proxy stands between ledgers and their database. It passes the messages of PostgreSQL's protocol on as they are, and
// meanwhile does what it is told to: it has statements fail with whatever SQLSTATE, cuts connections after what was sent
// and before what is answered, sends who connects to a database that there is not, and says what pgpool-II says when the
// server behind it is gone.
//
// A statement is failed by the server itself, which raises the error in its place, so that both sides agree about the
// state of the transaction.
type proxy struct {
	listener net.Listener
	server   string // its address
	told     func(what string)
	serving  sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	harm    harm
	open    map[net.Conn]bool
	stopped bool
}

// harm is what a proxy does to those that are connected.
type harm struct {
	codes  []string // of errors that statements fail with
	oneIn  int      // which of the messages that begin a statement or run it
	cutIn  int      // one in how many requests is sent on, and its answer is not; zero: none
	astray bool     // who connects is sent to a database that there is not
	pgpool bool     // the end of the server's sessions is told as pgpool-II tells it
}

// startProxy starts a proxy in front of the database of a URL. It tells of what it does.
func startProxy(dsn string, rng *rand.Rand, told func(what string)) (*proxy, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	p := &proxy{server: u.Host, told: told, rng: rng, open: map[net.Conn]bool{}}
	if p.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	p.serving.Go(func() { p.serve(p.listener) })
	return p, nil
}

// through returns the URL of a database as it is reached by the proxy.
func (p *proxy) through(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	u.Host = p.listener.Addr().String()
	return u.String(), nil
}

// address is where the proxy listens.
func (p *proxy) address() (host string, port int) {
	at, _ := p.listener.Addr().(*net.TCPAddr)
	return at.IP.String(), at.Port
}

// leave ends all connections, and has others be refused, until the proxy comes back.
func (p *proxy) leave() error {
	err := p.listener.Close()
	p.end()
	return err
}

// come listens where the proxy has listened before.
func (p *proxy) come() error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.listener.Addr().String())
	if err != nil {
		return err
	}
	p.listener = listener
	p.serving.Go(func() { p.serve(listener) })
	return nil
}

// do says what harm to do from now on.
func (p *proxy) do(h harm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harm = h
}

// end ends all connections.
func (p *proxy) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// close ends all connections, and takes no more.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.end()
	p.serving.Wait()
}

// keep notes a connection, to be closed with the proxy.
func (p *proxy) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[conn] = true
	if p.stopped {
		_ = conn.Close()
	}
}

func (p *proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *proxy) doing() harm {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.harm
}

// once is true one time in n.
func (p *proxy) once(n int) bool {
	if n <= 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n) == 0
}

// fails draws the code that a statement is to fail with; none if it is to pass.
func (p *proxy) fails() (code string, fails bool) {
	h := p.doing()
	if len(h.codes) == 0 || !p.once(h.oneIn) {
		return "", false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.codes[p.rng.IntN(len(h.codes))], true
}

func (p *proxy) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.keep(client)
		p.serving.Go(func() {
			defer p.drop(client)
			_ = p.session(client) // one side has ended it
		})
	}
}

// session passes a session's messages between a client and the server, until one of them ends it.
func (p *proxy) session(client net.Conn) error {
	from := bufio.NewReader(client)
	startup, err := readStartup(from)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	server, err := dialer.DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		if p.doing().pgpool {
			p.told(pgpooled)
			return tell(client, "failed to create a backend connection", "executing failover on backend")
		}
		return err
	}
	p.keep(server)
	defer p.drop(server)
	if p.doing().astray {
		if startup, err = astray(startup); err != nil {
			return err
		}
		p.told(led)
	}
	if _, err := server.Write(startup); err != nil {
		return err
	}
	l := &line{proxy: p, client: client, server: server}
	var back sync.WaitGroup
	back.Go(func() {
		defer func() { _ = client.Close() }()
		_ = l.answers(bufio.NewReader(server))
	})
	err = l.requests(from)
	_ = server.Close()
	back.Wait()
	return err
}

const (
	longestStartup = 10_000
	protocol3      = 3 << 16
)

// readStartup reads the first message of a client, which has no type.
func readStartup(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 8 || n > longestStartup {
		return nil, fmt.Errorf("a first message of %d bytes", n)
	}
	message := make([]byte, n)
	copy(message, size[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// astray gives a first message the name of a database that there is not. What is no start of a session stays as it is.
func astray(message []byte) ([]byte, error) {
	if binary.BigEndian.Uint32(message[4:])>>16 != protocol3>>16 {
		return message, nil
	}
	var m pgproto3.StartupMessage
	if err := m.Decode(message[4:]); err != nil {
		return nil, err
	}
	m.Parameters["database"] = "moved_away"
	return m.Encode(nil)
}

// tell ends a session in the words of pgpool-II.
func tell(client net.Conn, message, detail string) error {
	m := pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "XX000", Message: message, Detail: detail}
	text, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = client.Write(text)
	if tcp, ok := client.(*net.TCPConn); ok {
		// A close with something unread would take from the client what it was told.
		_ = tcp.CloseWrite()
		_ = tcp.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.Copy(io.Discard, tcp) // until the client ends it
	}
	return errors.Join(err, client.Close())
}
