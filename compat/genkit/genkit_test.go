package genkit_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/firebase/genkit/go/ai"
	"github.com/firebase/genkit/go/genkit"
	"github.com/firebase/genkit/go/plugins/compat_oai"
	oai "github.com/firebase/genkit/go/plugins/compat_oai/openai"
	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

func TestSDKs_AreMeteredToTheToken(t *testing.T) {
	t.Parallel()
	harness.RunAll(t, []*harness.SDK{{
		Name: "genkit, plugins/compat_oai", Module: "github.com/firebase/genkit/go", File: "genkit_test.go",
		Wire: harness.OpenAIChat{}, Retries: 2, New: newGenkit,
	}})
}

func newGenkit(t testing.TB, client *http.Client, url string) harness.Calls {
	// The transport under the SDK:
	plugin := &oai.OpenAI{APIKey: "key", Opts: []option.RequestOption{option.WithHTTPClient(client), option.WithBaseURL(url + "/v1")}}
	sdk := genkit.Init(t.Context(), genkit.WithPlugins(plugin))

	model := plugin.DefineModel(harness.Model, ai.ModelOptions{Supports: &compat_oai.BasicText})
	options := func(prompt string, more ...ai.GenerateOption) []ai.GenerateOption {
		return append(more, ai.WithModel(model), ai.WithPrompt(prompt),
			ai.WithConfig(&openai.ChatCompletionNewParams{MaxCompletionTokens: openai.Int(1000)}))
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			return genkit.GenerateText(ctx, sdk, options(prompt)...)
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			_, err := genkit.Generate(ctx, sdk, options(prompt, ai.WithStreaming(func(_ context.Context, chunk *ai.ModelResponseChunk) error {
				return each(chunk.Text())
			}))...)
			return err
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			type place struct {
				City string `json:"city"`
			}
			tool := ai.NewTool(harness.ToolName, harness.ToolDescription, func(_ *ai.ToolContext, in place) (string, error) {
				arguments, err := json.Marshal(in)
				return run(harness.ToolName, string(arguments)), err
			})
			return genkit.GenerateText(ctx, sdk, options(prompt, ai.WithTools(tool))...)
		},
		Status: func(err error) int {
			var said *openai.Error // the plugin is made of OpenAI's SDK, in its first version
			if errors.As(err, &said) {
				return said.StatusCode
			}
			return 0
		},
	}
}
