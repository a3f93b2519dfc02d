package meter

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

func compressed(t testing.TB, encoding, body string) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	default:
		var err error
		w, err = flate.NewWriter(&b, flate.DefaultCompression)
		require.NoError(t, err)
	}
	_, err := io.WriteString(w, body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestReader_Decompresses(t *testing.T) {
	t.Parallel()
	want := book.Usage{Input: 9, Output: 2}
	body := sse(`{"choices":[{"delta":{"content":"Yes."}}]}`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`)
	for _, c := range []struct {
		header string
		body   []byte
	}{
		{"gzip", compressed(t, "gzip", body)},
		{"X-GZIP", compressed(t, "gzip", body)},
		{"deflate", compressed(t, "zlib", body)},
		{"deflate", compressed(t, "raw", body)},
		{"identity", []byte(body)},
		{"gzip", []byte(body)}, // decompressed on the way by somebody who has left the header
	} {
		for _, pieces := range []int{1, 3, len(c.body)} {
			got := readIn(pieces, chatEndpoint, 200, http.Header{"Content-Encoding": {c.header}}, c.body)
			require.Equal(t, want, got.Usage, c.header)
			require.True(t, got.Complete)
		}
	}
	unread := readIn(1, chatEndpoint, 200, http.Header{"Content-Encoding": {"br"}}, []byte(body))
	require.False(t, unread.Found)
	require.False(t, unread.Complete)
}

func TestReader_CutCompressionLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	start := `{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}`
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, sseOpen(start))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	got := readIn(2, at(t, http.MethodPost, messagesURL), 200, http.Header{"Content-Encoding": {"gzip"}}, b.Bytes())
	require.Equal(t, book.Usage{Input: 10, Output: 1}, got.Usage)
	require.False(t, got.Complete)
}

func TestReader_StopsAtABombAndIgnoresWhatFollows(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	zeros := make([]byte, 1<<20)
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	for range size / len(zeros) {
		_, err = w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	read := 0
	i := newInflater("gzip", func(p []byte) { read += len(p) })
	i.write(b.Bytes())
	i.write(b.Bytes())
	i.close()
	require.Less(t, read, size/3)
}

func TestReader_WritesAfterTheResultAreIgnored(t *testing.T) {
	t.Parallel()
	for _, header := range []http.Header{nil, {"Content-Encoding": {"gzip"}}} {
		r := NewReader(chatEndpoint, 200, header)
		n, err := r.Write([]byte(`{"choices":[],`))
		require.NoError(t, err)
		require.Equal(t, 14, n)
		first := r.Result()
		n, err = r.Write([]byte(`"usage":{"prompt_tokens":9,"completion_tokens":2}}`))
		require.NoError(t, err)
		require.Equal(t, 50, n)
		require.Same(t, first, r.Result())
		require.False(t, first.Found)
	}
}

func TestReader_ReadsErrorsTooAndBelievesNoHeaderOfThem(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-Amzn-Bedrock-Input-Token-Count": {"7"}, "X-Request-Id": {"req-1"}}
	e := Endpoint{Format: Invoke, Kind: Chat}
	got := readIn(1, e, http.StatusBadRequest, h, []byte(`{"message":"no"}`))
	require.False(t, got.Found)
	require.True(t, got.Complete)
	require.Equal(t, "req-1", got.RequestID)
	require.True(t, readIn(1, e, http.StatusOK, h, []byte(`{}`)).Found)
}

// Nothing that a provider sends makes a reader keep more than it began with.
func TestReader_MemoryDoesNotGrowWithTheBody(t *testing.T) { //nolint:paralleltest // it measures the heap
	const size = 8 << 20
	long := strings.Repeat("x", 1<<16)
	for _, c := range []struct{ name, start, middle, end string }{
		{"one string", `{"choices":[{"message":{"content":"`, long, `"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`},
		{"one name", `{"`, long, `":1,"usage":{"prompt_tokens":9,"completion_tokens":2}}`},
		{"one number", `{"x":1`, strings.Repeat("1", 1<<16), `,"usage":{"prompt_tokens":9,"completion_tokens":2}}`},
		{"one model", `{"model":"`, long, `","usage":{"prompt_tokens":9,"completion_tokens":2}}`},
		{"depth", `{"usage":{"prompt_tokens":9,"completion_tokens":2},"x":`, strings.Repeat("[", 1<<16), ``},
		{"depth in what is read", `{"usage":{"prompt_tokens":9,"completion_tokens":2},"choices":`, strings.Repeat(`[{"delta":`, 1<<13), ``},
		{"choices", `{"usage":{"prompt_tokens":9,"completion_tokens":2},"choices":[{}`, strings.Repeat(`,{"finish_reason":"stop"}`, 1<<12), `]}`},
		{"one line of an event", `data: {"choices":[{"delta":{"content":"`, long, "\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"},
		{"one name of a field", `data`, long, "\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"},
		{"comments", ``, strings.Repeat(": keep-alive\n\n", 1<<12), "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"},
		{"blank", `{`, strings.Repeat(" \n", 1<<15), `"usage":{"prompt_tokens":9,"completion_tokens":2}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(chatEndpoint, 200, nil)
			write := func(s string) { _, _ = io.WriteString(r, s) }
			middle := []byte(c.middle)
			write(c.start)
			_, _ = r.Write(middle)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for range size / len(middle) {
				_, _ = r.Write(middle)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(64<<10), "kept")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "allocated on the way")
			write(c.end)
			require.Equal(t, book.Usage{Input: 9, Output: 2}, r.Result().Usage)
		})
	}
}

// An endless reply in which every name is new keeps no more of them than a result has room for, in any format.
func TestReader_MemoryDoesNotGrowWithNewNames(t *testing.T) { //nolint:paralleltest // it measures the heap
	one := func(i int) string {
		n := strconv.Itoa(i)
		usage := `{"input_tokens":1,"output_tokens":1,"promptTokenCount":1,"iterations":[{"type":"advisor_message","model":"m` + n + `","input_tokens":1}],"promptTokensDetails":[{"modality":"M` + n + `","tokenCount":1}]}`
		return `{"type":"t` + n + `","id":"i` + n + `","model":"m` + n + `","stop_reason":"f` + n + `","finish_reason":"f` + n + `","done_reason":"f` + n + `","status":"s` + n + `","service_tier":"t` + n + `",` +
			`"choices":[{"finish_reason":"f` + n + `"}],"candidates":[{"finishReason":"f` + n + `","groundingMetadata":{"webSearchQueries":["q` + n + `"]}}],` +
			`"svg_usage":{"model":"d` + n + `","input_tokens":1,"output_tokens":1},"tools":[{"type":"image_generation","model":"p` + n + `"}],` +
			`"usage":` + usage + `,"usageMetadata":` + usage + `,"billed_units":` + usage + `}`
	}
	for _, e := range everyFormat {
		for _, write := range []func(string) string{func(d string) string { return d + "\n" }, func(d string) string { return sseOpen(d) }, chunk} {
			r := NewReader(e, 200, nil)
			const some, many = 100, 1000
			for i := range some {
				_, _ = io.WriteString(r, write(one(i)))
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range many {
				_, _ = io.WriteString(r, write(one(some+i)))
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<10), "kept by %+v", e)
			got := r.Result()
			require.LessOrEqual(t, len(got.Also), maxModels)
			require.LessOrEqual(t, len(got.FinishReasons), maxReasons)
		}
	}
}

func TestReader_ListsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"usage":{"input_tokens":1,"output_tokens":1,"iterations":[`)
	for i := range 1000 {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(`{"type":"advisor_message","model":"` + strings.Repeat("m", i%150) + `","input_tokens":1,"output_tokens":1}`)
	}
	b.WriteString(`]}}`)
	got := readIn(1, at(t, http.MethodPost, messagesURL), 200, nil, []byte(b.String()))
	require.Len(t, got.Also, maxModels)
	sum := book.Usage{}
	for _, m := range got.Also {
		sum = sum.Plus(m.Usage)
	}
	require.Equal(t, book.Usage{Input: 1000, Output: 1000}, sum, "what has no room of its own is not lost")
}
