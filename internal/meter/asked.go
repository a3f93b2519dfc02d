package meter

import "strings"

// The schemas of requests, by format.
var (
	askedChat        = schema(askedOpenAI(), each(askMax, keep, "max_tokens", "max_completion_tokens"))
	askedCompletions = schema(askedOpenAI(), each(askMax, keep, "max_tokens", "n_predict"), each(askChoices, keep, "n_cmpl"), pictures) // and Cohere's, whose names are OpenAI's, and llama.cpp's
	askedGeneration  = schema([]rule{{"parameters.max_new_tokens", askMax, keep}, {"parameters.best_of", askChoices, keep}, {"stream", askStream, keep}, {"model", askModel, keep}})
	askedResponses   = schema(askedOpenAI(), each(askMax, keep, "max_output_tokens"))

	askedAnthropic = schema(askedMessages(), each(askMax, keep, "max_tokens", "max_tokens_to_sample"), []rule{{"stream", askStream, keep}, {"model", askModel, keep}, {"service_tier", askTier, keep}})

	askedGemini = schema(
		each(askTier, keep, "serviceTier", "service_tier"),
		each(askMax, keep, "generationConfig.maxOutputTokens", "generation_config.max_output_tokens",
			"generationConfig.max_output_tokens", "generation_config.maxOutputTokens"),
		each(askChoices, keep, "generationConfig.candidateCount", "generation_config.candidate_count", "parameters.sampleCount"),
		each(askNone, keep, "tools[].functionDeclarations", "tools[].function_declarations"),
		each(askOpen, keep, "tools[].*"),
		each(askStored, keep, "cachedContent", "cached_content"),
		each(askSpoken, count, "instances[].content"), // of texts to embed, on Vertex AI
		inline("contents[].parts[]"),
		inline("content.parts[]"),
		inline("requests[].content.parts[]"),
		inline("contents[].parts[].functionResponse.parts[]"),
	)

	askedOllama = schema(
		[]rule{{"model", askModel, keep}, {"stream", askStream, keep}, {"options.num_predict", askMax, keep}},
		each(askImage, measure, "images[]", "messages[].images[]"),
	)

	askedConverse = schema(
		[]rule{{"inferenceConfig.maxTokens", askMax, keep}},
		each(askNone, keep, "toolConfig.tools[].toolSpec", "toolConfig.tools[].cachePoint"),
		each(askOpen, keep, "toolConfig.tools[].*", "additionalModelRequestFields.tools"),
		each(askServer, keep, "additionalModelRequestFields.mcp_servers"),
		[]rule{
			{"additionalModelRequestFields.tools[]", askToolObject, keep}, {"additionalModelRequestFields.tools[].type", askTool, keep},
			{"additionalModelRequestFields.tools[].max_uses", askToolUses, keep},
		},
		each(askBudget, keep, "additionalModelRequestFields.thinking.budget_tokens"),
		each(askLife, keep, "system[].cachePoint.ttl", "messages[].content[].cachePoint.ttl", "toolConfig.tools[].cachePoint.ttl"),
		[]rule{{"serviceTier.type", askTier, keep}},
		sources("messages[].content[]"),
		sources("messages[].content[].toolResult.content[]"),
		sources("system[]"),
	)
)

func askedSchema(e Endpoint) *node {
	if d, ok := dialects[e.Format]; ok {
		return d.asked
	}
	switch e.Kind {
	case Video:
		return askedVideo
	case OCR:
		return askedOCR
	case Transcription:
		return askedTranscription
	case Speech:
		return askedSpeech
	case Images:
		switch e.Format {
		case OpenAI:
			return askedImages
		case Invoke:
			return askedInvokedImages
		}
	case Rerank:
		if e.Format == BedrockRerank {
			return askedBedrockRerank
		}
		return askedRerank
	}
	switch e.Format {
	case Anthropic:
		return askedAnthropic
	case Gemini:
		return askedGemini
	case Interactions:
		return askedInteractions
	case Conversations:
		return askedConversations
	case AsyncChat:
		return askedAsyncChat
	case Ollama:
		return askedOllama
	case Converse:
		return askedConverse
	case Invoke:
		if m, ok := invoked(e.Model); ok {
			return m.asked
		}
		return askedAnyInvoked
	case Responses:
		return askedResponses
	case Completions, Cohere, LlamaCpp:
		return askedCompletions
	case TextGeneration:
		return askedGeneration
	default:
		return askedChat
	}
}

// pictures are what embeddings of Cohere's and of Amazon's are made of.
var pictures = concat(each(askImage, measure, "images[]", "inputImage"), media("inputs[].content[]"))

func askedOpenAI() []rule {
	return concat(
		[]rule{
			{"model", askModel, keep},
			{"stream_options.include_usage", askIncludeUsage, keep},
			{"usage.include", askIncluded, keep}, {"reasoning.mode", askMode, keep},
			{"service_tier", askTier, keep},
			{"prompt[]", askPrompt, count}, {"prompt[][]", askNone, keep}, // several texts, or several lists of tokens
			{"tools[].type", askTool, keep},
			{"input[].type", askItemType, keep},
			{"background", askBackground, keep}, {"deferred", askDeferred, keep},
		},
		each(askStream, keep, "stream"),
		each(askChoices, keep, "n", "best_of", "num_generations"),
		each(askOpen, keep, "web_search_options", "search_parameters", "plugins", "connectors", "context_management"),
		each(askStored, keep, "previous_response_id", "conversation", "prompt.id", "conversation_id", "messages[].content[].file.file_id",
			"messages[].content[].audio.id", "messages[].audio.id", "input[].content[].file_id", "input[].output[].file_id"),
		each(askDetail, keep, "messages[].content[].image_url.detail", "input[].content[].detail", "input[].output[].detail"),
		each(askLife, keep, "messages[].content[].cache_control.ttl", "tools[].cache_control.ttl", "cache_control.ttl", "prompt_cache_options.ttl"),
		each(askOpenIfTrue, keep, "enable_search"),
		media("messages[].content[]"),
		media("input_references[]"), // OpenRouter's, of images
		media("input[].content[]"),
		media("input[].output[]"), // of a tool that returns a screenshot
		[]rule{{"image_url", askImage, measure}, {"image_url.url", askImage, measure}, {"document.document_url", askDocument, measure},
			{"document.image_url", askImage, measure}}, // of the recognition of text
	)
}

// media are the parts of a message that are no text.
func media(part string) []rule {
	return under(part, concat(
		each(askImage, measure, "image_url", "image_url.url"),
		each(askAudio, measure, "input_audio", "input_audio.data"),
		each(askDocument, measure, "file.file_data", "file_data", "document_url", "file_url", "video_url.url"),
	))
}

// inline are Gemini's parts that are no text.
func inline(part string) (rules []rule) {
	for _, name := range []string{"inlineData", "inline_data"} {
		rules = append(rules, under(part+"."+name, []rule{
			{"", askMedium, keep}, {"data", askMediumBytes, count},
			{"mimeType", askMime, keep}, {"mime_type", askMime, keep},
		})...)
	}
	for _, name := range []string{"fileData", "file_data"} {
		rules = append(rules, under(part+"."+name, []rule{
			{"", askReference, keep}, {"mimeType", askMime, keep}, {"mime_type", askMime, keep},
		})...)
	}
	return rules
}

// sources are Converse's parts that are no text.
func sources(part string) []rule {
	return concat(
		each(askImage, measure, part+".image.source.bytes"),
		each(askAudio, measure, part+".audio.source.bytes"),
		each(askDocument, measure, part+".document.source.bytes", part+".video.source.bytes"),
		each(askImageElsewhere, keep, part+".image.source.s3Location"),
		each(askStored, keep, part+".audio.source.s3Location", part+".document.source.s3Location",
			part+".video.source.s3Location"),
	)
}

// askedMessages are Anthropic's. A tool without a type is the caller's own.
func askedMessages() []rule {
	rules := concat(
		each(askBudget, keep, "thinking.budget_tokens"),
		each(askTool, keep, "tools[].type"),
		each(askOpen, keep, "context_management"),
		each(askServer, keep, "mcp_servers", "container"),
		[]rule{{"tools[]", askToolObject, keep}, {"tools[].max_uses", askToolUses, keep}},
		[]rule{{"speed", askSpeed, keep}, {"inference_geo", askRegion, keep}},
		each(askLife, keep, "cache_control.ttl", "system[].cache_control.ttl", "tools[].cache_control.ttl",
			"messages[].content[].cache_control.ttl", "messages[].content[].content[].cache_control.ttl"),
	)
	for _, part := range []string{"messages[].content[]", "messages[].content[].content[]"} {
		rules = append(rules, under(part, []rule{
			{"", askPart, keep}, {"type", askPartType, keep},
			{"source", askMedium, keep}, {"source.data", askMediumBytes, count}, {"source.media_type", askMime, keep},
			{"source.url", askURL, keep}, {"source.file_id", askURL, keep},
		})...)
	}
	return rules
}

// invokedModel is how models that are invoked on Bedrock in their own format limit their output.
type invokedModel struct {
	part  string // of the model's name
	limit location
	asked *node
}

var invokedModels = func() []invokedModel {
	top := func(keys ...string) location { return location{keys: keys} }
	models := []invokedModel{
		{part: "anthropic.claude-v", limit: top("max_tokens_to_sample", "max_tokens")},
		{part: "anthropic.claude-instant", limit: top("max_tokens_to_sample", "max_tokens")},
		{part: "anthropic.", limit: top("max_tokens")},
		{part: "amazon.nova", limit: location{"inferenceConfig", nil, []string{"maxTokens", "max_new_tokens"}}},
		{part: "amazon.titan-text", limit: location{"textGenerationConfig", nil, []string{"maxTokenCount"}}},
		{part: "meta.llama", limit: top("max_gen_len")},
		{part: "mistral.", limit: top("max_tokens")},
		{part: "cohere.command", limit: top("max_tokens")},
		{part: "ai21.jamba", limit: top("max_tokens")},
		{part: "deepseek.", limit: top("max_tokens")},
		{part: "qwen.", limit: top("max_tokens")},
		{part: "openai.", limit: top("max_completion_tokens", "max_tokens")},
	}
	for i := range models {
		m := &models[i]
		m.asked = schema(askedInvoke(), under(m.limit.object, each(askMax, keep, m.limit.keys...)))
	}
	return models
}()

// askedAnyInvoked is for models that are not known, or behind a profile's name: the largest limit of any counts.
var askedAnyInvoked = func() *node {
	rules := askedInvoke()
	for _, m := range invokedModels {
		rules = append(rules, under(m.limit.object, each(askMax, keep, m.limit.keys...))...)
	}
	return schema(rules)
}()

func invoked(model string) (invokedModel, bool) {
	for _, m := range invokedModels {
		if strings.Contains(model, m.part) {
			return m, true
		}
	}
	return invokedModel{}, false
}

func askedInvoke() []rule {
	return concat(
		askedMessages(),
		each(askChoices, keep, "num_generations", "numResults", "n"),
		pictures,
		sources("messages[].content[]"),
	)
}
