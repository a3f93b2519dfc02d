package meter

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecognise_TellsEndpointsByTheirAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, url string
		want        Endpoint
	}{
		{"POST", "https://api.openai.com/v1/chat/completions", Endpoint{Provider: "openai", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://eu.api.openai.com/v1/responses", Endpoint{Provider: "openai", Kind: Chat, Format: Responses, Region: "eu"}},
		{"POST", "https://US.api.openai.com/v1/chat/completions", Endpoint{Provider: "openai", Kind: Chat, Format: ChatCompletions, Region: "us"}},
		{"POST", "https://a.b.api.openai.com/v1/chat/completions", Endpoint{Provider: "openai", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://api.openai.com/v1/completions", Endpoint{Provider: "openai", Kind: Chat, Format: Completions}},
		{"POST", "https://api.openai.com/v1/responses", Endpoint{Provider: "openai", Kind: Chat, Format: Responses}},
		{"POST", "https://api.openai.com/v1/responses/compact", Endpoint{Provider: "openai", Kind: Chat, Format: Responses}},
		{"GET", "https://api.openai.com/v1/responses/resp_1", Endpoint{Provider: "openai", Kind: Chat, Format: Responses, Retrieval: true}},
		{"POST", "https://api.openai.com/v1/responses/resp_1/cancel", Endpoint{Provider: "openai", Kind: Chat, Format: Responses, Retrieval: true}},
		{"GET", "https://api.openai.com/v1/responses/resp_1/input_items", Endpoint{Provider: "openai", Kind: Free}},
		{"DELETE", "https://api.openai.com/v1/responses/resp_1", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://api.openai.com/v1/responses/input_tokens", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://api.openai.com/v1/embeddings", Endpoint{Provider: "openai", Kind: Embeddings, Format: OpenAI}},
		{"POST", "https://api.openai.com/v1/images/generations", Endpoint{Provider: "openai", Kind: Images, Format: OpenAI}},
		{"POST", "https://api.openai.com/v1/audio/transcriptions", Endpoint{Provider: "openai", Kind: Transcription, Format: OpenAI}},
		{"POST", "https://api.openai.com/v1/audio/speech", Endpoint{Provider: "openai", Kind: Speech, Format: OpenAI}},
		{"POST", "https://api.openai.com/v1/moderations", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://api.mistral.ai/v1/moderations", Endpoint{Provider: "mistral", Kind: Moderation, Format: OpenAI}},
		{"POST", "https://api.mistral.ai/v1/fim/completions", Endpoint{Provider: "mistral", Kind: Chat, Format: Completions}},
		{"POST", "https://api.mistral.ai/v1/ocr", Endpoint{Provider: "mistral", Kind: OCR, Format: OpenAI}},
		{"POST", "https://api.openai.com/v1/decisions", Endpoint{Provider: "openai", Kind: Chat, Format: OpenAI}},
		{"GET", "https://api.openai.com/v1/models", Endpoint{Provider: "openai", Kind: Free}},
		{"GET", "https://api.openai.com/v1/models/gpt-x", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://api.openai.com/v1/files", Endpoint{Provider: "openai", Kind: Free}},
		{"GET", "https://api.openai.com/v1/files/f-1/content", Endpoint{Provider: "openai", Kind: File, Format: OpenAI, Batch: "f-1", Retrieval: true}},
		{"GET", "https://api.openai.com/v1/files/f-1", Endpoint{Provider: "openai", Kind: Free}},
		{"DELETE", "https://api.openai.com/v1/files/f-1", Endpoint{Provider: "openai", Kind: Free}},
		{"GET", "https://api.openai.com/v1/batches/b-1", Endpoint{Provider: "openai", Kind: Free}},
		{"GET", "https://x.openai.azure.com/openai/files/f-1/content?api-version=2025-03-01", Endpoint{Provider: "azure", Kind: File, Format: OpenAI, Batch: "f-1", Retrieval: true}},
		{"GET", "https://api.groq.com/openai/v1/files/f-1/content", Endpoint{Provider: "groq", Kind: File, Format: OpenAI, Batch: "f-1", Retrieval: true}},
		{"GET", "https://gateway.internal/v1/files/f-1/content", Endpoint{Kind: File, Format: OpenAI, Batch: "f-1", Retrieval: true}},
		{"POST", "https://api.mistral.ai/v1/batch/jobs", Endpoint{Provider: "mistral", Kind: Batch, Format: OpenAI}},
		{"GET", "https://api.mistral.ai/v1/batch/jobs/j-1?inline=true", Endpoint{Provider: "mistral", Kind: BatchResults, Format: OpenAI, Batch: "j-1", Retrieval: true}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:batchGenerateContent", Endpoint{Provider: "google", Kind: Batch, Format: Gemini, Model: "gemini-x"}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/e:asyncBatchEmbedContent", Endpoint{Provider: "google", Kind: Batch, Format: Gemini, Model: "e"}},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/batches/b-1", Endpoint{Provider: "google", Kind: BatchResults, Format: Gemini, Batch: "b-1", Retrieval: true}},
		{"GET", "https://generativelanguage.googleapis.com/download/v1beta/files/batch-1:download?alt=media", Endpoint{Provider: "google", Kind: File, Format: Gemini, Batch: "batch-1", Retrieval: true}},
		{"POST", "https://api.openai.com/v1/uploads/u-1/parts", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://api.openai.com/v1/batches", Endpoint{Provider: "openai", Kind: Batch, Format: OpenAI}},
		{"POST", "https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-06-01", Endpoint{Provider: "azure", Kind: Chat, Format: ChatCompletions, Model: "mine", dated: "2024-06-01"}},
		{"POST", "https://x.openai.azure.com/openai/deployments/e/embeddings?api-version=2024-06-01", Endpoint{Provider: "azure", Kind: Embeddings, Format: OpenAI, Model: "e", dated: "2024-06-01"}},
		{"POST", "https://x.openai.azure.com/openai/v1/responses", Endpoint{Provider: "azure", Kind: Chat, Format: Responses}},
		{"POST", "https://x.services.ai.azure.com/models/chat/completions", Endpoint{Provider: "azure", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://x.services.ai.azure.com/anthropic/v1/messages", Endpoint{Provider: "azure", Kind: Chat, Format: Anthropic}},
		{"POST", "https://api.anthropic.com/v1/messages", Endpoint{Provider: "anthropic", Kind: Chat, Format: Anthropic}},
		{"POST", "https://api.anthropic.com/v1/messages?beta=true", Endpoint{Provider: "anthropic", Kind: Chat, Format: Anthropic}},
		{"POST", "https://api.anthropic.com/v1/messages/count_tokens", Endpoint{Provider: "anthropic", Kind: Free}},
		{"POST", "https://api.anthropic.com/v1/messages/batches", Endpoint{Provider: "anthropic", Kind: Batch, Format: Anthropic}},
		{"GET", "https://api.anthropic.com/v1/messages/batches/b-1/results", Endpoint{Provider: "anthropic", Kind: BatchResults, Format: Anthropic, Batch: "b-1", Retrieval: true}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent", Endpoint{Provider: "google", Kind: Chat, Format: Gemini, Model: "gemini-x"}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:streamGenerateContent?alt=sse", Endpoint{Provider: "google", Kind: Chat, Format: Gemini, Model: "gemini-x", Streams: true}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/e:batchEmbedContents", Endpoint{Provider: "google", Kind: Embeddings, Format: Gemini, Model: "e"}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:countTokens", Endpoint{Provider: "google", Kind: Free}},
		{"POST", "https://generativelanguage.googleapis.com/upload/v1beta/files", Endpoint{Provider: "google", Kind: Free}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", Endpoint{Provider: "google", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/google/models/gemini-x:generateContent", Endpoint{Provider: "vertex", Kind: Chat, Format: Gemini, Model: "gemini-x"}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/123:generateContent", Endpoint{Provider: "vertex", Kind: Chat, Format: Gemini, Model: "123"}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:streamRawPredict", Endpoint{Provider: "vertex", Kind: Chat, Format: Anthropic, Model: "claude-x@1", Streams: true, Region: "regional"}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic/models/claude-x@1:rawPredict", Endpoint{Provider: "vertex", Kind: Chat, Format: Anthropic, Model: "claude-x@1"}},
		{"POST", "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x@1:rawPredict", Endpoint{Provider: "vertex", Kind: Chat, Format: Anthropic, Model: "claude-x@1", Region: "regional"}},
		{"POST", "https://aws-external-anthropic.us-west-2.api.aws/v1/messages", Endpoint{Provider: "anthropic", Kind: Chat, Format: Anthropic}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", Endpoint{Provider: "vertex", Kind: Chat, Format: ChatCompletions, Model: "m"}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi/chat/completions", Endpoint{Provider: "vertex", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://bedrock-runtime.eu-central-1.amazonaws.com/model/anthropic.claude-v2%3A1/converse-stream", Endpoint{Provider: "bedrock", Kind: Chat, Format: Converse, Model: "anthropic.claude-v2:1", Streams: true}},
		{"POST", "https://bedrock-runtime-fips.us-east-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc/invoke", Endpoint{Provider: "bedrock", Kind: Chat, Format: Invoke, Model: "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke-with-response-stream", Endpoint{Provider: "bedrock", Kind: Chat, Format: Invoke, Model: "m", Streams: true}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.titan-embed-text-v2%3A0/invoke", Endpoint{Provider: "bedrock", Kind: Embeddings, Format: Invoke, Model: "amazon.titan-embed-text-v2:0"}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/count-tokens", Endpoint{Provider: "bedrock", Kind: Free}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions", Endpoint{Provider: "bedrock", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://bedrock-mantle.us-east-1.api.aws/v1/responses", Endpoint{Provider: "bedrock", Kind: Chat, Format: Responses}},
		{"POST", "http://localhost:11434/api/chat", Endpoint{Provider: "ollama", Kind: Chat, Format: Ollama}},
		{"POST", "http://localhost:11434/api/pull", Endpoint{Provider: "ollama", Kind: Free}},
		{"GET", "http://gpu.internal/api/tags", Endpoint{Kind: Free}},
		{"POST", "http://gpu.internal/api/generate", Endpoint{Kind: Chat, Format: Ollama}},
		{"POST", "https://api.cohere.com/v2/chat", Endpoint{Provider: "cohere", Kind: Chat, Format: Cohere}},
		{"POST", "https://api.cohere.ai/v1/rerank", Endpoint{Provider: "cohere", Kind: Rerank, Format: Cohere}},
		{"POST", "https://api.cohere.ai/compatibility/v1/chat/completions", Endpoint{Provider: "cohere", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://api.cohere.com/v1/tokenize", Endpoint{Provider: "cohere", Kind: Free}},
		{"POST", "https://openrouter.ai/api/v1/chat/completions", Endpoint{Provider: "openrouter", Kind: Chat, Format: ChatCompletions}},
		{"GET", "https://openrouter.ai/api/v1/generation?id=g", Endpoint{Provider: "openrouter", Kind: Free}},
		{"POST", "https://ai-gateway.vercel.sh/v1/chat/completions", Endpoint{Provider: "vercel", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://router.huggingface.co/novita/v3/openai/chat/completions", Endpoint{Provider: "huggingface", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://acme.snowflakecomputing.com/api/v2/cortex/v1/chat/completions", Endpoint{Provider: "snowflake", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://api.writer.com/v1/chat", Endpoint{Provider: "writer", Kind: Chat, Format: ChatCompletions}},
		{"POST", "http://gateway.internal:4000/prefix/v1/chat/completions", Endpoint{Kind: Chat, Format: ChatCompletions}},
		{"POST", "http://gateway.internal/anthropic/v1/messages", Endpoint{Kind: Chat, Format: Anthropic}},
		{"POST", "http://gateway.internal/model/m/converse", Endpoint{Kind: Chat, Format: Converse, Model: "m"}},
		{"POST", "http://gateway.internal/v1beta/models/gemini-x:generateContent", Endpoint{Kind: Chat, Format: Gemini, Model: "gemini-x"}},
		{"GET", "http://gateway.internal/v1/models", Endpoint{Kind: Free}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions", Endpoint{Provider: "google", Kind: Chat, Format: Interactions}},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/interactions/v1_1", Endpoint{Provider: "google", Kind: Chat, Format: Interactions, Retrieval: true, Job: "v1_1"}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions/v1_1/cancel", Endpoint{Provider: "google", Kind: Chat, Format: Interactions, Retrieval: true, Job: "v1_1"}},
		{"DELETE", "https://generativelanguage.googleapis.com/v1beta/interactions/v1_1", Endpoint{Provider: "google", Kind: Free}},
		{"POST", "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/interactions", Endpoint{Provider: "vertex", Kind: Chat, Format: Interactions}},
		{"POST", "http://gateway.internal/v1/interactions", Endpoint{Kind: Chat, Format: Interactions}},
		{"POST", "https://api.perplexity.ai/v1/sonar", Endpoint{Provider: "perplexity", Kind: Chat, Format: ChatCompletions}},
		{"POST", "https://api.perplexity.ai/v1/agent", Endpoint{Provider: "perplexity", Kind: Chat, Format: Responses}},
		{"GET", "https://api.perplexity.ai/v1/agent/resp_1", Endpoint{Provider: "perplexity", Kind: Chat, Format: Responses, Retrieval: true, Job: "resp_1"}},
		{"POST", "https://api.perplexity.ai/v1/async/sonar", Endpoint{Provider: "perplexity", Kind: Chat, Format: AsyncChat}},
		{"GET", "https://api.perplexity.ai/async/chat/completions/a", Endpoint{Provider: "perplexity", Kind: Chat, Format: AsyncChat, Retrieval: true, Job: "a"}},
		{"GET", "https://api.perplexity.ai/async/chat/completions", Endpoint{Provider: "perplexity", Kind: Free}},
		{"GET", "https://api.x.ai/v1/batches/b-1/results?limit=9", Endpoint{Provider: "xai", Kind: BatchResults, Format: OpenAI, Batch: "b-1", Retrieval: true}},
		{"POST", "https://api.x.ai/v1/batches/b-1/requests", Endpoint{Provider: "xai", Kind: Batch, Format: OpenAI}},
		{"GET", "https://openrouter.ai/api/v1/batches/b-1/results", Endpoint{Provider: "openrouter", Kind: BatchResults, Format: OpenAI, Batch: "b-1", Retrieval: true}},
		{"GET", "https://openrouter.ai/api/beta/batches/b-1", Endpoint{Provider: "openrouter", Kind: BatchResults, Format: OpenAI, Batch: "b-1", Retrieval: true}},
		{"POST", "https://api.z.ai/api/paas/v4/async/chat/completions", Endpoint{Provider: "zai", Kind: Chat, Format: ChatCompletions}},
		{"GET", "https://open.bigmodel.cn/api/paas/v4/async-result/9", Endpoint{Provider: "zai", Kind: Chat, Format: ChatCompletions, Retrieval: true, Job: "9"}},
		{"POST", "https://api.z.ai/api/paas/v4/tokenizer", Endpoint{Provider: "zai", Kind: Free}},
		{"POST", "https://api.moonshot.ai/v1/tokenizers/estimate-token-count", Endpoint{Provider: "moonshot", Kind: Free}},
		{"POST", "http://gpu.internal/pooling", Endpoint{Kind: Embeddings, Format: OpenAI}},
		{"GET", "https://api.x.ai/v1/chat/deferred-completion/f", Endpoint{Provider: "xai", Kind: Chat, Format: ChatCompletions, Retrieval: true, Job: "f"}},
		{"POST", "https://api.mistral.ai/v1/conversations", Endpoint{Provider: "mistral", Kind: Chat, Format: Conversations}},
		{"POST", "https://api.mistral.ai/v1/conversations/c", Endpoint{Provider: "mistral", Kind: Chat, Format: Conversations, Job: "c"}},
		{"POST", "https://api.mistral.ai/v1/conversations/c/restart", Endpoint{Provider: "mistral", Kind: Chat, Format: Conversations, Job: "c"}},
		{"GET", "https://api.mistral.ai/v1/conversations/c/messages", Endpoint{Provider: "mistral", Kind: Free}},
		{"POST", "https://openrouter.ai/api/v1/images", Endpoint{Provider: "openrouter", Kind: Images, Format: OpenAI}},
		{"POST", "https://openrouter.ai/api/v1/videos", Endpoint{Provider: "openrouter", Kind: Video, Format: Videos}},
		{"GET", "https://openrouter.ai/api/v1/videos/models", Endpoint{Provider: "openrouter", Kind: Free}},
		{"GET", "https://openrouter.ai/api/v1/videos/j/content?index=0", Endpoint{Provider: "openrouter", Kind: Video, Format: Videos, Retrieval: true, Job: "j", Download: true}},
		{"GET", "https://api.openai.com/v1/videos", Endpoint{Provider: "openai", Kind: Free}},
		{"POST", "https://gateway.ai.cloudflare.com/v1/a/g/workers-ai/@cf/meta/llama-x", Endpoint{Kind: Chat, Format: CloudflareRun, Model: "@cf/meta/llama-x"}},
	} {
		u, err := url.Parse(c.url)
		require.NoError(t, err)
		got, ok := Recognise(c.method, u)
		require.True(t, ok, c.url)
		require.Equal(t, c.want, got, c.method+" "+c.url)
		require.True(t, got.Provider == "" || slices.Contains(Providers(), got.Provider), got.Provider)
	}
}

func TestRecognise_WhatMayCostMoneyUnseenIsNotRecognised(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{http.MethodPost, "https://api.openai.com/v1/fine_tuning/jobs"},
		{http.MethodPost, "https://api.openai.com/v1/threads/t/runs"},
		{http.MethodPost, "https://api.openai.com/v1/threads/t/messages"},
		{http.MethodGet, "https://api.openai.com/v1/realtime?model=m"},
		{http.MethodGet, "https://api.together.ai/v1/batches/b-1/results"},
		{http.MethodGet, "https://example.com/v1/batches/b-1/results"},
		{http.MethodPost, "https://generativelanguage.googleapis.com/v1beta/cachedContents"},
		{http.MethodPost, "https://bedrock-runtime.us-east-1.amazonaws.com/async-invoke"},
		{http.MethodPost, "https://example.com/orders"},
		{http.MethodPost, "https://example.com/v1/decisions"},
		{http.MethodPost, "https://example.com/api/delete"},
		{http.MethodPost, "https://example.com/"},
		{http.MethodGet, "https://example.com/v1/anything"},
		{http.MethodPut, "https://example.com/v1/chat/completions"},
	} {
		u, err := url.Parse(c[1])
		require.NoError(t, err)
		_, ok := Recognise(c[0], u)
		require.False(t, ok, c)
	}
}

// A name that ends like a known one is not that host.
func TestRecognise_HostsByWholeLabels(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"evilapi.openai.com": "", "api.openai.com.evil.com": "", "API.OpenAI.com": "openai", "eu.api.openai.com": "openai",
		"x.y.services.ai.azure.com": "azure", "bedrock-runtime.cn-north-1.amazonaws.com.cn": "bedrock", "aiplatform.eu.rep.googleapis.com": "vertex",
		"bedrock-runtime.evil.com": "", "bedrock-runtime.amazonaws.com.evil.com": "", "localhost": "",
		"vpce-1-a.bedrock-runtime.us-east-1.vpce.amazonaws.com": "bedrock", "s3.amazonaws.com": "",
	} {
		require.Equal(t, want, providerOf(&url.URL{Scheme: "https", Host: host}), host)
	}
}
