package fantasy_test

import (
	"net/http"
	"testing"

	"charm.land/fantasy"
	fantasyanthropic "charm.land/fantasy/providers/anthropic"
	fantasygoogle "charm.land/fantasy/providers/google"
	fantasyopenai "charm.land/fantasy/providers/openai"
	"charm.land/fantasy/providers/openaicompat"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	tenantfantasy "github.com/llmtenant/tenant/adapters/fantasy"
	"github.com/llmtenant/tenant/compat/internal/harness"
)

func TestAdapters(t *testing.T) {
	t.Parallel()
	const png = "cG5n" // in base64
	adapter := func(name string, wire harness.Wire, byTool bool, provider func(client *http.Client, url string) (fantasy.Provider, error)) *harness.Adapter {
		return &harness.Adapter{
			Name: name, Wire: wire, Image: png, NoURL: true, NoStop: true, ByTool: byTool,
			New: func(t testing.TB, client *http.Client, url string) tenant.Model {
				p, err := provider(tenantfantasy.Client(client), url)
				require.NoError(t, err)
				language, err := p.LanguageModel(t.Context(), harness.Model)
				require.NoError(t, err)
				model, err := tenantfantasy.NewModel(language)
				require.NoError(t, err)
				return model
			},
		}
	}
	harness.RunAdapters(t, []*harness.Adapter{
		adapter("openai", harness.OpenAIChat{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasyopenai.New(fantasyopenai.WithHTTPClient(client), fantasyopenai.WithBaseURL(url+"/v1"), fantasyopenai.WithAPIKey("key"))
		}),
		adapter("openaicompat", harness.OpenAIChat{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return openaicompat.New(openaicompat.WithHTTPClient(client), openaicompat.WithBaseURL(url+"/v1"), openaicompat.WithAPIKey("key"))
		}),
		adapter("anthropic", harness.Anthropic{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasyanthropic.New(fantasyanthropic.WithHTTPClient(client), fantasyanthropic.WithBaseURL(url), fantasyanthropic.WithAPIKey("key"))
		}),
		adapter("google", harness.Gemini{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasygoogle.New(fantasygoogle.WithHTTPClient(client), fantasygoogle.WithBaseURL(url), fantasygoogle.WithGeminiAPIKey("key"))
		}),
	})
}
