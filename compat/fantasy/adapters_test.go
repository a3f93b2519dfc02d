package fantasy_test

import (
	"net/http"
	"net/url"
	"testing"

	"charm.land/fantasy"
	fantasyanthropic "charm.land/fantasy/providers/anthropic"
	"charm.land/fantasy/providers/azure"
	"charm.land/fantasy/providers/bedrock"
	fantasygoogle "charm.land/fantasy/providers/google"
	fantasyopenai "charm.land/fantasy/providers/openai"
	"charm.land/fantasy/providers/openaicompat"
	"charm.land/fantasy/providers/openrouter"
	"charm.land/fantasy/providers/vercel"
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
				p, err := provider(tenantfantasy.Client(instead(t, client, url)), url)
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
		adapter("openai, responses", harness.OpenAIResponses{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasyopenai.New(fantasyopenai.WithHTTPClient(client), fantasyopenai.WithBaseURL(url+"/v1"), fantasyopenai.WithAPIKey("key"),
				fantasyopenai.WithUseResponsesAPI(), fantasyopenai.WithResponsesAPIFunc(func(string) bool { return true }))
		}),
		adapter("azure", harness.OpenAIChat{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return azure.New(azure.WithHTTPClient(client), azure.WithBaseURL(url+"/openai/v1"), azure.WithAPIKey("key"))
		}),
		adapter("openrouter", harness.OpenAIChat{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return openrouter.New(openrouter.WithHTTPClient(client), openrouter.WithAPIKey("key"))
		}),
		adapter("vercel", harness.OpenAIChat{Beside: true}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return vercel.New(vercel.WithHTTPClient(client), vercel.WithBaseURL(url+"/v1"), vercel.WithAPIKey("key"))
		}),
		adapter("openaicompat", harness.OpenAIChat{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return openaicompat.New(openaicompat.WithHTTPClient(client), openaicompat.WithBaseURL(url+"/v1"), openaicompat.WithAPIKey("key"))
		}),
		adapter("anthropic", harness.Anthropic{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasyanthropic.New(fantasyanthropic.WithHTTPClient(client), fantasyanthropic.WithBaseURL(url), fantasyanthropic.WithAPIKey("key"))
		}),
		adapter("anthropic on vertex", harness.Anthropic{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasyanthropic.New(fantasyanthropic.WithHTTPClient(client), fantasyanthropic.WithVertex("project", "us-east5"), fantasyanthropic.WithSkipAuth(true))
		}),
		adapter("bedrock", harness.BedrockInvoke{}, true, func(client *http.Client, url string) (fantasy.Provider, error) {
			return bedrock.New(bedrock.WithHTTPClient(client), bedrock.WithBaseURL(url), bedrock.WithAPIKey("key"), bedrock.WithRegion("us-east-1"))
		}),
		adapter("google on vertex", harness.Gemini{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasygoogle.New(fantasygoogle.WithHTTPClient(client), fantasygoogle.WithBaseURL(url), fantasygoogle.WithVertex("project", "us-central1"), fantasygoogle.WithSkipAuth(true))
		}),
		adapter("google", harness.Gemini{}, false, func(client *http.Client, url string) (fantasy.Provider, error) {
			return fantasygoogle.New(fantasygoogle.WithHTTPClient(client), fantasygoogle.WithBaseURL(url), fantasygoogle.WithGeminiAPIKey("key"))
		}),
	})
}

// instead returns a client whose requests go to a server, also those of a provider whose address is fixed.
func instead(t testing.TB, client *http.Client, server string) *http.Client {
	to, err := url.Parse(server)
	require.NoError(t, err)
	changed := *client
	changed.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = to.Scheme, to.Host, ""
		return client.Transport.RoundTrip(r)
	})
	return &changed
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
