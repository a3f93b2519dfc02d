package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// A gateway that answers from its own cache repeats what the first call used, or says zero. Either way nobody bills it.
func TestReplayed_WhatAGatewayHadKeptUsedNothing(t *testing.T) {
	t.Parallel()
	const text = `{"id":"c-7","model":"gpt-x","choices":[{"message":{"content":"The ferry leaves at nine."},"finish_reason":"stop"}],"usage":`
	repeated := text + `{"prompt_tokens":900,"completion_tokens":70,"total_tokens":970,"cost":0.002}}`
	zeros := text + `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"cost":0}}`
	streamed := sse(`{"id":"c-7","choices":[{"delta":{"content":"The ferry leaves at nine."},"finish_reason":"stop"}]}`,
		`{"choices":[],"usage":{"prompt_tokens":900,"completion_tokens":70}}`)
	e := at(t, http.MethodPost, anyChat)
	for _, c := range []struct {
		name, value string
		kept        bool
	}{
		{"X-OpenRouter-Cache-Status", "HIT", true}, {"X-OpenRouter-Cache-Status", "MISS", false},
		{"cf-aig-cache-status", "HIT", true}, {"cf-aig-cache-status", "MISS", false},
		{"x-portkey-cache-status", "SEMANTIC HIT", true}, {"x-portkey-cache-status", "SEMANTIC MISS", false}, {"x-portkey-cache-status", "DISABLED", false},
		{"Helicone-Cache", "hit", true}, {"Helicone-Cache", "MISS", false},
		{"x-litellm-cache-key", "8c1f", true}, {"x-litellm-cache-key", "", false}, {"X-Cache", "HIT", false},
	} {
		header := http.Header{}
		header.Set(c.name, c.value)
		for _, body := range []string{repeated, zeros, streamed, repeated[:len(repeated)-20]} {
			r := readIn(3, e, http.StatusOK, header, []byte(body))
			require.Equal(t, c.kept, r.Replayed, "%s: %s", c.name, c.value)
			if c.kept {
				used, estimated := r.Charged(500)
				require.Equal(t, book.Usage{}, used)
				require.False(t, estimated)
				require.True(t, r.Found)
				require.Zero(t, r.ReportedCost)
			} else if body == repeated {
				require.Equal(t, book.Usage{Input: 900, Output: 70}, r.Usage)
			}
		}
		require.False(t, readIn(1, e, http.StatusTooManyRequests, header, []byte(`{"error":"slow down"}`)).Replayed)
		job := at(t, http.MethodGet, "https://api.openai.com/v1/responses/resp_1")
		require.False(t, readIn(1, job, http.StatusOK, header, []byte(`{"id":"resp_1","status":"completed"}`)).Replayed, "the job was made all the same")
	}
}

// LiteLLM's proxy says in a header what the call costs, which counts where the body states no cost.
func TestReader_TakesTheCostThatAHeaderStates(t *testing.T) {
	t.Parallel()
	e := at(t, http.MethodPost, anyChat)
	for value, want := range map[string]int64{"3.15e-05": 31_500, "0.0021": 2_100_000, "0.0": -1, "None": -1, "-1": -1, "": -1} {
		header := http.Header{"X-Litellm-Response-Cost": {value}}
		require.Equal(t, want, readIn(2, e, 200, header, []byte(chatWith(`{"prompt_tokens":9,"completion_tokens":2}`))).ReportedCost, value)
		require.EqualValues(t, 250, readIn(2, e, 200, header, []byte(chatWith(`{"prompt_tokens":9,"completion_tokens":2,"cost":2.5e-7}`))).ReportedCost)
	}
}

// A system of models is no model that anybody has a price of: what it used is that of the models that it has asked.
func TestOpenAI_SharesOfSeveralModelsAreEachTheirs(t *testing.T) {
	t.Parallel()
	const groq = "https://api.groq.com/openai/v1/chat/completions"
	const split = `"usage_breakdown":{"models":[{"model":"openai/big","usage":{"prompt_tokens":700,"completion_tokens":90,"total_tokens":790,"completion_tokens_details":{"reasoning_tokens":40}}},` +
		`{"model":"small","usage":{"prompt_tokens":300,"completion_tokens":20,"total_tokens":320}},{"model":"small","usage":{"prompt_tokens":50,"completion_tokens":5,"total_tokens":55}}]}`
	const usage = `"usage":{"prompt_tokens":1050,"completion_tokens":115,"total_tokens":1165,"completion_tokens_details":{"reasoning_tokens":40}}`
	also := []ModelUsage{{"small", book.Usage{Input: 350, Output: 25}}}
	want := book.Usage{Input: 700, Output: 50, Reasoning: 40}
	check(t, []golden{
		{name: "in a document", url: groq, body: `{"id":"c","model":"groq/compound","choices":[{"message":{"content":"Yes."}}],` + usage + `,` + split + `}`,
			usage: want, also: also, model: "openai/big"},
		{name: "in the last chunk of a stream", url: groq, body: sse(`{"id":"c","model":"groq/compound","choices":[{"delta":{"content":"Yes."}}]}`,
			`{"id":"c","model":"groq/compound","choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r",`+usage+`,`+split+`}}`),
			usage: want, also: also, model: "openai/big"},
		{name: "of one model", url: groq, body: `{"id":"c","model":"groq/compound-mini","choices":[{"message":{"content":"Yes."}}],"usage":{"prompt_tokens":9,"completion_tokens":2},` +
			`"usage_breakdown":{"models":[{"model":"small","usage":{"prompt_tokens":9,"completion_tokens":2}}]}}`, usage: book.Usage{Input: 9, Output: 2}, model: "small"},
		{name: "of no system", url: groq, body: `{"id":"c","model":"small","choices":[{"message":{"content":"Yes."}}],"usage":{"prompt_tokens":9,"completion_tokens":2},"usage_breakdown":null}`,
			usage: book.Usage{Input: 9, Output: 2}, model: "small"},
	})
}

// OpenAI's models that search before each chat completion charge for the search, and do not state it.
func TestOpenAI_ModelsThatSearchFirstHaveSearchedOnce(t *testing.T) {
	t.Parallel()
	reply := func(model string) string {
		return `{"id":"c","model":"` + model + `","choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`
	}
	check(t, []golden{
		{name: "gpt-4o's", url: openAIChat, body: reply("gpt-4o-mini-search-preview-2025-03-11"), usage: book.Usage{Input: 9, Output: 2, WebSearches: 1}},
		{name: "gpt-5's, of a deployment", url: "https://x.openai.azure.com/openai/deployments/d/chat/completions", body: reply("gpt-5-search-api"), usage: book.Usage{Input: 9, Output: 2, WebSearches: 1}},
		{name: "others", url: openAIChat, body: reply("gpt-5-mini"), usage: book.Usage{Input: 9, Output: 2}},
		{name: "an error", url: openAIChat, body: `{"error":{"message":"no such model: gpt-4o-search-preview"}}`, failed: true},
	})
}

func TestOpenAI_WhatVertexAIAndMiniMaxAddToIt(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{name: "Vertex AI's tier", url: "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi/chat/completions",
			body:  chatWith(`{"prompt_tokens":8,"completion_tokens":3,"total_tokens":41,"extra_properties":{"google":{"traffic_type":"ON_DEMAND_FLEX"}},"completion_tokens_details":{"reasoning_tokens":30}}`),
			usage: book.Usage{Input: 8, Output: 3, Reasoning: 30}, tier: "ON_DEMAND_FLEX"},
		{name: "MiniMax's own path", url: "https://api.minimax.io/v1/text/chatcompletion_v2",
			body:  `{"id":"m","choices":[{"finish_reason":"stop","message":{"content":"Yes."}}],"model":"MiniMax-M9","usage":{"total_tokens":41,"prompt_tokens":38,"completion_tokens":3},"base_resp":{"status_code":0,"status_msg":""}}`,
			usage: book.Usage{Input: 38, Output: 3}, model: "MiniMax-M9"},
		{name: "MiniMax's errors have the status 200", url: "https://api.minimax.io/v1/text/chatcompletion_v2",
			body: `{"id":"m","base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}`, failed: true},
		{name: "a classification at Jina", url: "https://api.jina.ai/v1/classify", body: `{"data":[{"prediction":"a"}],"usage":{"total_tokens":196}}`, usage: book.Usage{Input: 196}},
		{name: "a score of vLLM's", url: "http://gpu.internal/v1/score", body: `{"id":"s","object":"list","data":[{"index":0,"score":0.4}],"usage":{"prompt_tokens":31,"total_tokens":31,"completion_tokens":0}}`, usage: book.Usage{Input: 31}},
		{name: "texts and images that are embedded together", url: "https://ark.example/api/v3/embeddings/multimodal",
			body: `{"model":"v","data":{"embedding":[0.1]},"usage":{"prompt_tokens":528,"total_tokens":528,"prompt_tokens_details":{"image_tokens":497,"text_tokens":31}}}`, usage: book.Usage{Input: 31, InputImage: 497}},
	})
}

// Claude costs more at an endpoint of Vertex AI that is not the global one, as the request and the reply are to say alike.
func TestAnthropic_APlaceOnVertexAIIsPartOfTheTier(t *testing.T) {
	t.Parallel()
	const models, reply = "/publishers/anthropic/models/claude-x:rawPredict", `{"type":"message","model":"claude-x","content":[],"usage":{"input_tokens":9,"output_tokens":2,"service_tier":"standard"}}`
	for place, tier := range map[string]string{"global": "standard", "europe-west1": "standard+regional", "us": "standard+regional"} {
		e := at(t, http.MethodPost, "https://aiplatform.googleapis.com/v1/projects/p/locations/"+place+models)
		require.Equal(t, tier, readIn(2, e, 200, nil, []byte(reply)).ServiceTier, place)
		asked := ReadRequest(e, []byte(`{"max_tokens":5,"messages":[],"service_tier":"standard"}`))
		require.Equal(t, tier, asked.ServiceTier, place)
	}
}
