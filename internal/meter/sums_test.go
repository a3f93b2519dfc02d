package meter

import (
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

const aClaude = "claude-opus-4-6"

func chatOf(model, usage string) string {
	return `{"id":"c-7","model":"` + model + `","choices":[{"index":0,"message":{"role":"assistant","content":"Spree, Havel."},"finish_reason":"stop"}],"usage":` + usage + `}`
}

// What a total has beyond prompt and completion is whatever has its size.
func TestSums_TheTotalSaysWhatIsBeside(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "the cache, read and written", url: anyChat,
			body: chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":9100,"prompt_tokens_details":{"cached_tokens":7000},
				"cache_read_input_tokens":7000,"cache_creation_input_tokens":2000}`),
			usage: book.Usage{Input: 70, CacheRead: 7000, CacheWrite5m: 2000, Output: 30},
		},
		{
			name: "in the last chunk of a stream", url: anyChat,
			body: sse(`{"model":"`+aClaude+`","choices":[{"index":0,"delta":{"content":"Spree"}}]}`,
				`{"model":"`+aClaude+`","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"cache_read_input_tokens":60,"cache_creation_input_tokens":25,"completion_tokens":9,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":60}}}`),
			usage: book.Usage{Input: 11, CacheRead: 60, CacheWrite5m: 25, Output: 9},
		},
		{
			name: "the writes of an hour beside it", url: anyChat,
			body: chatOf(aClaude, `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":650,"prompt_tokens_details":{"cached_tokens":0,"cache_creation_tokens":550,
				"cache_creation_token_details":{"ephemeral_5m_input_tokens":50,"ephemeral_1h_input_tokens":500}}}`),
			usage: book.Usage{Input: 70, CacheWrite5m: 50, CacheWrite1h: 500, Output: 30},
		},
		{
			name: "what was read alone, while what was written is inside", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":700,"prompt_tokens_details":{"cached_tokens":600,"cache_write_tokens":20}}`),
			usage: book.Usage{Input: 50, CacheRead: 600, CacheWrite5m: 20, Output: 30},
		},
		{
			name: "what was written alone", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":300,"prompt_tokens_details":{"cached_tokens":15,"cache_write_tokens":200}}`),
			usage: book.Usage{Input: 55, CacheRead: 15, CacheWrite5m: 200, Output: 30},
		},
		{
			name: "reasoning", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":135,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":35}}`),
			usage: book.Usage{Input: 6, CacheRead: 64, Output: 30, Reasoning: 35},
		},
		{
			name: "reasoning and the cache", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":1235,"prompt_tokens_details":{"cached_tokens":1000},"completion_tokens_details":{"reasoning_tokens":135}}`),
			usage: book.Usage{Input: 70, CacheRead: 1000, Output: 30, Reasoning: 135},
		},
		{
			name: "sound, with a cache inside of the prompt", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":225,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":125}}`),
			usage: book.Usage{Input: 6, CacheRead: 64, InputAudio: 125, Output: 30},
		},
		{
			name: "sound and reasoning", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":265,"prompt_tokens_details":{"audio_tokens":125},"completion_tokens_details":{"reasoning_tokens":40}}`),
			usage: book.Usage{Input: 70, InputAudio: 125, Output: 30, Reasoning: 40},
		},
		{
			name: "sound that was said", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":145,"completion_tokens_details":{"audio_tokens":45}}`),
			usage: book.Usage{Input: 70, Output: 30, OutputAudio: 45},
		},
		{
			name: "images, seen and made", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":1690,"prompt_tokens_details":{"image_tokens":300},"completion_tokens_details":{"image_tokens":1290}}`),
			usage: book.Usage{Input: 70, InputImage: 300, Output: 30, OutputImage: 1290},
		},
		{
			name: "what connectors gave the model", url: "https://api.mistral.ai/v1/chat/completions",
			body:  chatOf("mistral-x", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":2100,"connector_tokens":2000}`),
			usage: book.Usage{Input: 2070, Output: 30},
		},
		{
			name: "the sound of a transcription, which nothing else states", url: "https://api.mistral.ai/v1/audio/transcriptions",
			body:  `{"model":"voxtral-x","text":"Good day.","usage":{"prompt_audio_seconds":52,"prompt_tokens":6,"completion_tokens":40,"total_tokens":711}}`,
			usage: book.Usage{Input: 6, InputAudio: 665, Output: 40, Units: units.Of(units.InputAudio, 52_000)}, // by which it is charged
		},
		{
			name: "the sound of one in a stream, which has no other end", url: "https://api.mistral.ai/v1/audio/transcriptions",
			body: sseOpen(`{"type":"transcription.text.delta","text":"Good day."}`,
				`{"type":"transcription.done","model":"voxtral-x","text":"Good day.","usage":{"prompt_audio_seconds":52,"prompt_tokens":6,"completion_tokens":40,"total_tokens":711}}`),
			usage: book.Usage{Input: 6, InputAudio: 665, Output: 40, Units: units.Of(units.InputAudio, 52_000)},
		},
		{
			name: "the sound of a chat with Mistral, likewise", url: "https://api.mistral.ai/v1/chat/completions",
			body:  chatOf("voxtral-x", `{"prompt_audio_seconds":9,"prompt_tokens":6,"completion_tokens":40,"total_tokens":158}`),
			usage: book.Usage{Input: 6, InputAudio: 112, Output: 40},
		},
		{
			name: "hidden reasoning, where nothing has its size", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":64}}`),
			usage: book.Usage{Input: 6, CacheRead: 64, Output: 30, Reasoning: 50},
		},
		{
			name: "a cache that the prompt has no room for, and hidden reasoning", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":1150,"prompt_tokens_details":{"cached_tokens":1000}}`),
			usage: book.Usage{Input: 70, CacheRead: 1000, Output: 30, Reasoning: 50},
		},
		{
			name: "of reasoning that is stated nothing more is hidden: the rest is what tools gave the model", url: anyChat,
			body:  chatOf("gemini-x", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":590,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":450}}`),
			usage: book.Usage{Input: 46, CacheRead: 64, Output: 30, Reasoning: 450},
		},
		{
			name: "also where the reasoning is inside", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":480,"total_tokens":575,"completion_tokens_details":{"reasoning_tokens":450}}`),
			usage: book.Usage{Input: 95, Output: 30, Reasoning: 450},
		},
		{
			name: "a gateway that has Claude's cache inside, of Bedrock", url: anyChat,
			body: chatOf("us.anthropic."+aClaude, `{"prompt_tokens":914,"completion_tokens":30,"total_tokens":944,"prompt_tokens_details":{"cached_tokens":800},
				"cache_read_input_tokens":800,"cache_creation_input_tokens":100}`),
			usage: book.Usage{Input: 14, CacheRead: 800, CacheWrite5m: 100, Output: 30},
		},
		{
			name: "Claude hides no reasoning: what remains was read", url: anyChat,
			body:  chatOf("anthropic/"+aClaude, `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":190,"prompt_tokens_details":{"cached_tokens":50}}`),
			usage: book.Usage{Input: 110, CacheRead: 50, Output: 30},
		},
		{
			name: "Google's compatible API hides reasoning alone, whatever else has its size", url: "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
			body:  chatOf("gemini-x", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":140,"prompt_tokens_details":{"cached_tokens":40}}`),
			usage: book.Usage{Input: 30, CacheRead: 40, Output: 30, Reasoning: 40},
		},
		{
			name: "a prompt of zero is one that is not known", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":0,"completion_tokens":30,"total_tokens":150}`),
			usage: book.Usage{Input: 120, Output: 30},
		},
		{
			name: "a total below its parts says nothing", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":70,"completion_tokens":30,"total_tokens":0}`),
			usage: book.Usage{Input: 70, Output: 30},
		},
	})
}

// Where a total is prompt and completion, all details are inside of these, and no larger.
func TestSums_ATotalOfPromptAndCompletionLeavesNothingBeside(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "reasoning is not more than the completion", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":900,"completion_tokens":32,"total_tokens":932,"completion_tokens_details":{"reasoning_tokens":41}}`),
			usage: book.Usage{Input: 900, Reasoning: 32},
		},
		{
			name: "of a response neither", url: openAIResp,
			body:  `{"model":"m-1","status":"incomplete","usage":{"input_tokens":900,"output_tokens":32,"total_tokens":932,"output_tokens_details":{"reasoning_tokens":33}}}`,
			usage: book.Usage{Input: 900, Reasoning: 32},
		},
		{
			name: "without a total it is on top", url: anyChat,
			body:  chatOf("m-1", `{"prompt_tokens":900,"completion_tokens":32,"completion_tokens_details":{"reasoning_tokens":41}}`),
			usage: book.Usage{Input: 900, Output: 32, Reasoning: 41},
		},
		{
			name: "nor is what was cached more than the prompt", url: anyChat,
			body:  chatOf("grok-x", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":140}}`),
			usage: book.Usage{CacheRead: 90, Output: 32},
		},
		{
			name: "but Claude's cache was never in it", url: anyChat,
			body:  chatOf("eu.anthropic.claude-x", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":3000}}`),
			usage: book.Usage{Input: 90, CacheRead: 3000, Output: 32},
		},
		{
			name: "written neither, whatever the total", url: anyChat,
			body:  chatOf(aClaude, `{"prompt_tokens":90,"completion_tokens":32,"prompt_tokens_details":{"cached_tokens":10,"cached_creation_tokens":400}}`),
			usage: book.Usage{Input: 90, CacheRead: 10, CacheWrite5m: 400, Output: 32},
		},
		{
			name: "what was read and written together has no room in it either", url: anyChat,
			body:  chatOf("us.anthropic.opus-x", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"cache_read_input_tokens":60,"cache_creation_input_tokens":40}`),
			usage: book.Usage{Input: 90, CacheRead: 60, CacheWrite5m: 40, Output: 32},
		},
		{
			name: "by a short name it is Claude's as well", url: anyChat,
			body:  chatOf("Sonnet-4.5", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":3000}}`),
			usage: book.Usage{Input: 90, CacheRead: 3000, Output: 32},
		},
		{
			name: "by new-api's names it is Claude's too, whatever the model is called there", url: anyChat,
			body:  chatOf("best", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":3000},"claude_cache_creation_5_m_tokens":0,"claude_cache_creation_1_h_tokens":70}`),
			usage: book.Usage{Input: 90, CacheRead: 3000, CacheWrite1h: 70, Output: 32},
		},
		{
			name: "and where it says whose way of counting it has", url: anyChat,
			body:  chatOf("best", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"usage_semantic":"anthropic","prompt_tokens_details":{"cached_tokens":30}}`),
			usage: book.Usage{Input: 90, CacheRead: 30, Output: 32},
		},
		{
			name: "Vercel's reasoning is on top all the same", url: "https://ai-gateway.vercel.sh/v1/chat/completions",
			body:  chatOf("m-1", `{"prompt_tokens":90,"completion_tokens":32,"total_tokens":122,"completion_tokens_details":{"reasoning_tokens":20}}`),
			usage: book.Usage{Input: 90, Output: 32, Reasoning: 20},
		},
	})
}

func TestSums_GeminiPutsInsideWhatItsTotalHasNoRoomFor(t *testing.T) {
	t.Parallel()
	const url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"
	of := func(usage string) string {
		return `{"candidates":[{"content":{"parts":[{"text":"Oder"}]},"finishReason":"STOP"}],"usageMetadata":` + usage + `}`
	}
	check(t, []golden{
		{name: "all beside", url: url, body: of(`{"promptTokenCount":50,"candidatesTokenCount":30,"thoughtsTokenCount":20,"toolUsePromptTokenCount":7,"totalTokenCount":107}`),
			usage: book.Usage{Input: 57, Output: 30, Reasoning: 20}},
		{name: "thoughts inside", url: url, body: of(`{"promptTokenCount":50,"candidatesTokenCount":30,"thoughtsTokenCount":20,"toolUsePromptTokenCount":7,"totalTokenCount":87}`),
			usage: book.Usage{Input: 57, Output: 10, Reasoning: 20}},
		{name: "the tools' prompt inside", url: url, body: of(`{"promptTokenCount":50,"candidatesTokenCount":30,"thoughtsTokenCount":20,"toolUsePromptTokenCount":7,"totalTokenCount":100}`),
			usage: book.Usage{Input: 50, Output: 30, Reasoning: 20}},
		{name: "both inside", url: url, body: of(`{"promptTokenCount":50,"candidatesTokenCount":30,"thoughtsTokenCount":20,"toolUsePromptTokenCount":7,"totalTokenCount":80}`),
			usage: book.Usage{Input: 50, Output: 10, Reasoning: 20}},
		{
			name: "details of an embedding", url: "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-x:embedContent",
			body:  `{"embedding":{"values":[0.5]},"usageMetadata":{"promptTokenCount":540,"promptTokenDetails":[{"modality":"TEXT","tokenCount":9},{"modality":"IMAGE","tokenCount":516},{"modality":"AUDIO","tokenCount":15}]}}`,
			usage: book.Usage{Input: 9, InputImage: 516, InputAudio: 15},
		},
	})
}

// OpenAI's models on Bedrock state an input that contains the cache, in streams; nobody else's do.
func TestSums_ConverseOfOpenAIsModels(t *testing.T) {
	t.Parallel()
	of := func(model string) string {
		return "https://bedrock-runtime.eu-west-1.amazonaws.com/model/" + model + "/converse"
	}
	check(t, []golden{
		{
			name: "written", url: of("openai.gpt-x"), usage: book.Usage{Input: 3, CacheWrite5m: 8000, Output: 21},
			body: `{"usage":{"inputTokens":8003,"outputTokens":21,"totalTokens":16024,"cacheWriteInputTokens":8000}}`,
		},
		{
			name: "read and written, in a stream", url: of("global.openai.gpt-x") + "-stream", usage: book.Usage{Input: 2, CacheRead: 8000, CacheWrite5m: 400, Output: 21},
			body: event("messageStop", `{"stopReason":"end_turn"}`) + event("metadata", `{"usage":{"inputTokens":8402,"outputTokens":21,"totalTokens":16823,"cacheReadInputTokens":8000,"cacheWriteInputTokens":400}}`),
		},
		{
			name: "what is not in a stream states the rest alone", url: of("openai.gpt-x"), usage: book.Usage{Input: 2, CacheRead: 8000, Output: 21},
			body: `{"usage":{"inputTokens":2,"outputTokens":21,"totalTokens":8023,"cacheReadInputTokens":8000}}`,
		},
		{
			name: "a total of input and output alone has it inside", url: of("amazon.nova-x"), usage: book.Usage{Input: 503, CacheRead: 7500, Output: 21},
			body: `{"usage":{"inputTokens":8003,"outputTokens":21,"totalTokens":8024,"cacheReadInputTokens":7500}}`,
		},
		{
			name: "unless it does not fit", url: of("amazon.nova-x"), usage: book.Usage{Input: 403, CacheRead: 7500, Output: 21},
			body: `{"usage":{"inputTokens":403,"outputTokens":21,"totalTokens":424,"cacheReadInputTokens":7500}}`,
		},
		{
			name: "Claude's total has it once", url: of("us.anthropic.claude-x"), usage: book.Usage{Input: 8003, CacheWrite5m: 8000, Output: 21},
			body: `{"usage":{"inputTokens":8003,"outputTokens":21,"totalTokens":16024,"cacheWriteInputTokens":8000}}`,
		},
	})
}

// No reading has more tokens than the sums of the reply allow: those of the total, where there is one that holds prompt and
// completion; else prompt and completion, and what lies beside these by the table of docs/usage.md.
func TestSums_NoReadingExceedsWhatTheReplyAllows(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(11, 7)) //nolint:gosec // no secret
	upTo := func(most int64) int64 {
		if random.IntN(3) == 0 {
			return 0
		}
		return random.Int64N(most + 1)
	}
	for _, provider := range []string{"", OpenAIProvider, XAI, Google, Mistral, Vercel, OpenRouter, DeepSeek, Perplexity} {
		for _, kind := range []Kind{Chat, Transcription, Embeddings, Images} {
			for range 4000 {
				var in tally
				for f, most := range map[field]int64{
					fieldPrompt: 100, fieldCompletion: 100, fieldCached: 200, fieldCacheHit: 50, fieldCacheWrite: 150, fieldCacheWrite1h: 30, fieldReasoning: 150, fieldAudioIn: 60,
					fieldImageIn: 60, fieldAudioCached: 20, fieldAudioOut: 50, fieldImageOut: 50, fieldConnector: 40, fieldCachedRead: 80, fieldCachedWrite: 40, fieldClaude5m: 40,
				} {
					if f == fieldPrompt || f == fieldCompletion || random.IntN(3) == 0 {
						in.put(f, upTo(most))
					}
				}
				of := source{Endpoint: Endpoint{Provider: provider, Kind: kind, Format: ChatCompletions}, claude: random.IntN(3) == 0}
				of.beside = of.claude && random.IntN(3) == 0
				prompt, completion := in.n[fieldPrompt], in.n[fieldCompletion]
				short, long := in.writes()
				cache := in.reads() + short + long
				if random.IntN(2) == 0 {
					in.put(fieldTotal, prompt+completion+[...]int64{0, in.n[fieldReasoning], cache, in.reads(), cache + in.n[fieldReasoning], in.n[fieldAudioIn], upTo(300)}[random.IntN(7)])
				}

				u, ok := in.openAI(of)
				require.True(t, ok)
				require.True(t, plausible(u), "%+v of %+v", u, in)
				total := prompt + completion
				beside := int64(0)
				switch by := in.n[fieldTotal] - total; {
				case by > 0:
					total += by
				default: // the habits of the table
					if kind != Embeddings && (provider == Vercel || in.n[fieldReasoning] > completion && (!in.has(fieldTotal) || provider == OpenRouter)) {
						beside += in.n[fieldReasoning]
					}
					if kind != Embeddings && (of.beside || of.claude && cache > prompt) {
						beside += cache
					}
				}
				require.Equal(t, total+beside, Input(u)+outputOf(u), "%+v by %+v is read as %+v", in.n, of, u)
				require.LessOrEqual(t, u.CacheRead+u.CacheReadAudio, in.reads())
				require.LessOrEqual(t, u.CacheWrite5m+u.CacheWrite1h, short+long)
				require.LessOrEqual(t, u.Reasoning, max(in.n[fieldReasoning], in.n[fieldTotal]-prompt-completion))
			}
		}
	}
}

func TestSums_ATranslatedReplyHasTheCacheInsideOfItsInput(t *testing.T) {
	t.Parallel()
	of := func(model, usage string) string {
		return `{"id":"x","type":"message","role":"assistant","content":[{"type":"text","text":"Elbe."}],"stop_reason":"end_turn","model":"` + model + `","usage":` + usage + `}`
	}
	const gateway = "http://gateway.internal:3000/v1/messages"
	check(t, []golden{
		{name: "another company's model by new-api", url: gateway, usage: book.Usage{Input: 40, CacheRead: 260, Output: 70},
			body: of("glm-x", `{"input_tokens":300,"cache_creation_input_tokens":0,"cache_read_input_tokens":260,"output_tokens":70,"claude_cache_creation_5_m_tokens":0,"claude_cache_creation_1_h_tokens":0}`)},
		{name: "Claude itself by new-api", url: gateway, usage: book.Usage{Input: 300, CacheRead: 260, CacheWrite5m: 4, CacheWrite1h: 5, Output: 70},
			body: of(aClaude, `{"input_tokens":300,"cache_creation_input_tokens":9,"cache_read_input_tokens":260,"output_tokens":70,"claude_cache_creation_5_m_tokens":4,"claude_cache_creation_1_h_tokens":5}`)},
		{name: "more than the input cannot be inside", url: gateway, usage: book.Usage{Input: 300, CacheRead: 301, Output: 70},
			body: of("glm-x", `{"input_tokens":300,"cache_read_input_tokens":301,"output_tokens":70,"claude_cache_creation_5_m_tokens":0}`)},
		{name: "another company's model by whoever subtracts it", url: gateway, usage: book.Usage{Input: 300, CacheRead: 260, Output: 70},
			body: of("glm-x", `{"input_tokens":300,"cache_read_input_tokens":260,"output_tokens":70}`)},
	})
	e := at(t, http.MethodPost, gateway)
	require.Equal(t, Anthropic, e.Format)
}
