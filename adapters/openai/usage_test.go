package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/openai"
)

func TestUsage_IsTakenApartIntoDisjointClasses(t *testing.T) {
	t.Parallel()
	type usage = tenant.Usage
	for _, c := range []struct {
		name string
		body string // of the field usage
		want *usage
		cost string
	}{
		{"nothing but totals", `{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}`, &usage{Input: 100, Output: 20}, ""},
		{
			"OpenAI's details are parts", `{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,
			"prompt_tokens_details":{"cached_tokens":300,"cache_write_tokens":200,"audio_tokens":50,"image_tokens":40,"text_tokens":910},
			"completion_tokens_details":{"reasoning_tokens":250,"audio_tokens":60,"accepted_prediction_tokens":30,"rejected_prediction_tokens":20}}`,
			&usage{Input: 410, CacheRead: 300, CacheWrite5m: 200, InputAudio: 50, InputImage: 40, Output: 190, Reasoning: 250, OutputAudio: 60}, "",
		},
		{"image output", `{"prompt_tokens":10,"completion_tokens":100,"completion_tokens_details":{"image_tokens":90}}`, &usage{Input: 10, Output: 10, OutputImage: 90}, ""},
		{"details that are null", `{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":null}}`, &usage{Input: 10, Output: 1}, ""},
		{"zero beside text is no count", `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`, nil, ""},
		{"whole numbers with a point", `{"prompt_tokens":12.0,"completion_tokens":1e1}`, &usage{Input: 12, Output: 10}, ""},
		{"fields that nobody knows", `{"prompt_tokens":1,"completion_tokens":2,"queue_time":0.2,"new":{"a":[]}}`, &usage{Input: 1, Output: 2}, ""},

		{"more cached than there is (Grok on Azure)", `{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":130}}`, &usage{CacheRead: 100, Output: 5}, ""},
		{"cache read and write overlap", `{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":90,"cache_write_tokens":90}}`, &usage{CacheRead: 90, CacheWrite5m: 10, Output: 5}, ""},
		{"more audio out than output", `{"prompt_tokens":1,"completion_tokens":5,"completion_tokens_details":{"audio_tokens":9}}`, &usage{Input: 1, OutputAudio: 5}, ""},

		{"DeepSeek's cache hits", `{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}`, &usage{Input: 36, CacheRead: 64, Output: 5}, ""},
		{"Mistral's cached tokens", `{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"num_cached_tokens":64}`, &usage{Input: 36, CacheRead: 64, Output: 5}, ""},
		{"Mistral's audio comes on top of the prompt", `{"prompt_tokens":9,"completion_tokens":200,"total_tokens":584,"prompt_tokens_details":{"audio_tokens":375}}`, &usage{Input: 9, InputAudio: 375, Output: 200}, ""},
		{
			"xAI's reasoning comes on top of the completion", `{"prompt_tokens":400,"completion_tokens":80,"total_tokens":800,"prompt_tokens_details":{"cached_tokens":300},
			"completion_tokens_details":{"reasoning_tokens":320},"cost_in_usd_ticks":2488501}`,
			&usage{Input: 100, CacheRead: 300, Output: 80, Reasoning: 320}, "0.00024885",
		},
		{"Gemini's thoughts are only in the total", `{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}`, &usage{Input: 35, Output: 12, Reasoning: 62}, ""},
		{"reasoning larger than the completion", `{"prompt_tokens":61,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":96}}`, &usage{Input: 61, Output: 10, Reasoning: 96}, ""},
		{"reasoning that the total has no room for", `{"prompt_tokens":61,"completion_tokens":10,"total_tokens":71,"completion_tokens_details":{"reasoning_tokens":96}}`, &usage{Input: 61, Reasoning: 10}, ""},
		{"Vercel's reasoning comes on top", `{"prompt_tokens":61,"completion_tokens":100,"total_tokens":161,"completion_tokens_details":{"reasoning_tokens":96},"cost":0.0002833,"market_cost":0.0002833}`, &usage{Input: 61, Output: 100, Reasoning: 96}, "0.0002833"},

		{"OpenRouter's cost", `{"prompt_tokens":1,"completion_tokens":2,"cost":0.00040504,"is_byok":false,"cost_details":{"upstream_inference_cost":0.00040504}}`, &usage{Input: 1, Output: 2}, "0.00040504"},
		{"OpenRouter's cost with the user's own key", `{"prompt_tokens":1,"completion_tokens":2,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.5}}`, &usage{Input: 1, Output: 2}, "0.5"},
		{"a cost finer than a nano-dollar", `{"prompt_tokens":1,"completion_tokens":2,"cost":0.00049701333333333}`, &usage{Input: 1, Output: 2}, "0.000497013"},
		{"Perplexity's cost", `{"prompt_tokens":1,"completion_tokens":2,"cost":{"request_cost":0.005,"total_cost":0.00507}}`, &usage{Input: 1, Output: 2}, "0.00507"},
		{"a cost in exponents", `{"prompt_tokens":1,"completion_tokens":2,"cost":1e-05}`, &usage{Input: 1, Output: 2}, "0.00001"},
		{"costs that are none", `{"prompt_tokens":1,"completion_tokens":2,"cost":"free"}`, &usage{Input: 1, Output: 2}, ""},

		{"OpenRouter's searches", `{"prompt_tokens":7,"completion_tokens":2,"server_tool_use":{"web_search_requests":3}}`, &usage{Input: 7, Output: 2, WebSearches: 3}, ""},
		{"Moonshot's cache", `{"prompt_tokens":70,"completion_tokens":2,"total_tokens":72,"cached_tokens":48}`, &usage{Input: 22, CacheRead: 48, Output: 2}, ""},
		{"a proxy's names of a cache", `{"prompt_tokens":900,"completion_tokens":2,"total_tokens":902,"cache_read_input_tokens":600,"cache_creation_input_tokens":100}`, &usage{Input: 200, CacheRead: 600, CacheWrite5m: 100, Output: 2}, ""},
		{"a cache of an hour", `{"prompt_tokens":90,"completion_tokens":2,"prompt_tokens_details":{"cache_creation":{"ephemeral_1h_input_tokens":33}}}`, &usage{Input: 57, CacheWrite1h: 33, Output: 2}, ""},

		// What no call can have used or cost is for the ledger to refuse.
		{"a negative cost", `{"prompt_tokens":1,"completion_tokens":2,"cost":-1}`, &usage{Input: -1}, ""},
		{"a cost beyond measure", `{"prompt_tokens":1,"completion_tokens":2,"cost":1e999999999}`, &usage{Input: -1}, ""},
		{"a negative prompt", `{"prompt_tokens":-5,"completion_tokens":2}`, &usage{Input: -1}, ""},
		{"negative cached tokens", `{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":-9}}`, &usage{Input: -1}, ""},
		{"half a token", `{"prompt_tokens":0.5,"completion_tokens":2}`, &usage{Input: -1}, ""},
		{"a count beyond measure", `{"prompt_tokens":99999999999999999999,"completion_tokens":2}`, &usage{Input: -1}, ""},

		{"no usage", ``, nil, ""},
		{"null", `null`, nil, ""},
		{"an empty object", `{}`, nil, ""},
		{"no completion, but a total", `{"prompt_tokens":5,"total_tokens":9}`, &usage{Input: 5, Output: 4}, ""},
		{"no prompt, but a total", `{"completion_tokens":5,"total_tokens":9}`, &usage{Input: 4, Output: 5}, ""},
		{"no completion", `{"prompt_tokens":5}`, nil, ""},
		{"a count as text", `{"prompt_tokens":"5","completion_tokens":2}`, &usage{Input: 5, Output: 2}, ""},
		{"an array", `[]`, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			field := `"usage":` + c.body
			if c.body == "" {
				field = `"id":"x"`
			}
			s := newServer(t, reply(200, `{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}],`+field+`}`))
			got, err := s.model(t).Generate(t.Context(), hi)
			require.NoError(t, err)
			require.Equal(t, c.want, got.Usage)
			require.Equal(t, c.cost != "", got.ReportedCost.IsSet())
			if c.cost != "" {
				require.Equal(t, c.cost, got.ReportedCost.Decimal().String())
			}
		})
	}
}

// Who is behind a host decides what a number means.
func TestUsage_IsReadAsTheTransportReadsIt(t *testing.T) {
	t.Parallel()
	const message = `"message":{"content":"ok"},"finish_reason":"stop"`
	for _, c := range []struct {
		name, body string
		options    []openai.Option
		want       *tenant.Usage
		tier       string
	}{
		{"a provider's searches that its fee covers", `{"choices":[{` + message + `}],"usage":{"prompt_tokens":9,"completion_tokens":3,"num_search_queries":4}}`,
			[]openai.Option{openai.WithProvider("perplexity")}, &tenant.Usage{Input: 9, Output: 3}, ""},
		{"and another one's", `{"choices":[{` + message + `}],"usage":{"prompt_tokens":9,"completion_tokens":3,"num_search_queries":4}}`, nil,
			&tenant.Usage{Input: 9, Output: 3, WebSearches: 4}, ""},
		{"a tier", `{"choices":[{` + message + `}],"service_tier":"flex","usage":{"prompt_tokens":9,"completion_tokens":3}}`, nil,
			&tenant.Usage{Input: 9, Output: 3}, "flex"},
	} {
		s := newServer(t, reply(200, c.body))
		got, err := s.model(t, c.options...).Generate(t.Context(), hi)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got.Usage, c.name)
		require.Equal(t, c.tier, got.ServiceTier, c.name)
	}
}

// TestUsage_OfRecordedCallsIsWhatTheProviderBilled compares with what an independent script read off real answers. The recordings are no part of
// this repository.
func TestUsage_OfRecordedCallsIsWhatTheProviderBilled(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/recordings"
	index, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if os.IsNotExist(err) {
		t.Skip("the recordings are not there: " + folder)
	}
	require.NoError(t, err)
	var records []struct {
		File      string
		API       string
		Streaming bool
		Status    int
		Present   bool `json:"usage_present"`
		Expected  struct {
			Input       int64       `json:"input_tokens"`
			CacheRead   int64       `json:"cache_read_tokens"`
			CacheWrite  int64       `json:"cache_write_tokens"`
			InputAudio  int64       `json:"input_audio_tokens"`
			Output      int64       `json:"output_tokens"`
			Reasoning   int64       `json:"reasoning_tokens"`
			OutputAudio int64       `json:"output_audio_tokens"`
			Cost        json.Number `json:"provider_cost_usd"`
		}
		Rule string `json:"total_rule"`
	}
	require.NoError(t, json.Unmarshal(index, &records))
	seen := 0
	for _, rec := range records {
		if rec.API != "openai_chat" || rec.Streaming {
			continue
		}
		seen++
		t.Run(rec.File, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(folder, rec.File))
			require.NoError(t, err)
			var recorded struct {
				Response struct{ Body json.RawMessage }
			}
			require.NoError(t, json.Unmarshal(text, &recorded))
			body := string(recorded.Response.Body)
			var asText string
			if json.Unmarshal(recorded.Response.Body, &asText) == nil {
				body = asText
			}
			s := newServer(t, reply(rec.Status, body))
			got, err := s.model(t).Generate(t.Context(), hi)
			if rec.Status != 200 {
				require.ErrorIs(t, err, tenant.ErrNotBilled)
				return
			}
			if !rec.Present {
				inPlace := err != nil && strings.Contains(err.Error(), "the answer is an error") // such as a filter's
				require.Equal(t, inPlace, errors.Is(err, tenant.ErrNotBilled))
				require.True(t, got == nil || got.Usage == nil)
				return
			}
			require.NoError(t, err)
			want := rec.Expected
			u := got.Usage
			require.NotNil(t, u)
			require.Equal(t, want.Input, u.InputTokens())
			require.Equal(t, want.Output, u.OutputTokens())
			require.Equal(t, want.CacheRead, u.CacheRead)
			require.Equal(t, min(want.CacheWrite, want.Input-want.CacheRead), u.CacheWrite5m, "disjoint, where a provider's are not")
			require.Equal(t, want.InputAudio, u.InputAudio)
			require.Equal(t, want.OutputAudio, u.OutputAudio)
			if want.Reasoning > 0 || rec.Rule == "in+out" {
				require.Equal(t, want.Reasoning, u.Reasoning)
			}
			require.Equal(t, want.Cost != "", got.ReportedCost.IsSet())
			if want.Cost != "" {
				stated, err := want.Cost.Float64()
				require.NoError(t, err)
				require.InDelta(t, stated, got.ReportedCost.Decimal().InexactFloat64(), 1e-9)
			}
		})
	}
	require.NotZero(t, seen)
}

func FuzzUsageIsNeverNegativeWhereItsPartsAreNot(f *testing.F) {
	f.Add(int64(10), int64(5), int64(15), int64(3), int64(2), int64(1))
	f.Add(int64(0), int64(0), int64(math.MaxInt64), int64(1), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, prompt, completion, total, cached, audio, reasoning int64) {
		const most = 1 << 39
		clean := func(n int64) int64 { return (n & math.MaxInt64) % most }
		prompt, completion, cached, audio, reasoning = clean(prompt), 1+clean(completion), clean(cached), clean(audio), clean(reasoning)
		body := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":%d},
			"completion_tokens_details":{"reasoning_tokens":%d}}`, prompt, completion, clean(total), cached, audio, reasoning)
		s := newServer(t, reply(200, `{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}],"usage":`+body+`}`))
		got, err := s.model(t).Generate(t.Context(), hi)
		require.NoError(t, err)
		if got.Usage == nil {
			t.Fatalf("%s: no usage", body)
		}
		u := *got.Usage
		for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite5m, u.InputAudio, u.Output, u.Reasoning} {
			if n < 0 {
				t.Fatalf("%s: %+v", body, u)
			}
		}
	})
}
