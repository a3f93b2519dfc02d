package tenanthttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/llmtenant/tenant/internal/meter"
)

// body passes a reply's body through, and has it read on the way. It ends once: with the body, with Close, with the
// context, or with an error, whichever comes first; and whoever comes second waits until the first has booked the call.
type body struct {
	inner  io.ReadCloser
	status int
	filter *meter.UsageFilter
	ended  func(b *body, err error) // err is nil where the body was read to its end
	stop   func() bool              // no longer ends with the context

	once sync.Once

	mu     sync.Mutex // the context ends in a goroutine of its own
	reader io.Writer  // of a copy; never fails
	over   bool       // nothing is read any more
	head   []byte     // the beginning of the reply of a proxy
	some   bool       // there was a byte

	room   []byte // for what the filter lets through
	passed []byte // the part of it that nobody has read yet
	err    error  // that comes after it
}

// follow makes a body the reply's, or ends at once where the reply has none.
func (b *body) follow(ctx context.Context, resp *http.Response) {
	if b.inner == nil || b.inner == http.NoBody {
		b.end(nil)
		return
	}
	resp.Body = b
	b.stop = context.AfterFunc(ctx, func() { b.end(ctx.Err()) })
}

// mostAhead is more than an error has to say.
const mostAhead = 64 << 10

// ahead reads the beginning of an error before it is handed over, which is nearly always all of it, so that its call is on
// the books. There are SDKs that neither read nor close the reply that has them try again (openai-go in its first version):
// each such attempt would hold the budget until its context ends.
func (b *body) ahead(resp *http.Response) {
	if resp.Body != b {
		return
	}
	var (
		read bytes.Buffer
		err  error
	)
	for err == nil && read.Len() < mostAhead {
		var n int
		read.Grow(bytes.MinRead)
		n, err = b.Read(read.AvailableBuffer()[:bytes.MinRead])
		read.Write(read.AvailableBuffer()[:n])
	}
	rest := io.Reader(b)
	if err != nil {
		rest = failing{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&read, rest), b}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// end ends the reading. After it, bytes still pass, and are not read.
func (b *body) end(err error) {
	b.once.Do(func() {
		b.mu.Lock()
		b.over = true
		b.mu.Unlock()
		b.ended(b, err)
	})
}

// Read implements [io.Reader]. It returns the end of the body after the call is on the books.
func (b *body) Read(p []byte) (int, error) {
	if b.filter != nil && len(p) > 0 {
		return b.filtered(p)
	}
	return b.pass(p)
}

func (b *body) pass(p []byte) (n int, err error) {
	returned := false
	defer func() {
		if !returned {
			b.end(errPanicked)
		}
	}()
	n, err = b.inner.Read(p)
	returned = true
	b.feed(p[:n])
	if err != nil {
		b.stop()
		b.end(unlessEOF(err))
	}
	return n, err
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (b *body) feed(p []byte) {
	if len(p) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.some = true; b.over {
		return
	}
	if proxied(b.status) && len(b.head) < mostHead {
		b.head = append(b.head, p[:min(len(p), mostHead-len(b.head))]...)
	}
	_, _ = b.reader.Write(p)
}

// filtered reads what the filter lets through.
func (b *body) filtered(p []byte) (int, error) {
	for len(b.passed) == 0 && b.err == nil {
		n, err := b.pass(p)
		b.room = b.filter.Append(b.room[:0], p[:n])
		if err != nil {
			b.room, b.err = b.filter.Flush(b.room), err
		}
		b.passed = b.room
	}
	n := copy(p, b.passed)
	b.passed = b.passed[n:]
	if len(b.passed) > 0 {
		return n, nil
	}
	return n, b.err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	b.stop()
	defer b.end(errClosed)
	return b.inner.Close()
}

const mostHead = 4 << 10

// proxied reports whether a status is a proxy's for a provider that it had given the request and heard nothing from.
func proxied(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusGatewayTimeout, 520, 524: // the last two are Cloudflare's
		return true
	}
	return false
}

// lost reports whether the reply is a proxy's that has lost the provider, which may bill the call. A provider's own
// errors have an error in them.
func (b *body) lost() bool {
	return proxied(b.status) && !bytes.Contains(b.head, []byte(`"error"`))
}

// filterable reports whether a reply is a stream of events that can be read.
func filterable(resp *http.Response) bool {
	return resp.StatusCode/100 == 2 && meter.MediaType(resp.Header) == "text/event-stream" && resp.Header.Get("Content-Encoding") == ""
}
