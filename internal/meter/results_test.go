package meter

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

const (
	openAIFile  = "https://api.openai.com/v1/files/f-1/content"
	azureFile   = "https://x.openai.azure.com/openai/files/f-1/content"
	googleFile  = "https://generativelanguage.googleapis.com/v1beta/files/f-1:download"
	googleBatch = "https://generativelanguage.googleapis.com/v1beta/batches/b-1"
	claudeBatch = "https://api.anthropic.com/v1/messages/batches/b-1/results"
	mistralJobs = "https://api.mistral.ai/v1/batch/jobs/j-1"
	xaiBatch    = "https://api.x.ai/v1/batches/b-1/results"
	routedBatch = "https://openrouter.ai/api/v1/batches/b-1"

	completion = `{"id":"batch_req_1","custom_id":"a","response":{"status_code":200,"request_id":"req-1","body":{"id":"chatcmpl-1","model":"m",` +
		`"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10}}}},"error":null}`
	embedding = `{"id":"batch_req_2","custom_id":"b","response":{"status_code":200,"request_id":"req-2","body":{"object":"list","model":"e",` +
		`"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}},"error":null}`
	response = `{"id":"batch_req_3","custom_id":"c","response":{"status_code":200,"request_id":"req-3","body":{"id":"resp_1","model":"r",` +
		`"status":"completed","output":[{"type":"web_search_call"}],"usage":{"input_tokens":7,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":3}}}},"error":null}`
	refused = `{"id":"batch_req_4","custom_id":"d","response":{"status_code":400,"request_id":"req-4","body":{"error":{"message":"no"}}},"error":null}`
	expired = `{"id":"batch_req_5","custom_id":"e","response":null,"error":{"code":"batch_expired","message":"late"}}`
)

// fetched is what was read of a batch's results.
type fetched struct {
	lines []Line
	known bool
}

func fetch(t testing.TB, rawURL string, status int, header http.Header, body string, pieces int, ended bool) (f fetched) {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	e, ok := Recognise(http.MethodGet, u)
	require.True(t, ok)
	r := NewResults(e, status, header, func(l Line) { f.lines = append(f.lines, l) })
	size := max(len(body)/max(pieces, 1), 1)
	for rest := body; len(rest) > 0; {
		n := min(size, len(rest))
		_, _ = r.Write([]byte(rest[:n]))
		rest = rest[n:]
	}
	f.known = r.Close(ended)
	return f
}

func TestResults_EachLineOfABatchIsACall(t *testing.T) {
	t.Parallel()
	const gemini = `{"response":{"modelVersion":"g","candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11}}}`
	geminiUse, small := book.Usage{Input: 9, Output: 2}, book.Usage{Input: 20, CacheRead: 10, Output: 5}
	type call struct {
		key, model, request string
		usage               book.Usage
	}
	for _, c := range []struct {
		name, url, body string
		want            []call
	}{
		{"OpenAI's", openAIFile, strings.Join([]string{completion, embedding, response, refused, expired}, "\n"), []call{
			{"batch_req_1", "m", "req-1", small}, {"batch_req_2", "e", "req-2", book.Usage{Input: 8}},
			{"batch_req_3", "r", "req-3", book.Usage{Input: 7, Output: 1, Reasoning: 3, WebSearches: 1}},
		}},
		{"OpenAI's, of what has failed", openAIFile, expired + "\n" + refused + "\n", nil},
		{"Azure's, whose lines have no id", azureFile, strings.Replace(completion, `"id":"batch_req_1",`, "", 1) + "\r\n\r\n", []call{{"f-1/a", "m", "req-1", small}}},
		{"with ids of another kind", openAIFile, strings.Replace(completion, `batch_req_1`, "0", 1), []call{{"f-1/a", "m", "req-1", small}}},
		{"with a name that is too long, but an id", openAIFile, strings.Replace(completion, `"custom_id":"a"`, `"custom_id":"`+strings.Repeat("a", 300)+`"`, 1), []call{{"batch_req_1", "m", "req-1", small}}},
		{"Anthropic's", claudeBatch, `{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","model":"x","usage":{"input_tokens":20,"cache_read_input_tokens":3,"output_tokens":5,"service_tier":"batch"}}}}
{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"message":"no"}}}}
{"custom_id":"c","result":{"type":"expired"}}
{"custom_id":"d","result":{"type":"succeeded","message":{"id":"msg_2","model":"y","usage":{"input_tokens":7,"output_tokens":1}}}}
`, []call{
			{"b-1/a", "x", "msg_1", book.Usage{Input: 20, CacheRead: 3, Output: 5}}, {"b-1/d", "y", "msg_2", book.Usage{Input: 7, Output: 1}},
		}},
		{"Google's, in a file", googleFile, strings.Replace(gemini, "{", `{"key":"same",`, 1) + "\n" + `{"key":"same","error":{"code":3}}` + "\n" + gemini, []call{{"f-1/0", "g", "", geminiUse}, {"f-1/2", "g", "", geminiUse}}},
		{"Google's, in the batch", googleBatch, `{"name":"batches/b-1","metadata":{"model":"models/g","state":"BATCH_STATE_SUCCEEDED","output":{"inlinedResponses":{"inlinedResponses":[` + gemini + `]}}},
			"done":true,"response":{"inlinedResponses":{"inlinedResponses":[` + gemini + `,{"error":{"code":3}},` + gemini + `]}}}`,
			[]call{{"b-1/0", "g", "", geminiUse}, {"b-1/0", "g", "", geminiUse}, {"b-1/2", "g", "", geminiUse}}},
		{"Google's batch that runs", googleBatch, `{"name":"batches/b-1","metadata":{"state":"BATCH_STATE_RUNNING"}}`, nil},
		{"Mistral's, in the job", mistralJobs, `{"id":"j-1","outputs":[` + strings.Replace(completion, `batch_req_1`, "batch-7-c0", 1) + `]}`, []call{{"j-1/a", "m", "req-1", small}}},
		{"xAI's, of all kinds", xaiBatch, `{"results":[{"batch_request_id":"a","batch_result":{"response":{"chat_get_completion":{"id":"g-1","model":"grok-x","choices":[{"message":{"content":"Hi"}}],` +
			`"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":32,"completion_tokens_details":{"reasoning_tokens":7}}}}}},{"batch_request_id":"b","batch_result":{"error":{"code":3,"message":"no"}}},` +
			`{"batch_request_id":"c","batch_result":{"response":{"responses":{"id":"g-2","model":"grok-x","output":[],"usage":{"input_tokens":4,"output_tokens":6,"total_tokens":10,"output_tokens_details":{"reasoning_tokens":2}}}}}},` +
			`{"batch_request_id":"d","batch_result":{"response":{"image_generation":{"data":[{"url":"x"}],"usage":{"cost_in_usd_ticks":400000000}}}}}],"pagination_token":"d"}`, []call{
			{"b-1/a", "grok-x", "g-1", book.Usage{Input: 20, Output: 5, Reasoning: 7}}, {"b-1/c", "grok-x", "g-2", book.Usage{Input: 4, Output: 4, Reasoning: 2}}, {"b-1/d", "", "", book.Usage{}},
		}},
		{"OpenRouter's, in a page", routedBatch + "/results", `{"object":"list","data":[` + strings.Replace(completion, `batch_req_1`, "r7", 1) + `,` + refused + `,` + expired + `],"has_more":false,"next_cursor":null}`, []call{{"b-1/a", "m", "req-1", small}}},
		{"OpenRouter's, in the batch", routedBatch, `{"id":"b-1","status":"completed","results":[` + strings.Replace(completion, `batch_req_1`, "r7", 1) + `],"usage":{"prompt_tokens":30,"completion_tokens":5}}`, []call{{"b-1/a", "m", "req-1", small}}},
		{"OpenRouter's batch that runs", routedBatch, `{"id":"b-1","status":"in_progress","results":null,"usage":null,"error":null}`, nil},
		{"Mistral's job whose results are in a file", mistralJobs, `{"id":"j-1","outputs":null,"output_file":"f-1"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, pieces := range []int{1, 2, 7, len(c.body)} {
				got := fetch(t, c.url, 200, nil, c.body, pieces, true)
				require.True(t, got.known)
				var calls []call
				for _, l := range got.lines {
					require.True(t, l.Result.Complete)
					calls = append(calls, call{l.Key, l.Result.Model, l.Result.RequestID, l.Result.Usage})
				}
				require.Equal(t, c.want, calls)
			}
		})
	}
}

func TestResults_WhatOtherModelsUsedForALineIsBesideIt(t *testing.T) {
	t.Parallel()
	got := fetch(t, claudeBatch, 200, nil, `{"custom_id":"a","result":{"type":"succeeded","message":{"model":"x","usage":{"input_tokens":20,"output_tokens":5,"iterations":[{"type":"advisor_message","model":"y","input_tokens":9,"output_tokens":1}]}}}}`, 1, true)
	require.Equal(t, []ModelUsage{{"y", book.Usage{Input: 9, Output: 1}}}, got.lines[0].Result.Also)
}

// A file is no batch's results unless its first line says so, however its other lines look.
func TestResults_OrdinaryFilesHaveNone(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"text": "Hello", "a number": "1", "an array": `[{"custom_id":"a"}]`, "no end": `{"custom_id":"a",`, "binary": "\x00\x01\x89PNG",
		"the requests of a batch": `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}`,
		"examples to tune with":   `{"messages":[{"role":"user","content":"Hi"}]}`,
		"an array of results":     `[` + completion + `]`,
		"a response alone":        `{"response":{"body":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}}`,
		"a name that is no text":  `{"custom_id":7,"response":{"body":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}}`,
		"neither":                 `{"custom_id":"a","response":null,"error":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, pieces := range []int{1, 2, 1000} {
				got := fetch(t, openAIFile, 200, nil, first+"\n"+completion+"\n"+embedding, pieces, true)
				require.Empty(t, got.lines)
				require.True(t, got.known)
				require.True(t, fetch(t, openAIFile, 200, nil, first, pieces, false).known, "one that is not read to its end")
			}
		})
	}
}

func TestResults_WhatIsNotKnownIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, url, body string
		lines           int
	}{
		{"a line that is cut", openAIFile, completion + "\n" + embedding[:50], 1},
		{"a line that is broken", openAIFile, completion + "\n{\"custom_id\":\"x\n" + embedding, 2},
		{"a line that is no result", openAIFile, completion + "\n{}\n" + embedding, 2},
		{"a line without a usage", openAIFile, completion + "\n" + strings.Replace(embedding, "usage", "usages", 1), 1},
		{"a usage that cannot be true", openAIFile, strings.Replace(completion, "30", "-30", 1), 0},
		{"also of what has failed", openAIFile, strings.Replace(strings.Replace(completion, "30", "-30", 1), "200", "500", 1), 0},
		{"a line without a name", azureFile, strings.Replace(strings.Replace(completion, `"id":"batch_req_1",`, "", 1), `"a"`, `"`+strings.Repeat("a", 300)+`"`, 1), 0},
		{"nothing at all", claudeBatch, "", 0},
		{"something else", claudeBatch, `{"error":{}}`, 0},
		{"an element that is no result", googleBatch, `{"response":{"inlinedResponses":{"inlinedResponses":[{}]}}}`, 0},
		{"a batch that is cut", googleBatch, `{"response":{"inlinedResponses":{"inlinedResponses":[{"response":{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}},`, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := fetch(t, c.url, 200, nil, c.body, 3, true)
			require.Len(t, got.lines, c.lines)
			require.False(t, got.known)
		})
	}
	require.False(t, fetch(t, openAIFile, 200, nil, completion+"\n", 1, false).known, "there may be more")
	require.False(t, fetch(t, openAIFile, 200, http.Header{"Content-Encoding": {"br"}}, completion, 1, true).known)
}

// A range begins and ends anywhere: what is whole in it counts, and the rest is said to be unknown.
func TestResults_OfARangeOfAFile(t *testing.T) {
	t.Parallel()
	got := fetch(t, openAIFile, http.StatusPartialContent, nil, completion[40:]+"\n"+embedding+"\n"+completion[:40], 3, true)
	require.Len(t, got.lines, 1)
	require.Equal(t, "batch_req_2", got.lines[0].Key)
	require.False(t, got.known)
	require.True(t, fetch(t, openAIFile, http.StatusPartialContent, nil, "half of a text\nand more", 3, true).known)
}

func TestResults_InGzip(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(completion + "\n" + embedding))
	require.NoError(t, w.Close())
	got := fetch(t, openAIFile, 200, http.Header{"Content-Encoding": {"gzip"}}, packed.String(), 5, true)
	require.Len(t, got.lines, 2)
	require.True(t, got.known)
}

// Neither a long line nor many of them take memory.
func TestResults_TakeNoMemoryForLongLines(t *testing.T) { //nolint:paralleltest // it counts what the whole process allocates
	long := strings.Replace(completion, "Hi", strings.Repeat("word ", 2<<20), 1)
	u, err := url.Parse(openAIFile)
	require.NoError(t, err)
	e, _ := Recognise(http.MethodGet, u)
	lines := 0
	r := NewResults(e, 200, nil, func(Line) { lines++ })
	allocated := testing.AllocsPerRun(1, func() {
		for rest := []byte(long); len(rest) > 0; {
			n := min(4096, len(rest))
			_, _ = r.Write(rest[:n])
			rest = rest[n:]
		}
		_, _ = r.Write([]byte("\n"))
	})
	require.Less(t, allocated, float64(60))
	require.Equal(t, 2, lines)
	require.True(t, r.Close(true))
}

func TestRecordings_OfBatchesHaveAUsageForEachLine(t *testing.T) {
	t.Parallel()
	eachRecording(t, func(t *testing.T, r *recording) {
		if len(r.Expected.Items) == 0 {
			t.Skip("no results of a batch")
		}
		u := "https://" + strings.TrimSpace(r.request.Host) + r.request.Path + "?" + r.request.Query
		got := fetch(t, u, r.Status, r.header, string(r.body), 7, true)
		require.True(t, got.known)
		require.Len(t, got.lines, len(r.Expected.Items))
		for i, want := range r.Expected.Items {
			same(t, want, got.lines[i].Result.Usage)
		}
	})
}

// FuzzResults holds for any bytes: no panic, the same calls in pieces of any size, each with a name and a usage that a call
// can have.
func FuzzResults(f *testing.F) {
	urls := []string{openAIFile, googleFile, googleBatch, claudeBatch, mistralJobs}
	for i := range urls {
		for _, body := range []string{completion + "\n" + expired, `{"x":{}}{"custom_id":"a","error":"b"}0`, `{"custom_id":"a","result":{"type":"succeeded","message":{"usage":{"input_tokens":1,"output_tokens":1}}}}`, `{"outputs":[` + embedding + `]}`, "[1,\n"} {
			f.Add([]byte(body), uint8(i), uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, which uint8, pieces uint16) {
		u := urls[int(which)%len(urls)]
		got := fetch(t, u, 200, nil, string(body), 1, true)
		for _, l := range got.lines {
			require.NotEmpty(t, l.Key)
			require.True(t, plausible(l.Result.Usage))
		}
		for _, n := range []int{int(pieces), len(body)} {
			again := fetch(t, u, 200, nil, string(body), n, true)
			a, _ := json.Marshal(got.lines)
			b, _ := json.Marshal(again.lines)
			require.Equal(t, string(a), string(b))
			require.Equal(t, got.known, again.known)
		}
	})
}
