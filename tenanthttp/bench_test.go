package tenanthttp

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

const (
	benchAsk   = `{"model":"m","max_tokens":1000,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello"}]}`
	benchChunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}` + "\n\n"
	benchUsage = `data: {"id":"chatcmpl-1","model":"m","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}` + "\n\ndata: [DONE]\n\n"
)

// BenchmarkTransport sends the same requests to one server through a plain transport and through a metering one, in
// turns, and reports what the first costs and what the second adds to it: for a reply of 4 KB, and for each chunk of a
// stream. The server is in the same process and costs both the same.
func BenchmarkTransport(b *testing.B) {
	const chunks = 1000
	reply := `{"id":"chatcmpl-1","model":"m","choices":[{"message":{"content":"` + strings.Repeat("word ", 780) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`
	stream := strings.Repeat(benchChunk, chunks) + benchUsage
	for _, c := range []struct {
		name, body, unit string
		parts            float64
	}{{"JSON of 4 KB", reply, "added-ns/request", 1}, {"chunks of a stream", stream, "added-ns/chunk", chunks}} {
		b.Run(c.name, func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if c.parts > 1 {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			plain := server.Client().Transport
			metered, err := newTransport(&ledger{}, plain)
			require.NoError(b, err)
			var spent [2]time.Duration
			send := func(rt http.RoundTripper) time.Duration {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL+"/v1/chat/completions", strings.NewReader(benchAsk))
				if err != nil {
					b.Fatal(err)
				}
				began := busy()
				resp, err := rt.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				return busy() - began
			}
			for b.Loop() {
				spent[0] += send(plain)
				spent[1] += send(metered)
			}
			b.StopTimer()
			var allocs, size [2]float64
			for i, rt := range []http.RoundTripper{plain, metered} {
				allocs[i], size[i] = allocated(100, func() { send(rt) })
			}
			b.ReportMetric(allocs[1]-allocs[0], "added-allocs/reply")
			b.ReportMetric(size[1]-size[0], "added-B/reply")
			per := float64(b.N) * c.parts
			b.ReportMetric(float64(spent[0])/per, strings.Replace(c.unit, "added", "plain", 1))
			b.ReportMetric(float64(spent[1]-spent[0])/per, c.unit)
		})
	}
}

// allocated returns how often and how much the process allocates in a run.
func allocated(runs int, run func()) (allocs, size float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		run()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(runs), float64(after.TotalAlloc-before.TotalAlloc) / float64(runs)
}

// A stream of any length is read in the memory of a short one.
func TestBody_MemoryDoesNotGrowWithTheStream(t *testing.T) { //nolint:paralleltest // it counts what the whole process allocates
	reading := func(chunks int, ask string) uint64 {
		books := &ledger{}
		transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
			header := http.Header{"Content-Type": {"text/event-stream"}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(&repeated{piece: []byte(benchChunk), left: chunks, end: benchUsage})}, nil
		}))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/chat/completions", strings.NewReader(ask))
		require.NoError(t, err)
		buf := make([]byte, 4096)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		runtime.ReadMemStats(&after)
		require.Equal(t, io.EOF, err)
		require.NoError(t, resp.Body.Close())
		require.EqualValues(t, 1, books.settled.Load())
		require.Equal(t, tenant.Usage{Input: 1000, Output: 500}, books.used)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, ask := range []string{benchAsk, strings.Replace(benchAsk, `"include_usage":true`, `"include_usage":false`, 1)} { // the second with a filter
		reading(10, ask)
		short, long := reading(10, ask), reading(100_000, ask)
		require.Less(t, long, short+64<<10, "a stream of 16 MB allocates as one of 1.6 KB does, but for noise")
	}
}

// repeated is a stream that is made while it is read.
type repeated struct {
	piece []byte
	left  int
	end   string
	rest  []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		switch {
		case r.left > 0:
			r.rest, r.left = r.piece, r.left-1
		case r.end != "":
			r.rest, r.end = []byte(r.end), ""
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Whatever is passed through, in whatever pieces it is read, is what came.
func FuzzBody_PassesEveryByte(f *testing.F) {
	f.Add([]byte(benchChunk+benchUsage), uint8(7))
	f.Add([]byte(`{"usage":{"prompt_tokens":1}}`), uint8(1))
	f.Add([]byte("data: {\"choices\":[]}\r\n\r\n: x\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, reply []byte, size uint8) {
		books := &ledger{}
		transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(reply))}, nil
		}))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/chat/completions", strings.NewReader(benchAsk))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		var got []byte
		buf := make([]byte, int(size)+1)
		for err == nil {
			var n int
			n, err = resp.Body.Read(buf)
			got = append(got, buf[:n]...)
		}
		require.Equal(t, io.EOF, err)
		require.Equal(t, string(reply), string(got))
		require.NoError(t, resp.Body.Close())
		require.EqualValues(t, 1, books.settled.Load())
	})
}
