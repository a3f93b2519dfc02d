package harness

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// patience is how long anything is waited for that ought to happen at once. Only a test that fails waits so long.
const patience = 20 * time.Second

// A play is what the server does in one case.
type play struct {
	reply func(r *Request) Reply

	// seen is where the caller says which piece of a stream it has seen; the server sends nothing more before. Nil sends
	// the parts one after the other.
	seen chan string

	// endless keeps a stream open after its last part, until whoever reads it has gone.
	endless bool

	// more has the server of an endless stream send another part when it is closed. Nil sends none.
	more chan struct{}
	next Part

	mu       sync.Mutex
	requests []*Request
	left     chan struct{} // closed when the reader of an endless stream has gone
}

// got returns the requests that have come so far.
func (p *play) got() []*Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Request(nil), p.requests...)
}

// server is the provider: what is on does what its play says.
type server struct {
	*httptest.Server
	t     testing.TB
	check func(*Request) error

	mu sync.Mutex
	on *play
}

func newServer(t testing.TB, check func(*Request) error) *server {
	s := &server{t: t, check: check}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// play has the server do another play.
func (s *server) play(p *play) *play {
	p.left = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = p
	return p
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p := s.on
	s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	request := &Request{Method: r.Method, Host: r.Host, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body}
	if s.check != nil {
		if err := s.check(request); err != nil {
			s.t.Errorf("%s %s: %v", request.Method, request.Path, err)
		}
	}
	p.mu.Lock()
	p.requests = append(p.requests, request)
	p.mu.Unlock()
	reply := p.reply(request)
	for name, values := range reply.Header {
		w.Header()[name] = values
	}
	if reply.Status != 0 {
		w.WriteHeader(reply.Status)
	}
	for _, part := range reply.Parts {
		_, _ = io.WriteString(w, part.Data)
		if len(reply.Parts) > 1 || reply.Abort {
			_ = http.NewResponseController(w).Flush()
		}
		if part.Text == "" || p.seen == nil {
			continue
		}
		select {
		case piece := <-p.seen:
			if piece != part.Text {
				s.t.Errorf("after %q was sent, the caller saw %q", part.Text, piece)
			}
		case <-r.Context().Done():
		case <-time.After(patience):
			s.t.Errorf("the caller has not seen %q while the rest of the stream was yet to come", part.Text)
			return
		}
	}
	if reply.Abort {
		panic(http.ErrAbortHandler) //nolint:forbidigo // so does a handler break its connection
	}
	if p.endless {
		if p.more != nil {
			select {
			case <-p.more:
				_, _ = io.WriteString(w, p.next.Data)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
			}
		}
		select {
		case <-r.Context().Done():
			close(p.left)
		case <-time.After(patience):
		}
	}
}

// A tap notes what passes between an SDK and the transport.
type tap struct {
	next http.RoundTripper

	mu    sync.Mutex
	calls []*exchange
}

// An exchange is a request as the SDK has made it, and what it has read of the reply.
type exchange struct {
	request *Request

	mu   sync.Mutex
	read []byte
}

func (e *exchange) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.read)
}

// RoundTrip implements http.RoundTripper.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	e := &exchange{request: &Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone()}}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		e.request.Body = body
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	t.mu.Lock()
	t.calls = append(t.calls, e)
	t.mu.Unlock()
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = &tapped{ReadCloser: resp.Body, to: e}
	}
	return resp, err
}

// take returns what has passed since it was last asked.
func (t *tap) take() []*exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := t.calls
	t.calls = nil
	return calls
}

type tapped struct {
	io.ReadCloser
	to *exchange
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.to.mu.Lock()
	defer t.to.mu.Unlock()
	t.to.read = append(t.to.read, p[:n]...)
	return n, err
}
