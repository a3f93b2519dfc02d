package meter

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecognise_WhatIsKnownAndNotCountedIsNamed(t *testing.T) {
	t.Parallel()
	for address, name := range map[string]string{
		"https://api.elevenlabs.io/v1/text-to-speech/v":                                                      "ElevenLabs",
		"https://api.eu.residency.elevenlabs.io/v1/speech-to-text":                                           "ElevenLabs",
		"https://api.deepgram.com/v1/listen":                                                                 "Deepgram",
		"https://api.assemblyai.com/v2/transcript":                                                           "AssemblyAI",
		"https://queue.fal.run/fal-ai/flux/dev":                                                              "fal",
		"https://api.replicate.com/v1/predictions":                                                           "Replicate",
		"https://api.stability.ai/v2beta/stable-image/generate/core":                                         "Stability",
		"https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/e/invocations":                          "SageMaker",
		"https://bedrock-agent-runtime.us-east-1.amazonaws.com/agents/a/agentAliases/b/sessions/c/text":      "Bedrock agents",
		"https://bedrock-agent-runtime-fips.us-east-1.amazonaws.com/retrieveAndGenerate":                     "Bedrock agents",
		"https://bedrock-runtime.us-east-1.amazonaws.com/guardrail/g/version/1/apply":                        "guardrails",
		"https://api.openai.com/v1/realtime/calls":                                                           "Realtime",
		"https://x.openai.azure.com/openai/v1/realtime/client_secrets":                                       "Realtime",
		"https://api.openai.com/v1/fine_tuning/jobs":                                                         "fine-tuning",
		"https://api.openai.com/v1/threads/t/runs":                                                           "run",
		"https://api.openai.com/v1/evals/e/runs":                                                             "evaluation",
		"https://api.openai.com/v1/containers":                                                               "container",
		"https://api.openai.com/v1/agents/sessions":                                                          "OpenAI's agents",
		"https://api.openai.com/v1/agents/sessions/s/events":                                                 "OpenAI's agents",
		"https://api.openai.com/v1/agents/automations/a/invocations":                                         "OpenAI's agents",
		"https://api.openai.com/v1/agents/environments":                                                      "container",
		"https://api.openai.com/v1/chatkit/sessions":                                                         "ChatKit",
		"https://api.deepinfra.com/v1/inference/meta-llama/m":                                                "DeepInfra",
		"https://api.anthropic.com/v1/sessions/s/events":                                                     "managed agent",
		"https://generativelanguage.googleapis.com/v1beta/cachedContents":                                    "cache",
		"https://generativelanguage.googleapis.com/upload/v1beta/fileSearchStores/s:uploadToFileSearchStore": "file search",
		"https://dashscope.aliyuncs.com/api/v1/services/aigc/text2image/image-synthesis":                     "DashScope",
		"https://a.snowflakecomputing.com/api/v2/cortex/agent:run":                                           "Snowflake",
		"https://api.perplexity.ai/search":                                                                   "Perplexity",
		"https://example.com/orders":                                                                         "",
		"https://api.elevenlabs.io.example.com/v1/text-to-speech/v":                                          "",
		"https://bedrock-agent-runtime.us-east-1.example.com/agents/a":                                       "",
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		e, ok := Recognise(http.MethodPost, u)
		require.False(t, ok, address)
		if name == "" {
			require.Empty(t, e.Service, address)
		} else {
			require.Contains(t, e.Service, name, address)
		}
	}
}

// What a service has made is read for nothing; it was reported when it was made.
func TestRecognise_ReadingWhatAServiceHasMadeIsFree(t *testing.T) {
	t.Parallel()
	for address, free := range map[string]bool{
		"https://api.replicate.com/v1/predictions/p": true, "https://queue.fal.run/fal-ai/flux/requests/r": true,
		"https://api.elevenlabs.io/v1/voices": true, "https://example.com/v1/predictions/p": false,
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		e, ok := Recognise(http.MethodGet, u)
		require.Equal(t, free, ok && e.Kind == Free, address)
	}
}

func TestRecognise_WhatOnlyKeepsSomethingIsFree(t *testing.T) {
	t.Parallel()
	for address, free := range map[string]bool{
		"https://api.openai.com/v1/agents":                                                            true,
		"https://api.openai.com/v1/agents/agent_1":                                                    true,
		"https://api.openai.com/v1/conversations":                                                     true,
		"https://api.openai.com/v1/conversations/c/items":                                             true,
		"https://x.openai.azure.com/openai/v1/conversations":                                          true,
		"https://x.services.ai.azure.com/api/projects/p/openai/v1/conversations":                      true,
		"https://x.services.ai.azure.com/api/projects/p/openai/conversations/c/items?api-version=v1":  true,
		"https://x.services.ai.azure.com/api/projects/p/agents":                                       true,
		"https://x.services.ai.azure.com/api/projects/conversations/agents/a/versions":                true,
		"https://x.services.ai.azure.com/api/projects/p/openai/v1/responses":                          false,
		"https://x.services.ai.azure.com/api/projects/p/agents/a/endpoint/protocols/openai/responses": false,
		"https://x.services.ai.azure.com/api/projects/p/evals/e/runs":                                 false,
		"https://x.services.ai.azure.com/api/projects/p/indexes":                                      false,
		"https://api.openai.com/v1/vector_stores/v/file_batches":                                      true,
		"https://api.openai.com/v1/vector_stores/v/search":                                            true,
		"https://gateway.internal/v1/vector_stores":                                                   true,
		"https://api.openai.com/v1/skills/s/versions":                                                 true,
		"https://api.openai.com/v1/chat/completions/c":                                                true,
		"https://api.openai.com/v1/evals":                                                             true,
		"https://api.openai.com/v1/organization/projects":                                             true,
		"https://api.openai.com/v1/responses/input_tokens":                                            true,
		"https://api.anthropic.com/v1/skills?beta=true":                                               true,
		"https://api.anthropic.com/v1/agents":                                                         true,
		"https://api.mistral.ai/v1/agents":                                                            true,
		"https://api.mistral.ai/v1/agents/a":                                                          true,
		"https://api.cohere.com/v1/datasets":                                                          true,
		"https://generativelanguage.googleapis.com/v1beta/agents":                                     true,
		"https://generativelanguage.googleapis.com/v1beta/batches/b:cancel":                           true,
		"https://openrouter.ai/api/v1/keys":                                                           true,
		"https://api.x.ai/v1/tokenize-text":                                                           true,
		"https://api.mistral.ai/v1/agents/completions":                                                false,
		"https://api.mistral.ai/v1/conversations":                                                     false,
		"https://x.services.ai.azure.com/api/projects/p/openai/v1/embeddings":                         false,
		"https://api.openai.com/v1/evals/e/runs":                                                      false,
		"https://api.openai.com/v1/chat/completions":                                                  false,
		"https://api.openai.com/v1/threads":                                                           false,
		"https://api.groq.com/openai/v1/skills":                                                       false,
		"https://example.com/skills":                                                                  false,
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		e, ok := Recognise(http.MethodPost, u)
		require.Equal(t, free, ok && e.Kind == Free, address)
	}
}
