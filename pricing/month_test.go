package pricing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// What a call costs in the autumn of 2026, in nano-dollars.
func TestBook_KnowsWhatIsSoldNow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.November, 3, 0, 0, 0, 0, time.UTC)
	const m = 1_000_000
	in := tenant.Usage{Input: m}
	for _, c := range []struct {
		provider, model, service string
		usage                    tenant.Usage
		nano                     int64
	}{
		{OpenAI, "gpt-6-sol", "", tenant.Usage{Input: 100_000, Output: 1000}, 200*m + 10*m},
		{OpenAI, "gpt-6-luna-2026-10-05", "batch", tenant.Usage{Input: 300_000, Output: 1000}, 30*m + 375_000},
		{OpenAI, "gpt-6-astra", "flex", tenant.Usage{CacheWrite5m: 1000, CacheRead: 1000, Output: 100}, 6_250_000 + 500_000 + 2_500_000},
		{Anthropic, "claude-opus-5-5", "", tenant.Usage{Input: 1000, CacheRead: 1000, CacheWrite1h: 1000, Output: 1000}, 4*m + 200_000 + 8*m + 20*m},
		{Anthropic, "claude-sonnet-5", "", in, 2000 * m},
		{Google, "gemini-3.8-flash", "", in, 750 * m},
		{Google, "gemini-3.8-flash", "", tenant.Usage{WebSearches: 3, Units: units.Of(units.MapGroundings, 1)}, 56 * m},
		{Vertex, "gemini-3.8-flash", "batch", in, 375 * m},
		{Vertex, "gemini-3.7-flash", "", tenant.Usage{WebSearches: 2}, 28 * m},
		{Vertex, "claude-opus-5-5", "", in, 4000 * m},
		{Bedrock, "us.anthropic.claude-opus-5-5", "", in, 4400 * m},
		{Bedrock, "global.anthropic.claude-opus-5-5", "", in, 4000 * m},
		{Mistral, "mistral-medium-latest", "", in, 1500 * m},

		// Batches above a threshold cost half of what is charged above it.
		{OpenAI, "gpt-5.4", "batch", tenant.Usage{Input: 280_000, Output: 2000}, 700*m + 22_500_000},
		{OpenAI, "gpt-5.5", "flex", tenant.Usage{Input: 272_001}, 1_360_005_000},
		{OpenAI, "gpt-5.5", "batch", tenant.Usage{Input: 272_000}, 680 * m},

		// Of OpenAI's models on Bedrock, all regions but the global one cost a tenth more.
		{Bedrock, "global.openai.gpt-5.6-terra", "", tenant.Usage{Input: 1000, Output: 1000}, 2*m + 12*m},
		{Bedrock, "in.openai.gpt-5.6-terra", "", tenant.Usage{Input: 1000, Output: 1000}, 2_200_000 + 13_200_000},

		// Images without a rate of text output, embeddings of media, speech.
		{Azure, "gpt-image-1", "", tenant.Usage{Input: 1000, InputImage: 1000, OutputImage: 1000}, 5*m + 10*m + 40*m},
		{Google, "gemini-embedding-2", "", tenant.Usage{Input: 3000, InputImage: 1000, Units: units.Of(units.InputVideoTokens, 1000)}, 600_000 + 450_000 + 12*m},
		{OpenAI, "gpt-4o-mini-tts", "", tenant.Usage{Input: 1000, OutputAudio: 1000}, 600_000 + 12*m},
		{OpenRouter, "openai/text-embedding-3-small", "", tenant.Usage{Input: 1000}, 20_000},

		// What is charged by nothing but units.
		{OpenAI, "whisper-1", "", tenant.Usage{Units: units.Of(units.InputAudio, 90_500)}, 9_050_000},
		{OpenAI, "tts-1-hd", "", tenant.Usage{Units: units.Of(units.InputCharacters, 700)}, 21 * m},
		{OpenAI, "dall-e-3", "", tenant.Usage{Units: units.Of(units.OutputImages.With("1024x1792", "standard"), 1)}, 80 * m},
		{OpenAI, "dall-e-2", "", tenant.Usage{Units: units.Of(units.OutputImages.With("256x256"), 5)}, 80 * m},
		{OpenAI, "sora-2-pro", "", tenant.Usage{Units: units.Of(units.OutputVideo.With("1280x720"), 4000)}, 1200 * m},
		{OpenAI, "sora-2-pro", "", tenant.Usage{Units: units.Of(units.OutputVideo.With("1792x1024", "1024p"), 4000)}, 2000 * m},
		{Azure, "sora-2-pro", "", tenant.Usage{Units: units.Of(units.OutputVideo.With("1024x1792", "1024p"), 1000)}, 500 * m},
		{XAI, "grok-imagine-video", "", tenant.Usage{Units: units.Of(units.OutputVideo.With("720p"), 2000)}, 140 * m},
		{XAI, "grok-imagine-image", "", tenant.Usage{Units: units.Of(units.OutputImages, 3)}, 60 * m},
		{OpenRouter, "openai/whisper-1", "", tenant.Usage{Units: units.Of(units.InputAudio, 6000)}, 600_000},
		{OpenRouter, "cohere/rerank-v3.5", "", tenant.Usage{Units: units.Of(units.SearchUnits, 1)}, 2 * m},
		{Cohere, "embed-english-v3.0", "", tenant.Usage{Input: 2000, Units: units.Of(units.InputImages, 3)}, 200_000 + 300_000},
		{Bedrock, "amazon.titan-embed-image-v1", "", tenant.Usage{Input: 1000, Units: units.Of(units.InputImages, 1)}, 800_000 + 60_000},
		{Vertex, "text-embedding-005", "", tenant.Usage{Input: 20, Units: units.Of(units.InputCharacters, 80)}, 2_000},
		{Mistral, "voxtral-mini-2602", "", tenant.Usage{Input: 4, InputAudio: 750, Output: 50, Units: units.Of(units.InputAudio, 60_000)}, 3 * m},
		{Google, "veo-3.1-lite-generate-preview", "", tenant.Usage{Units: units.Of(units.OutputVideo.With("1080p"), 1000)}, 80 * m},
		{Google, "imagen-4.0-ultra-generate-001", "", tenant.Usage{Units: units.Of(units.OutputImages, 2)}, 120 * m},
		{Cohere, "rerank-v3.5", "", tenant.Usage{Units: units.Of(units.SearchUnits, 3)}, 6 * m},
		{Mistral, "mistral-ocr-2512", "", tenant.Usage{Units: units.Of(units.Pages, 12)}, 24 * m},
		{Mistral, "mistral-ocr-4-1", "", tenant.Usage{Units: units.Of(units.Pages.With("annotated"), 4)}, 20 * m},
		{Groq, "whisper-large-v3-turbo", "", tenant.Usage{Units: units.Of(units.InputAudio, 3_600_000)}, 40 * m},

		// Tools beside the tokens.
		{OpenAI, "gpt-4.1-mini", "", tenant.Usage{Input: 1000, Units: units.Of(units.FileSearches, 2)}, 400_000 + 5*m},
		{OpenAI, "gpt-5", "batch", tenant.Usage{Units: units.Of(units.Containers, 1)}, 30 * m},
		{OpenAI, "gpt-5", "", tenant.Usage{Units: units.Of(units.Containers.With("16g"), 2)}, 960 * m},
		{OpenAI, "gpt-6-sol", "", tenant.Usage{Units: units.Of(units.Containers.With("4g"), 1)}, 120 * m},
		{Azure, "gpt-5", "", tenant.Usage{Units: units.Of(units.Containers.With("4g"), 1)}, 30 * m}, // of its memory no list says anything
	} {
		p, ok := Default().Price(c.provider, c.model, now)
		require.True(t, ok, "%s %s", c.provider, c.model)
		require.Equal(t, c.nano, inNano(p.ForService(c.service).Cost(c.usage)), "%s %s %s", c.provider, c.model, c.service)
	}
}
