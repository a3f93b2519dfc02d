package fantasy_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"charm.land/fantasy"
	fantasyopenai "charm.land/fantasy/providers/openai"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var notes = []string{
	"cancelled: an error that a callback returns ends the call and not the stream, which is open, and its call not booked, until the context ends. Cancel the context.",
	"429 and 500: its own tries are off in the test, where the caller tries again: they wait for seconds, whatever the provider says.",
	"Versions from v0.45 on need Go 1.27.",
}

func TestSDKs_AreMeteredToTheToken(t *testing.T) {
	t.Parallel()
	harness.RunAll(t, []*harness.SDK{{
		Name: "fantasy, providers/openai", Module: "charm.land/fantasy", File: "fantasy_test.go",
		Wire: harness.OpenAIChat{}, New: newOpenAI, LetsGo: harness.WithTheContext, Notes: notes,
	}})
}

func newOpenAI(t testing.TB, client *http.Client, url string) harness.Calls {
	// The transport under the SDK:
	provider, err := fantasyopenai.New(fantasyopenai.WithHTTPClient(client), fantasyopenai.WithBaseURL(url+"/v1"), fantasyopenai.WithAPIKey("key"))

	require.NoError(t, err)
	model, err := provider.LanguageModel(t.Context(), harness.Model)
	require.NoError(t, err)
	return calls(model)
}

func calls(model fantasy.LanguageModel) harness.Calls {
	agent := func(options ...fantasy.AgentOption) fantasy.Agent {
		return fantasy.NewAgent(model, append(options, fantasy.WithMaxOutputTokens(1000), fantasy.WithMaxRetries(0))...)
	}
	generate := func(ctx context.Context, a fantasy.Agent, prompt string) (string, error) {
		result, err := a.Generate(ctx, fantasy.AgentCall{Prompt: prompt})
		if err != nil {
			return "", err
		}
		return result.Response.Content.Text(), nil
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) { return generate(ctx, agent(), prompt) },
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			_, err := agent().Stream(ctx, fantasy.AgentStreamCall{Prompt: prompt, OnTextDelta: func(_, piece string) error { return each(piece) }})
			return err
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			type place struct {
				City string `json:"city"`
			}
			tool := fantasy.NewAgentTool(harness.ToolName, harness.ToolDescription,
				func(_ context.Context, in place, call fantasy.ToolCall) (fantasy.ToolResponse, error) {
					arguments, err := json.Marshal(in)
					return fantasy.NewTextResponse(run(call.Name, string(arguments))), err
				})
			return generate(ctx, agent(fantasy.WithTools(tool)), prompt)
		},
		Status: func(err error) int {
			var said *fantasy.ProviderError
			if errors.As(err, &said) {
				return said.StatusCode
			}
			return 0
		},
	}
}
