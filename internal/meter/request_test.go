package meter

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/units"
)

func TestReadRequest_SaysWhatACallCanCostAtMost(t *testing.T) {
	t.Parallel()
	const (
		gemini   = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"
		converse = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
		nova     = "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/invoke"
		complete = "https://api.openai.com/v1/completions"
	)
	media := strings.Repeat("QUJD", 100)
	for _, c := range []struct {
		name, url, body string
		want            Request // InputBytes is worked out
	}{
		{"chat", openAIChat, `{"model":"m","max_completion_tokens":100,"n":3,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello"}],
			"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"custom"}]}`,
			Request{Model: "m", MaxTokens: 100, Choices: 3, Stream: true, IncludeUsage: true}},
		{"of two limits the larger is the bound", openAIChat, `{"model":"m","max_tokens":100,"max_completion_tokens":7,"max_tokens":50}`, Request{Model: "m", MaxTokens: 100}},
		{"a service tier", openAIChat, `{"model":"m","service_tier":"flex"}`, Request{Model: "m", ServiceTier: "flex"}},
		{"a tier in a region", "https://eu.api.openai.com/v1/chat/completions", `{"model":"m","service_tier":"flex"}`, Request{Model: "m", ServiceTier: "flex+eu"}},
		{"null is no limit", openAIChat, `{"model":"m","max_tokens":null,"n":null}`, Request{Model: "m"}},
		{"prompts and choices", complete, `{"model":"m","prompt":["a","b","c"],"best_of":4,"n":2,"max_tokens":16}`, Request{Model: "m", MaxTokens: 16, Choices: 4, Prompts: 3}},
		{"one prompt", complete, `{"model":"m","prompt":"a"}`, Request{Model: "m"}},
		{"one prompt of tokens", complete, `{"model":"m","prompt":[1,2,3]}`, Request{Model: "m"}},
		{"prompts of tokens", complete, `{"model":"m","prompt":[[1,2,3],[4]]}`, Request{Model: "m", Prompts: 2}},
		{"an image in the body", openAIChat, `{"model":"m","messages":[{"content":[{"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + media + `"}}]}]}`,
			Request{Model: "m", Images: 1, MediaBytes: 22 + 400}},
		{"an image by its URL", openAIChat, `{"model":"m","messages":[{"content":[{"type":"image_url","image_url":{"url":"https://e.com/x.png"}}]}]}`,
			Request{Model: "m", Images: 1, MediaBytes: 19}},
		{"audio", openAIChat, `{"model":"m","messages":[{"content":[{"type":"input_audio","input_audio":{"format":"wav","data":"` + media + `"}}]}]}`, Request{Model: "m", Audio: 1, MediaBytes: 400, AudioBytes: 400}},
		{"a document", openAIChat, `{"model":"m","messages":[{"content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,` + media + `"}}]}]}`, Request{Model: "m", Documents: 1, MediaBytes: 28 + 400, DocumentBytes: 28 + 400}},
		{"a document by its URL can be anything", openAIChat, `{"model":"m","messages":[{"content":[{"type":"document_url","document_url":"https://e.com/x.pdf"}]}]}`,
			Request{Model: "m", Documents: 1, MediaBytes: 19, DocumentBytes: 19, Open: true, Stored: true}},
		{"a video", "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent", `{"contents":[{"parts":[{"inlineData":{"mimeType":"video/mp4","data":"QUJD"}}]}]}`,
			Request{Model: "gemini-x", Documents: 1, MediaBytes: 4, DocumentBytes: 4}},
		{"an image at its own size", openAIResp, `{"model":"m","input":[{"content":[{"type":"input_image","detail":"original","image_url":"data:image/png;base64,QUJD"}]}]}`,
			Request{Model: "m", LeastOutput: 16, Images: 1, MediaBytes: 26, FullImages: true}},
		{"an image at another size", openAIChat, `{"model":"m","messages":[{"content":[{"type":"image_url","image_url":{"detail":"high","url":"data:image/png;base64,QUJD"}}]}]}`,
			Request{Model: "m", Images: 1, MediaBytes: 26}},
		{"a cache that lives for long", messagesURL, `{"model":"m","max_tokens":1,"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]}`, Request{Model: "m", MaxTokens: 1, LongCache: true}},
		{"in a message", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[{"cache_control":{"ttl":"1h"}}]}]}`, Request{Model: "m", MaxTokens: 1, LongCache: true}},
		{"in converse", converse, `{"system":[{"cachePoint":{"type":"default","ttl":"1h"}}]}`, Request{Model: "m", LongCache: true}},
		{"through a gateway", openAIChat, `{"model":"m","messages":[{"content":[{"type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}`, Request{Model: "m", LongCache: true}},
		{"the usual cache", messagesURL, `{"model":"m","max_tokens":1,"system":[{"cache_control":{"type":"ephemeral"}},{"cache_control":{"ttl":"5m"}},{"cache_control":{"ttl":null}}]}`, Request{Model: "m", MaxTokens: 1}},
		{"fast, in a region", messagesURL, `{"model":"m","max_tokens":1,"speed":"fast","inference_geo":"us"}`, Request{Model: "m", MaxTokens: 1, ServiceTier: "fast+us"}},
		{"as fast as ever", messagesURL, `{"model":"m","max_tokens":1,"speed":"standard","service_tier":"auto","inference_geo":"global"}`, Request{Model: "m", MaxTokens: 1, ServiceTier: "auto"}},
		{"a service tier of gemini", gemini, `{"serviceTier":"flex"}`, Request{Model: "gemini-x", ServiceTier: "flex"}},
		{"a service tier of converse", converse, `{"serviceTier":{"type":"priority"}}`, Request{Model: "m", ServiceTier: "priority"}},
		{"a text file is text", openAIChat, `{"model":"m","messages":[{"content":[{"type":"file","file":{"file_data":"data:text/csv;base64,` + media + `"}}]}]}`, Request{Model: "m"}},
		{"a file by its id", openAIChat, `{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}`, Request{Model: "m", Open: true, Stored: true}},
		{"a search", openAIChat, `{"model":"m","web_search_options":{}}`, Request{Model: "m", Open: true}},
		{"a model that searches", openAIChat, `{"model":"gpt-4o-search-preview"}`, Request{Model: "gpt-4o-search-preview", Open: true}},
		{"a provider that searches", "https://api.perplexity.ai/chat/completions", `{"model":"sonar"}`, Request{Model: "sonar", Open: true}},
		{"a plugin", "https://openrouter.ai/api/v1/chat/completions", `{"model":"m","plugins":[{"id":"web"}]}`, Request{Model: "m", Open: true}},

		{"responses", openAIResp, `{"model":"m","max_output_tokens":100,"input":"Hello","tools":[{"type":"function","name":"f"}]}`, Request{Model: "m", MaxTokens: 100, LeastOutput: 16}},
		{"responses with a tool of the provider's", openAIResp, `{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],"tools":[{"type":"web_search"}]}`, Request{Model: "m", LeastOutput: 16, Open: true}},
		{"several passes", openAIResp, `{"model":"m","reasoning":{"effort":"high","mode":"pro"}}`, Request{Model: "m", LeastOutput: 16, Passes: 8}},
		{"one pass", openAIResp, `{"model":"m","reasoning":{"mode":"standard"}}`, Request{Model: "m", LeastOutput: 16}},
		{"reasoning beside the limit", "https://api.x.ai/v1/responses", `{"model":"grok-9","max_output_tokens":40}`, Request{Model: "grok-9", MaxTokens: 40, Unlimited: true}},
		{"behind a gateway", "http://gateway.internal/v1/responses", `{"model":"xai/grok-9-mini","max_output_tokens":40}`, Request{Model: "xai/grok-9-mini", MaxTokens: 40, Unlimited: true}},
		{"a model that does not reason", "https://api.x.ai/v1/responses", `{"model":"grok-9-non-reasoning","max_output_tokens":40}`, Request{Model: "grok-9-non-reasoning", MaxTokens: 40}},
		{"research", "https://api.perplexity.ai/chat/completions", `{"model":"sonar-deep-research","max_tokens":40}`, Request{Model: "sonar-deep-research", MaxTokens: 40, Open: true, Unlimited: true}},
		{"research that is asked for later", "https://api.perplexity.ai/v1/async/sonar", `{"request":{"model":"sonar-deep-research"}}`, Request{Model: "sonar-deep-research", Open: true, Background: true, Unlimited: true}},
		{"a recording elsewhere", "https://api.mistral.ai/v1/audio/transcriptions", `{"model":"m","file_url":"https://e.com/a.mp3"}`, Request{Model: "m", Open: true, Stored: true, Units: units.Of(units.InputAudio, 10_800_000)}},
		{"its chats count it", "https://api.x.ai/v1/chat/completions", `{"model":"grok-9","max_tokens":40}`, Request{Model: "grok-9", MaxTokens: 40}},
		{"a usage that is asked for by OpenRouter's name", "https://openrouter.ai/api/v1/chat/completions", `{"model":"m","stream":true,"usage":{"include":true}}`, Request{Model: "m", Stream: true, IncludeUsage: true}},
		{"a stored conversation", openAIResp, `{"model":"m","previous_response_id":"r"}`, Request{Model: "m", LeastOutput: 16, Open: true, Stored: true}},
		{"no stored conversation", openAIResp, `{"model":"m","previous_response_id":null,"conversation":null,"background":false}`, Request{Model: "m", LeastOutput: 16}},
		{"a conversation as an object", openAIResp, `{"model":"m","conversation":{"id":"c"}}`, Request{Model: "m", LeastOutput: 16, Open: true, Stored: true}},
		{"a stored prompt", openAIResp, `{"model":"m","prompt":{"id":"p"}}`, Request{Model: "m", LeastOutput: 16, Open: true, Stored: true}},
		{"a reference", openAIResp, `{"model":"m","input":[{"type":"item_reference","id":"i"}]}`, Request{Model: "m", LeastOutput: 16, Open: true, Stored: true}},
		{"an image for responses", openAIResp, `{"model":"m","input":[{"content":[{"type":"input_image","image_url":"data:image/png;base64,` + media + `"}]}]}`, Request{Model: "m", LeastOutput: 16, Images: 1, MediaBytes: 422}},

		{"messages", messagesURL, `{"model":"m","max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":2048},"stream":true,"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"custom","name":"g"}]}`,
			Request{Model: "m", MaxTokens: 4096, LeastOutput: 2049, Stream: true}},
		{"messages with a tool of the provider's", messagesURL, `{"model":"m","max_tokens":1,"tools":[{"type":"web_search_20250305"}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Turns: 10}},
		{"as often as it is allowed", messagesURL, `{"model":"m","max_tokens":1,"tools":[{"type":"web_search_20250305","max_uses":2},{"type":"web_fetch_20250910","max_uses":1},{"name":"f"}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Turns: 4}},
		{"one tool without bounds is enough", messagesURL, `{"model":"m","max_tokens":1,"tools":[{"type":"web_search_20250305","max_uses":2},{"type":"code_execution_20250825"}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Turns: 10}},
		{"no more often than the loop goes on", messagesURL, `{"model":"m","max_tokens":1,"tools":[{"max_uses":5000000000,"type":"web_search_20250305"}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Turns: 10}},
		{"tools that the caller runs", messagesURL, `{"model":"m","max_tokens":1,"tools":[{"type":"bash_20250124","name":"bash"},{"type":"text_editor_20250728"},{"type":"custom","name":"g"}]}`, Request{Model: "m", MaxTokens: 1, Open: true}},
		{"messages with media", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[
			{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + media + `"}},
			{"type":"document","source":{"data":"` + media + `","media_type":"application/pdf","type":"base64"}},
			{"type":"document","source":{"type":"text","media_type":"text/plain","data":"` + media + `"}},
			{"type":"tool_result","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + media + `"}}]}]}]}`,
			Request{Model: "m", MaxTokens: 1, Images: 2, Documents: 1, MediaBytes: 1200, DocumentBytes: 400}},
		{"messages with an image by its URL", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://e.com/x"}}]}]}`, Request{Model: "m", MaxTokens: 1, Images: 1}},
		{"wherever the source is, and the part", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[{"type":"tool_result","content":[{"source":{"url":"https://e.com/x","type":"url"},"type":"image"},{"type":"image","source":{"file_id":"f"}}]}]}]}`,
			Request{Model: "m", MaxTokens: 1, Images: 2}},
		{"messages with a document by its URL", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[{"type":"document","source":{"type":"url","url":"https://e.com/x"}}]}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Stored: true}},
		{"gemini with an image elsewhere", gemini, `{"contents":[{"parts":[{"fileData":{"fileUri":"gs://b/o","mimeType":"image/png"}}]}]}`, Request{Model: "gemini-x", Images: 1}},
		{"gemini with a video elsewhere", gemini, `{"contents":[{"parts":[{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/o"}}]}]}`, Request{Model: "gemini-x", Open: true, Stored: true}},
		{"converse with an image elsewhere", converse, `{"messages":[{"content":[{"image":{"source":{"s3Location":{"uri":"s3://b/o"}}}}]}]}`, Request{Model: "m", Images: 1}},
		{"messages with a file", messagesURL, `{"model":"m","max_tokens":1,"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Stored: true}},
		{"messages with a server of tools", messagesURL, `{"model":"m","max_tokens":1,"mcp_servers":[{"url":"u"}]}`, Request{Model: "m", MaxTokens: 1, Open: true, Turns: 10}},

		{"gemini", gemini, `{"contents":[{"parts":[{"text":"Hi"},{"inlineData":{"mimeType":"audio/wav","data":"` + media + `"}},{"inline_data":{"data":"` + media + `","mime_type":"image/png"}}]}],
			"generationConfig":{"maxOutputTokens":100,"candidateCount":2},"tools":[{"functionDeclarations":[{"name":"f"}]}]}`,
			Request{Model: "gemini-x", MaxTokens: 100, Choices: 2, Audio: 1, Images: 1, MediaBytes: 800, AudioBytes: 400}},
		{"a medium that does not say what it is", gemini, `{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"QUJD"}},{"inlineData":{"data":"QUJD"}}]}]}`,
			Request{Model: "gemini-x", Images: 1, Documents: 1, MediaBytes: 8, DocumentBytes: 4}},
		{"gemini in the other spelling", gemini, `{"generation_config":{"max_output_tokens":100}}`, Request{Model: "gemini-x", MaxTokens: 100}},
		{"gemini with a tool of the provider's", gemini, `{"tools":[{"googleSearch":{}}]}`, Request{Model: "gemini-x", Open: true}},
		{"gemini with a tool nobody has heard of", gemini, `{"tools":[{"functionDeclarations":[]},{"teleport":{"a":1}}]}`, Request{Model: "gemini-x", Open: true}},
		{"gemini with a stored context", gemini, `{"cachedContent":"cachedContents/c"}`, Request{Model: "gemini-x", Open: true, Stored: true}},
		{"gemini with a file", gemini, `{"contents":[{"parts":[{"fileData":{"fileUri":"gs://b/o"}}]}]}`, Request{Model: "gemini-x", Open: true, Stored: true}},

		{"ollama streams unless it is told not to", "http://localhost:11434/api/chat", `{"model":"m","messages":[{"content":"hi","images":["` + media + `"]}],"options":{"num_predict":100}}`,
			Request{Model: "m", MaxTokens: 100, Stream: true, Images: 1, MediaBytes: 400}},
		{"ollama without a limit", "http://localhost:11434/api/chat", `{"model":"m","stream":false,"options":{"num_predict":-1}}`, Request{Model: "m"}},
		{"converse", converse, `{"inferenceConfig":{"maxTokens":100},"toolConfig":{"tools":[{"toolSpec":{"name":"f"}},{"cachePoint":{"type":"default"}}]},
			"messages":[{"content":[{"text":"hi"},{"image":{"format":"png","source":{"bytes":"` + media + `"}}}]}],"additionalModelRequestFields":{"thinking":{"budget_tokens":1024}}}`,
			Request{Model: "m", MaxTokens: 100, LeastOutput: 1025, Images: 1, MediaBytes: 400}},
		{"converse with a tool of Anthropic's", converse, `{"additionalModelRequestFields":{"tools":[{"type":"web_search_20250305","max_uses":3}]}}`, Request{Model: "m", Open: true, Turns: 4}},
		{"converse with a tool of the provider's", converse, `{"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}`, Request{Model: "m", Open: true}},
		{"converse with a stored document", converse, `{"messages":[{"content":[{"document":{"source":{"s3Location":{"uri":"s3://b/o"}}}}]}]}`, Request{Model: "m", Open: true, Stored: true}},
		{"nova", nova, `{"inferenceConfig":{"max_new_tokens":100}}`, Request{Model: "amazon.nova-lite-v1:0", MaxTokens: 100}},
		{"cohere", "https://api.cohere.com/v1/chat", `{"model":"m","max_tokens":100,"message":"hi","connectors":[{"id":"web-search"}]}`, Request{Model: "m", MaxTokens: 100, Open: true}},
		{"what cannot be read has no bound", openAIChat, `{"model":"m","messages":[`, Request{Model: "m", Open: true, Stored: true}},
		{"nothing", openAIChat, ``, Request{Open: true, Stored: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.want.Choices, c.want.Prompts = max(c.want.Choices, 1), max(c.want.Prompts, 1)
			c.want.InputBytes = int64(len(c.body)) - c.want.MediaBytes
			require.Equal(t, c.want, ReadRequest(at(t, http.MethodPost, c.url), []byte(c.body)))
		})
	}
}

func TestReadRequest_Form(t *testing.T) {
	t.Parallel()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, v := range map[string]string{"model": "gpt-x-transcribe", "stream": "true", "language": "en"} {
		require.NoError(t, w.WriteField(name, v))
	}
	file, err := w.CreateFormFile("file", "a.wav")
	require.NoError(t, err)
	_, _ = fmt.Fprint(file, strings.Repeat("RIFF", 100))
	require.NoError(t, w.Close())
	e := at(t, http.MethodPost, "https://api.openai.com/v1/audio/transcriptions")
	want := Request{Model: "gpt-x-transcribe", Choices: 1, Prompts: 1, Stream: true, Audio: 1, MediaBytes: 400, Units: units.Of(units.InputAudio, 400), AudioBytes: 400, InputBytes: int64(body.Len()) - 400}
	require.Equal(t, want, ReadRequest(e, body.Bytes()))
	cut := ReadRequest(e, body.Bytes()[:body.Len()-30])
	require.True(t, cut.Open)
}

func TestLimitOutput_LowersTheCapOfEachFormat(t *testing.T) {
	t.Parallel()
	const (
		azure    = "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version="
		gemini   = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"
		converse = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
		invoke   = "https://bedrock-runtime.us-east-1.amazonaws.com/model/"
		ollama   = "http://localhost:11434/api/chat"
	)
	for _, c := range []struct{ url, body, want string }{ // want: empty where there is no limit to set
		{openAIChat, `{"model":"m"}`, `{"max_completion_tokens":50,"model":"m"}`},
		{openAIChat, `{}`, `{"max_completion_tokens":50}`},
		{openAIChat, " {\n \"model\": \"m\"\n}\n", " {\"max_completion_tokens\":50,\n \"model\": \"m\"\n}\n"},
		{openAIChat, `{"max_tokens": 100 ,"model":"m"}`, `{"max_tokens": 50 ,"model":"m"}`},
		{openAIChat, `{"max_tokens":50}`, `{"max_tokens":50}`},
		{openAIChat, `{"max_tokens":7}`, `{"max_tokens":7}`},
		{openAIChat, `{"max_tokens":0}`, `{"max_tokens":0}`},
		{openAIChat, `{"max_tokens":100,"a":[{"max_tokens":100}],"max_tokens":60,"b":"\"max_tokens\":100","max_completion_tokens":70}`,
			`{"max_tokens":50,"a":[{"max_tokens":100}],"max_tokens":50,"b":"\"max_tokens\":100","max_completion_tokens":50}`},
		{openAIChat, `{"max\u005ftokens":1e3}`, `{"max\u005ftokens":50}`},
		{openAIChat, `{"max_tokens":null}`, `{"max_tokens":50}`},
		{openAIChat, `{"max_tokens":"100"}`, `{"max_tokens":50}`},
		{openAIChat, `{"max_tokens":{"a":[1,2]}}`, `{"max_tokens":50}`},
		{openAIChat, `{"max_tokens":49.5}`, `{"max_tokens":49.5}`},
		{openAIChat, `[]`, ``},
		{openAIChat, `{"model":`, ``},
		{openAIChat, ``, ``},
		{openAIChat, `"{"`, ``},
		{anyChat, `{"model":"m"}`, `{"max_tokens":50,"model":"m"}`},
		{azure + "2024-06-01", `{}`, `{"max_tokens":50}`},
		{azure + "2024-10-21", `{}`, `{"max_completion_tokens":50}`},
		{openAIResp, `{"max_output_tokens":100}`, `{"max_output_tokens":50}`},
		{openAIResp, `{"a":1}`, `{"max_output_tokens":50,"a":1}`},
		{messagesURL, `{"max_tokens":100}`, `{"max_tokens":50}`},
		{gemini, `{"contents":[]}`, `{"generationConfig":{"maxOutputTokens":50},"contents":[]}`},
		{gemini, `{"generationConfig":{}}`, `{"generationConfig":{"maxOutputTokens":50}}`},
		{gemini, `{"generationConfig":{"temperature":1},"generationConfig":{"maxOutputTokens":100}}`,
			`{"generationConfig":{"maxOutputTokens":50,"temperature":1},"generationConfig":{"maxOutputTokens":50}}`},
		{gemini, `{"generation_config":{"max_output_tokens":100}}`, `{"generation_config":{"max_output_tokens":50}}`},
		{gemini, `{"generationConfig":null}`, `{"generationConfig":{"maxOutputTokens":50}}`},
		{gemini, `{"generationConfig":3}`, ``},
		{ollama, `{"options":{"num_predict":-1}}`, `{"options":{"num_predict":50}}`},
		{ollama, `{"model":"m"}`, `{"options":{"num_predict":50},"model":"m"}`},
		{converse, `{"inferenceConfig":{"maxTokens":100}}`, `{"inferenceConfig":{"maxTokens":50}}`},
		{invoke + "anthropic.claude-x-v1:0/invoke", `{"max_tokens":100}`, `{"max_tokens":50}`},
		{invoke + "amazon.nova-lite-v1:0/invoke", `{"a":1}`, `{"inferenceConfig":{"maxTokens":50},"a":1}`},
		{invoke + "meta.llama3-8b-instruct-v1:0/invoke", `{"prompt":"p"}`, `{"max_gen_len":50,"prompt":"p"}`},
		{invoke + "amazon.titan-text-express-v1/invoke", `{"textGenerationConfig":{"maxTokenCount":100}}`, `{"textGenerationConfig":{"maxTokenCount":50}}`},
		{invoke + "somebody.model/invoke", `{"a":1}`, ``},
		{"https://api.openai.com/v1/embeddings", `{"input":"a"}`, ``},
	} {
		got, ok := LimitOutput(at(t, http.MethodPost, c.url), []byte(c.body), 50)
		require.Equal(t, c.want != "", ok, c.body)
		if !ok {
			c.want = c.body
		}
		require.Equal(t, c.want, string(got), c.url)
	}
	_, ok := LimitOutput(chatEndpoint, []byte(`{}`), 0)
	require.False(t, ok)
}

func TestAskForUsage_AsksWhereItIsNotAskedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, body, want string }{
		{openAIChat, `{"model":"m","stream":true}`, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`},
		{openAIChat, `{"stream_options":{"include_usage":true}}`, `{"stream_options":{"include_usage":true}}`},
		{openAIChat, `{"stream_options":{"include_usage": false }}`, `{"stream_options":{"include_usage": true }}`},
		{openAIChat, `{"stream_options":{"include_obfuscation":false}}`, `{"stream_options":{"include_usage":true,"include_obfuscation":false}}`},
		{openAIChat, `{"stream_options":null}`, `{"stream_options":{"include_usage":true}}`},
		{openAIChat, `{"stream_options":{"include_usage":true},"stream_options":{}}`, `{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}`},
		{openAIChat, `{"stream_options":[]}`, ``},
		{openAIResp, `{}`, ``},
		{messagesURL, `{}`, ``},
		{"https://api.mistral.ai/v1/chat/completions", `{}`, ``},
		{"https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-02-01", `{}`, ``},
	} {
		got, ok := AskForUsage(at(t, http.MethodPost, c.url), []byte(c.body))
		require.Equal(t, c.want != "", ok, c.body)
		if !ok {
			c.want = c.body
		}
		require.Equal(t, c.want, string(got))
	}
}

func TestUsageFilter_TakesOutTheChunkThatWasNotAskedFor(t *testing.T) {
	t.Parallel()
	const usage = `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`
	first := ": hello\n\n" + sseOpen(`{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}`, `{"choices":[{"delta":{"content":"Yes."}}],"usage":null}`)
	for _, c := range []struct{ name, body, want string }{
		{"the chunk goes", first + sse(usage), first + sse()},
		{"and with it its own line ends", first + strings.ReplaceAll(sse(usage), "\n", "\r\n"), first + strings.ReplaceAll(sse(), "\n", "\r\n")},
		{"at the end of a stream without a last blank line", first + "data: " + usage, first},
		{"usage beside choices stays", sse(`{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9}}`), ""},
		{"usage before choices stays", sse(`{"usage":{"prompt_tokens":9},"choices":[{"finish_reason":"stop"}]}`), ""},
		{"no usage", sse(`{"choices":[],"usage":null}`, `{"error":{"message":"no"}}`, `{"choices":[]}`), ""},
		{"usage alone is somebody else's", sse(`{"type":"response.completed","usage":{"input_tokens":9}}`), ""},
		{"no events", `{"choices":[],"usage":{"prompt_tokens":9}}`, ""},
		{"one that is not the last stays: nobody has asked for it", sse(usage, `{"choices":[{"delta":{"content":"Yes."}}]}`, usage), sse(usage, `{"choices":[{"delta":{"content":"Yes."}}]}`)},
		{"of two the last goes", sse(usage, usage), sse(usage)},
		{"comments after it stay", sseOpen(usage) + ": bye\n\n" + sse(), ": bye\n\n" + sse()},
		{"comments in the midst stay where they are", sseOpen(usage) + ": wait\n\n" + sse(`{"choices":[{"delta":{}}]}`), ""},
		{"an error beside it stays", sse(`{"choices":[],"usage":{"prompt_tokens":9},"error":{"code":502}}`), ""},
		{"and what else the caller is told", sse(`{"choices":[],"usage":{"prompt_tokens":9},"citations":["https://a.example"]}`), ""},
		{"llama.cpp has one for each answer", sse(`{"choices":[{"index":0}],"system_fingerprint":"b77-0a"}`, usage, `{"choices":[{"index":1}]}`, usage), sse(`{"choices":[{"index":0}],"system_fingerprint":"b77-0a"}`, `{"choices":[{"index":1}]}`)},
		{"an event beyond measure", sse(`{"x":"` + strings.Repeat("x", mostHeld) + `","choices":[],"usage":{}}`), ""},
	} {
		if c.want == "" {
			c.want = c.body
		}
		for size := 1; size <= len(c.body); size = size*3 + 1 {
			f := NewUsageFilter()
			var got []byte
			for p := []byte(c.body); len(p) > 0; p = p[min(size, len(p)):] {
				got = f.Append(got, p[:min(size, len(p))])
			}
			require.Equal(t, c.want, string(f.Flush(got)), "%s, in pieces of %d", c.name, size)
		}
	}
}

func TestUsageFilter_HoldsNoContent(t *testing.T) {
	t.Parallel()
	f := NewUsageFilter()
	require.Equal(t, `data: {"choices":[{`, string(f.Append(nil, []byte(`data: {"choices":[{`))), "the first choice shows that this is not the chunk")
	require.Equal(t, `"delta":`, string(f.Append(nil, []byte(`"delta":`))))
}
