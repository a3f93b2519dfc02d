package main

import "github.com/llmtenant/tenant/pricing"

// byHand are the providers whose rows are ruled by hand.
var byHand = []string{pricing.OpenAI, pricing.Anthropic, pricing.Google}

// A source says which lists a provider's rows are made from: the first one that has the model. Only models whose names
// match the pattern are taken from it.
type source struct{ list, only string }

var sources = map[string][]source{
	pricing.Azure: {{litellm, "*"}, {modelsDev, "*"}},
	pricing.Bedrock: {{litellm, "*"}, {modelsDev, "*"}, {genai, "amazon.nova-*"},
		{genai, "openai.gpt-*"}, {genai, "global.openai.gpt-*"}, {genai, "*anthropic.claude-opus-5-?*"}, {genai, "*anthropic.claude-fable-5-1*"}},
	pricing.Cohere:   {{litellm, "*"}, {modelsDev, "*"}, {genai, "c4ai-*"}},
	pricing.DeepSeek: {{modelsDev, "*"}, {litellm, "*"}},
	// Models that are not sold any more are in genai-prices alone.
	pricing.Groq:    {{litellm, "*"}, {litellm, "*/*"}, {modelsDev, "*"}, {modelsDev, "*/*"}, {genai, "*"}, {genai, "*/*"}},
	pricing.Mistral: {{genai, "*-2[45678]??"}, {genai, "mistral-ocr-*"}, {genai, "mistral-medium-3-?"}, {modelsDev, "*"}, {litellm, "*"}},
	pricing.OpenRouter: {
		{modelsDev, "*/*"}, {litellm, "*/*"},
		// What came after models.dev's date; all else that genai-prices alone has is gone.
		{genai, "anthropic/claude-*-5"}, {genai, "anthropic/claude-opus-5-fast"}, {genai, "moonshotai/kimi-k3"}, {genai, "z-ai/glm-5.3*"},
		{genai, "anthropic/claude-*-5.?"}, {genai, "openai/gpt-5.6-*"}, {genai, "openai/gpt-6-*"},
	},
	pricing.Perplexity: {{litellm, "sonar*"}, {litellm, "search"}, {litellm, "pplx-*"}, {genai, "r1-*"}},
	pricing.Vercel:     {{modelsDev, "*/*"}, {litellm, "*/*"}},
	pricing.Vertex:     {{litellm, "*"}, {litellm, "*/*"}, {modelsDev, "*"}, {modelsDev, "*/*"}, {genai, "claude-*-5-*"}},
	pricing.XAI:        {{litellm, "*"}, {modelsDev, "*"}, {genai, "grok-4.[6-9]"}, {genai, "grok-voice-*"}},
	pricing.OpenAI:     {{litellm, fineTuned}},
}

// fineTuned are the models that are made by rule for OpenAI too.
const fineTuned = "ft:*"

// A pick is a model, or a pattern of them, for which another list than the provider's first is believed.
type pick struct{ provider, model, list, why string }

var picks = []pick{
	{pricing.Bedrock, "amazon.nova-lite-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.nova-micro-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.nova-pro-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.titan-text-*-v1", genai, "LiteLLM has the rates of before the price cut"},
	{pricing.Bedrock, "meta.llama3-1-70b-instruct-v1:0", genai, "LiteLLM has the rates of before the price cut, genai-prices and models.dev these"},
	{pricing.Bedrock, "meta.llama3-2-*b-instruct-v1:0", genai, "LiteLLM has the rates of before the price cut"},
	{pricing.Bedrock, "mistral.mistral-large-2402-v1:0", genai, "LiteLLM has twice the rates"},
	{pricing.Bedrock, "eu.anthropic.claude-opus-4-5-20251101-v1:0", modelsDev, "LiteLLM lacks the tenth that a region costs more"},
	{pricing.XAI, "grok-4.20-*", modelsDev, "LiteLLM has the rates of the launch; genai-prices and models.dev have these"},
	{pricing.Mistral, "mistral-medium-latest", genai, "an alias that Mistral moves: to mistral-medium-2604, after models.dev's date"},
	{pricing.Mistral, "ministral-8b-latest", genai, "an alias that Mistral moves: to ministral-8b-2512"},
	{pricing.Groq, "whisper-*", genai, "LiteLLM has the price of an hour as a rounded one of a second"},
	{pricing.Vertex, "claude-3-5-haiku@20241022", modelsDev, "LiteLLM has the rates of the launch"},
	{pricing.Vertex, "deepseek-ai/deepseek-v3.1-maas", modelsDev, "LiteLLM has the rates of before the price cut"},
}

// leftOut are models of the lists that the table does not have.
var leftOut = []struct{ provider, model, why string }{
	{pricing.Bedrock, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{pricing.Azure, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{pricing.Bedrock, "us.amazon.nova-lite-v1:0", "LiteLLM has no discount for cache reads; it is one of the aliases"},
	{pricing.Bedrock, "us.amazon.nova-micro-v1:0", "likewise"},
	{pricing.Bedrock, "us.amazon.nova-pro-v1:0", "likewise"},
	{pricing.Azure, "speech/*", "services of Azure's own that are no models of its API for language models"},
	{pricing.Azure, "doc-intelligence/*", "likewise"},
	{pricing.Azure, "container", "the price of a tool, under a name that is LiteLLM's own"},
	{pricing.OpenAI, "container", "likewise"},
	{pricing.OpenAI, "ft:gpt-3.5-turbo-", "not a name of OpenAI's API"},
	{pricing.OpenAI, "ft:gpt-4o", "a family, whose dated models each have a row"},
	{pricing.OpenAI, "ft:gpt-4o-mini", "a family, whose dated models each have a row"},
	{pricing.OpenAI, "gpt-4o-mini-2024-07-18.ft-", "not a name of OpenAI's API"},
	{pricing.OpenAI, "chatgpt-image-latest", "LiteLLM has the rates of gpt-image-1 for a model of gpt-image-1.5's date"},
	{pricing.OpenAI, "gpt-5.4-image-2", "not a name of OpenAI's API"},
	{pricing.OpenAI, "gpt-5-image*", "not a name of OpenAI's API"},
	{pricing.OpenAI, "gpt-oss-*", "not sold by OpenAI"},
	{pricing.OpenAI, "gpt-4o:extended", "not a name of OpenAI's API"},
	{pricing.OpenAI, "gpt-3.5-0301", "the list's name for gpt-3.5-turbo-0301"},
	{pricing.OpenAI, "gpt-5.3", "not a name of OpenAI's API"},
	{pricing.OpenAI, "computer-use", "the list's name for computer-use-preview"},
	{pricing.OpenAI, "gpt-chat-latest", "only known from OpenRouter"},
	{pricing.OpenAI, "ada", "retired"},
	{pricing.OpenAI, "babbage", "retired"},
	{pricing.OpenAI, "curie", "retired"},
	{pricing.OpenAI, "davinci", "retired"},
	{pricing.OpenAI, "text-davinci-00?", "retired"},
	{pricing.Anthropic, "claude-2", "retired"},
	{pricing.Anthropic, "claude-v1", "retired"},
	{pricing.Google, "gemma-*", "free on the Gemini API, or priced by other hosts"},
	{pricing.Google, "gemini-gemma-*", "free on the Gemini API"},
	{pricing.Google, "gemini-pro", "retired"},
	{pricing.Google, "gemini-1.0-*", "retired"},
	{pricing.Google, "gemini-2.5-flash-preview", "retired"},
	{pricing.Google, "gemini-2.0-flash-exp-image-generation", "retired"},
	{pricing.Google, "gemini-flash-1.5*", "OpenRouter's names for gemini-1.5-flash"},
	{pricing.Google, "gemini-pro-1.5", "OpenRouter's name for gemini-1.5-pro"},
	{pricing.Google, "gemini-exp-*", "retired; no rates"},
	{pricing.Google, "gemini-omni-flash-preview", "its video output has a rate of its own, which Usage has no class for"},
	{pricing.Azure, "mistral-large-latest", "LiteLLM has two prices for it"},
	{pricing.Azure, "jais-30b-chat", "LiteLLM has a thousand times the rates"},
	{pricing.Cohere, "embed-multilingual-light-v3.0", "LiteLLM has a thousand times the rate"},
	{pricing.Mistral, "mistral-medium", "an alias, of which LiteLLM has the rates of the first model"},
	{pricing.Mistral, "mistral-small-24b-instruct-2501", "not a name of Mistral's API"},
	{pricing.Mistral, "voxtral-small-24b-2507", "not a name of Mistral's API"},
	{pricing.Perplexity, "pplx-*b-*", "retired"},
	{pricing.Perplexity, "sonar-*-chat", "retired"},
	{pricing.Perplexity, "sonar-*-online", "retired"},
	{pricing.Vertex, "deep-research-pro-preview-12-2025", "LiteLLM has the rates of an image model for it"},
	{pricing.OpenRouter, "openrouter/*", "OpenRouter's routers have the price of the model that they choose"},
	{pricing.Azure, "model?router", "the router's fee alone, without the model that it chooses"},
	{pricing.OpenRouter, "~*/*", "aliases of OpenRouter's that have the price of the model that they lead to"},
}

// aliases are other names that the providers have for a model.
var aliases = map[key][]string{
	{pricing.Bedrock, "amazon.nova-lite-v1:0"}:  {"us.amazon.nova-lite-v1:0"},
	{pricing.Bedrock, "amazon.nova-micro-v1:0"}: {"us.amazon.nova-micro-v1:0"},
	{pricing.Bedrock, "amazon.nova-pro-v1:0"}:   {"us.amazon.nova-pro-v1:0"},
	{pricing.Mistral, "mistral-medium-3-1"}:     {"mistral-medium"},
	{pricing.XAI, "grok-3-fast-latest"}:         {"grok-3-fast"},
	{pricing.XAI, "grok-4-fast-reasoning"}:      {"grok-4-fast", "grok-4-fast-reasoning-latest"},
	{pricing.XAI, "grok-4-fast-non-reasoning"}:  {"grok-4-fast-non-reasoning-latest"},
}
