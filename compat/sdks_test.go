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

func TestSDKs_AreMeteredToTheToken(t *testing.T) {
	t.Parallel()
	harness.RunAll(t, sdks)
}
