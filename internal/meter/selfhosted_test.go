package meter

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

const own = "http://10.0.0.7:8080"

func TestSelfHosted_ServersAreReadAsTheyCount(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "llama.cpp", url: own + "/completion", model: "q.gguf", finished: []string{"eos"},
			body:  `{"index":0,"content":"Elbe","tokens":[],"id_slot":0,"stop":true,"model":"q.gguf","tokens_predicted":41,"tokens_evaluated":230,"prompt":"Which?","stop_type":"eos","tokens_cached":270,"timings":{"cache_n":200,"prompt_n":30,"predicted_n":41}}`,
			usage: book.Usage{Input: 30, CacheRead: 200, Output: 41},
		},
		{
			name: "llama.cpp, in a stream", url: own + "/completions", model: "q.gguf",
			body: sseOpen(`{"index":0,"content":"El","stop":false,"tokens_predicted":1,"tokens_evaluated":230}`, `{"index":0,"content":"be","stop":false,"tokens_predicted":2,"tokens_evaluated":230}`,
				`{"index":0,"content":"","stop":true,"model":"q.gguf","tokens_predicted":2,"tokens_evaluated":230,"stop_type":"eos","timings":{"cache_n":0}}`),
			usage: book.Usage{Input: 230, Output: 2},
		},
		{
			name: "llama.cpp, several prompts", url: own + "/completion",
			body:  `[{"index":0,"content":"a","stop":true,"tokens_predicted":3,"tokens_evaluated":10,"timings":{"cache_n":4}},{"index":1,"content":"b","stop":true,"tokens_predicted":5,"tokens_evaluated":20}]`,
			usage: book.Usage{Input: 26, CacheRead: 4, Output: 8},
		},
		{
			name: "llama.cpp, cut", url: own + "/infill", unended: true,
			body:  sseOpen(`{"index":0,"content":"re","stop":false,"tokens_predicted":1,"tokens_evaluated":12}`, `{"index":0,"content":"turn","stop":false,"tokens_predicted":2,"tokens_evaluated":12}`),
			usage: book.Usage{Input: 12, Output: 2},
		},
		{
			name: "llama.cpp's completions in OpenAI's format", url: own + "/completions",
			body:  `{"choices":[{"text":"Elbe","index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14},"timings":{"cache_n":5}}`,
			usage: book.Usage{Input: 12, Output: 2},
		},
		{
			name: "llama.cpp's ranking", url: own + "/reranking",
			body:  `{"model":"r.gguf","object":"list","usage":{"prompt_tokens":88,"total_tokens":88},"results":[{"index":0,"relevance_score":0.4}]}`,
			usage: book.Usage{Input: 88},
		},
		{name: "no count", url: own + "/completion", strange: true, body: `{"content":"a","stop":true,"tokens_predicted":-3,"tokens_evaluated":10}`},
		{
			name: "TGI", url: own + "/generate", finished: []string{"length"},
			body:  `{"generated_text":"Elbe and Oder","details":{"finish_reason":"length","generated_tokens":20,"seed":null,"prefill":[{"id":1,"text":"a","logprob":null},{"id":2,"text":"b","logprob":-1}],"tokens":[]}}`,
			usage: book.Usage{Input: 2, Output: 20},
		},
		{
			name: "TGI without details says it in headers", url: own + "/generate", header: http.Header{"X-Prompt-Tokens": {"17"}, "X-Generated-Tokens": {"20"}, "Content-Type": {"application/json"}},
			body:  `{"generated_text":"Elbe and Oder"}`,
			usage: book.Usage{Input: 17, Output: 20},
		},
		{
			name: "TGI, the best of several", url: own + "/generate", header: http.Header{"X-Prompt-Tokens": {"17"}},
			body:  `{"generated_text":"Elbe","details":{"finish_reason":"eos_token","generated_tokens":20,"best_of_sequences":[{"generated_text":"Oder","generated_tokens":7},{"generated_tokens":5}]}}`,
			usage: book.Usage{Input: 17, Output: 32},
		},
		{
			name: "TGI, in a stream", url: own + "/generate_stream",
			body: sseOpen(`{"index":1,"token":{"id":5,"text":"Elbe","special":false},"generated_text":null,"details":null}`,
				`{"index":2,"token":{"id":6,"text":".","special":false},"generated_text":"Elbe.","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"input_length":31}}`),
			usage: book.Usage{Input: 31, Output: 2},
		},
		{
			name: "TEI says it in a header", url: own + "/embed", header: http.Header{"X-Compute-Tokens": {"53"}, "X-Compute-Characters": {"200"}, "Content-Type": {"application/json"}},
			body: `[[0.1,-0.2],[0.3,0.4]]`, usage: book.Usage{Input: 53},
		},
		{
			name: "TEI's ranking", url: own + "/rerank", header: http.Header{"X-Compute-Tokens": {"53"}, "Content-Type": {"application/json"}},
			body: `[{"index":1,"score":0.9},{"index":0,"score":0.1}]`, usage: book.Usage{Input: 53},
		},
		{
			name: "a header is no count beside a usage", url: own + "/v1/embeddings", header: http.Header{"X-Compute-Tokens": {"53"}, "Content-Type": {"application/json"}},
			body: `{"data":[],"usage":{"prompt_tokens":50,"total_tokens":50}}`, usage: book.Usage{Input: 50},
		},
		{name: "a header that is no count", url: own + "/embed", header: http.Header{"X-Compute-Tokens": {"-1"}}, body: `[[0.1]]`, strange: true},
	})
}

// llama.cpp states the usage of each answer apart.
func TestSelfHosted_SeveralAnswersOfLlamaCpp(t *testing.T) {
	t.Parallel()
	const build = `"system_fingerprint":"b4711-0a1b2c3",`
	said := func(i, text string) string {
		return `{` + build + `"choices":[{"index":` + i + `,"delta":{"content":"` + text + `"}}]}`
	}
	ends := func(i string) string {
		return `{` + build + `"choices":[{"index":` + i + `,"delta":{},"finish_reason":"stop"}]}`
	}
	const first, second = `{` + build + `"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":9,"total_tokens":49,"prompt_tokens_details":{"cached_tokens":32}}}`,
		`{` + build + `"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":13,"total_tokens":53,"prompt_tokens_details":{"cached_tokens":39}}}`
	check(t, []golden{
		{
			name: "a stream has a chunk for each", url: own + "/v1/chat/completions",
			body:  sse(said("0", "a"), said("1", "b"), ends("0"), first, said("1", "c"), ends("1"), second),
			usage: book.Usage{Input: 9, CacheRead: 71, Output: 22},
		},
		{
			name: "one answer has one", url: own + "/v1/chat/completions",
			body:  sse(said("0", "a"), ends("0"), first),
			usage: book.Usage{Input: 8, CacheRead: 32, Output: 9},
		},
		{
			name: "others repeat theirs", url: anyChat,
			body: sse(`{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}`,
				`{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":9}}`, `{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":22}}`),
			usage: book.Usage{Input: 40, Output: 22},
		},
		{
			name: "a stream that is cut between them", url: own + "/v1/chat/completions", unended: true,
			body:  sseOpen(said("0", "a"), said("1", "b"), ends("0"), first, said("1", "c")),
			usage: book.Usage{Input: 8, CacheRead: 32, Output: 9},
		},
	})

	whole := func(build, a, b string) *Result {
		return readIn(2, at(t, http.MethodPost, own+"/v1/chat/completions"), 200, nil, []byte(
			`{"choices":[{"index":0,"finish_reason":"stop","message":{"content":"`+a+`"}},{"index":1,"finish_reason":"stop","message":{"content":"`+b+`"}}],"model":"q.gguf",`+build+`"usage":{"completion_tokens":10,"prompt_tokens":40}}`))
	}
	for _, c := range []struct {
		build, a, b string
		output      int64
		estimated   bool
	}{
		{build, strings.Repeat("x", 20), strings.Repeat("y", 35), 28, true}, // ten tokens for 20 letters, so 27.5 for 55
		{build, strings.Repeat("x", 20), "", 10, true},
		{build, "", strings.Repeat("y", 400), 100, true},
		{`"timings":{"predicted_n":10},`, strings.Repeat("x", 20), strings.Repeat("y", 35), 28, true}, // behind a gateway that has taken the fingerprint away
		{"", strings.Repeat("x", 20), strings.Repeat("y", 35), 10, false},
		{`"system_fingerprint":"fp_0a1b2c",`, strings.Repeat("x", 20), strings.Repeat("y", 35), 10, false},
	} {
		got := whole(c.build, c.a, c.b)
		u, estimated := got.Charged(7)
		require.True(t, got.Found)
		require.Equal(t, c.estimated, estimated)
		require.Equal(t, book.Usage{Input: 40, Output: c.output}, u)
	}
}

func TestSelfHosted_ItsRequestsAreBoundedAndLimited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, body string
		want       Request
		limited    string // to 50 tokens
	}{
		{"/completion", `{"prompt":"Which?","n_predict":200,"stream":true}`, Request{MaxTokens: 200, Stream: true, Choices: 1}, `{"prompt":"Which?","n_predict":50,"stream":true}`},
		{"/completion", `{"prompt":"Which?","n_predict":-1}`, Request{Choices: 1}, `{"prompt":"Which?","n_predict":50}`},
		{"/completion", `{"prompt":"Which?"}`, Request{Choices: 1}, `{"n_predict":50,"prompt":"Which?"}`},
		{"/completion", `{"prompt":["a","b"],"max_tokens":20,"n_cmpl":3}`, Request{MaxTokens: 20, Choices: 3, Prompts: 2}, `{"prompt":["a","b"],"max_tokens":20,"n_cmpl":3}`},
		{"/infill", `{"input_prefix":"func a","input_suffix":"}"}`, Request{Choices: 1}, `{"n_predict":50,"input_prefix":"func a","input_suffix":"}"}`},
		{"/completions", `{"prompt":"Which?","n_predict":200}`, Request{MaxTokens: 200, Choices: 1}, `{"prompt":"Which?","n_predict":50}`},
		{"/generate", `{"inputs":"Which?","parameters":{"max_new_tokens":200,"best_of":2}}`, Request{MaxTokens: 200, Choices: 2}, `{"inputs":"Which?","parameters":{"max_new_tokens":50,"best_of":2}}`},
		{"/generate_stream", `{"inputs":"Which?"}`, Request{Stream: true, Choices: 1}, `{"parameters":{"max_new_tokens":50},"inputs":"Which?"}`},
	} {
		e := at(t, http.MethodPost, own+c.path)
		require.Equal(t, Chat, e.Kind)
		require.True(t, HasForm(e, []byte(c.body)), c.body)
		r := ReadRequest(e, []byte(c.body))
		c.want.InputBytes, c.want.Prompts = int64(len(c.body)), max(c.want.Prompts, 1)
		require.Equal(t, c.want, r, c.body)
		limited, ok := LimitOutput(e, []byte(c.body), 50)
		require.True(t, ok)
		require.Equal(t, c.limited, string(limited))
	}
}

func TestSelfHosted_IsRecognisedByItsBodyAsWell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, body string
		kind       Kind
		is         bool
	}{
		{"/embed", `{"inputs":["a","b"]}`, Embeddings, true},
		{"/embed", `{"url":"x"}`, Embeddings, false},
		{"/embed_sparse", `{"inputs":"a"}`, Embeddings, true},
		{"/embedding", `{"content":"a"}`, Embeddings, true},
		{"/rerank", `{"query":"a","texts":["b"]}`, Rerank, true},
		{"/v1/reranking", `{"query":"a","documents":["b"]}`, Rerank, true},
		{"/rerank", `{"query":"a"}`, Rerank, false},
		{"/completion", `{"percent":80}`, Chat, false},
		{"/generate", `{"report":"weekly"}`, Chat, false},
		{"/v1/completions", `{"prompt":"a"}`, Chat, true},
		{"/v1/completions", `{"form":"a"}`, Chat, false},
	} {
		e := at(t, http.MethodPost, own+c.path)
		require.Equal(t, c.kind, e.Kind)
		require.Equal(t, c.is, HasForm(e, []byte(c.body)), "%s %s", c.path, c.body)
	}
	u, err := url.Parse("https://api.openai.com/v1/generate")
	require.NoError(t, err)
	_, ok := Recognise(http.MethodPost, u)
	require.False(t, ok, "a company that is known has no such path")
}
