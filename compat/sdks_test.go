package compat_test

import (
	"testing"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

// sdks are all SDKs, in the order of the documentation.
var sdks = []*harness.SDK{
	&openaiChat,
	&openaiResponses,
	&sashabaranov,
	&langchaingo,
	&eino,
	&anthropicMessages,
	&anthropicBedrock,
	&anthropicVertex,
	&geminiAPI,
	&vertexAI,
	&bedrockConverse,
	&bedrockInvoke,
	&ollamaAPI,
}

func TestSDKs(t *testing.T) {
	t.Parallel()
	var results harness.Results
	t.Run("over the transport", func(t *testing.T) { // returns when all that is parallel in it has ended
		for _, sdk := range sdks {
			t.Run(sdk.Name, func(t *testing.T) {
				t.Parallel()
				harness.Run(t, sdk, &results)
			})
		}
	})
	results.Document(t, "../docs/sdks.md", sdks)
}
