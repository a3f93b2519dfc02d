package compat_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/llmtenant/tenant"
)

func geminiClient(t *testing.T, m *metered) *genai.Client {
	t.Helper()
	sdk, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		Backend: genai.BackendGeminiAPI, HTTPClient: m.client, APIKey: "key", HTTPOptions: genai.HTTPOptions{BaseURL: m.url},
	})
	require.NoError(t, err)
	return sdk
}

// Since Gemini 3 each search has a price, before it was the prompt that is grounded. Tokens of tools are beside the prompt.
func TestGemini_SearchesAreHeldAndCharged(t *testing.T) {
	t.Parallel()
	const body = `{"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"finishReason":"STOP","index":0,` +
		`"groundingMetadata":{"webSearchQueries":["one","two"]}}],"usageMetadata":{"promptTokenCount":800,"toolUsePromptTokenCount":200,` +
		`"candidatesTokenCount":300,"thoughtsTokenCount":200,"totalTokenCount":1500},"modelVersion":"MODEL","responseId":"response-1"}`
	for model, want := range map[string]struct {
		searches int64
		cost     string
	}{"gemini-2.5-flash": {1, "0.012"}, "gemini-3-pro": {2, "0.022"}} {
		m := newMetered(t, tenDollars, replies(strings.ReplaceAll(body, "MODEL", model)))
		_, err := geminiClient(t, m).Models.GenerateContent(m.ctx, model, genai.Text("What is new?"), &genai.GenerateContentConfig{
			MaxOutputTokens: 1000, Tools: []*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}},
		})
		require.NoError(t, err)
		e := m.execution()
		require.Equal(t, tenant.Usage{Input: 1000, Output: 300, Reasoning: 200, WebSearches: want.searches}, e.Usage)
		require.Equal(t, want.cost, e.Cost().String(), model)
		require.GreaterOrEqual(t, e.HeldTokens, int64(200_000))
	}
}

// Sound has a class of its own, cached sound another.
func TestGemini_ModalitiesAreClasses(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(`{"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"finishReason":"STOP","index":0}],`+
		`"usageMetadata":{"promptTokenCount":1000,"cachedContentTokenCount":300,"candidatesTokenCount":50,"totalTokenCount":1050,`+
		`"promptTokensDetails":[{"modality":"TEXT","tokenCount":400},{"modality":"AUDIO","tokenCount":500},{"modality":"IMAGE","tokenCount":100}],`+
		`"cacheTokensDetails":[{"modality":"TEXT","tokenCount":100},{"modality":"AUDIO","tokenCount":200}]},"modelVersion":"gemini-2.5-flash"}`))
	contents := []*genai.Content{genai.NewContentFromParts([]*genai.Part{
		genai.NewPartFromText("What is said?"), genai.NewPartFromBytes(make([]byte, 9000), "audio/wav"), genai.NewPartFromBytes(make([]byte, 900), "image/png"),
	}, genai.RoleUser)}
	_, err := geminiClient(t, m).Models.GenerateContent(m.ctx, "gemini-2.5-flash", contents, &genai.GenerateContentConfig{MaxOutputTokens: 100})
	require.NoError(t, err)
	e := m.execution()
	require.Equal(t, tenant.Usage{Input: 300, InputAudio: 300, InputImage: 100, CacheRead: 100, CacheReadAudio: 200, Output: 50}, e.Usage)
	require.Zero(t, e.OverrunTokens)
}

// The Gemini API says nothing of the tokens that it embeds.
func TestGemini_EmbeddingsAreChargedByAnEstimate(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(`{"embeddings":[{"values":[0.1,0.2]}]}`))
	reply, err := geminiClient(t, m).Models.EmbedContent(m.ctx, "gemini-embedding-001", genai.Text(strings.Repeat("Hello. ", 100)), nil)
	require.NoError(t, err)
	require.Len(t, reply.Embeddings, 1)
	e := m.execution()
	require.Equal(t, "succeeded", e.Status)
	require.True(t, e.Estimated)
	require.Positive(t, e.Usage.Input)
	require.Zero(t, e.Usage.OutputTokens())
}

func TestGemini_CountingTokensIsFree(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(`{"totalTokens":14}`))
	count, err := geminiClient(t, m).Models.CountTokens(m.ctx, "gemini-2.5-flash", genai.Text("Hello"), nil)
	require.NoError(t, err)
	require.EqualValues(t, 14, count.TotalTokens)
	require.Empty(t, m.executions())
}
