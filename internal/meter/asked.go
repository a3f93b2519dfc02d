package meter

// The schemas of requests, by format.
var (
	askedOpenAI = schema(
		[]rule{
			{"model", askModel, keep},
			{"stream_options.include_usage", askIncludeUsage, keep},
			{"prompt[]", askPrompt, count}, {"prompt[][]", askNone, keep}, // several texts, or several lists of tokens
			{"tools[].type", askTool, keep},
			{"input[].type", askItemType, keep},
			{"background", askOpenIfTrue, keep},
		},
		each(askStream, keep, "stream"),
		each(askMax, keep, "max_tokens", "max_completion_tokens", "max_output_tokens"),
		each(askChoices, keep, "n", "best_of", "num_generations"),
		each(askOpen, keep, "previous_response_id", "conversation", "prompt.id", "web_search_options", "search_parameters",
			"plugins", "connectors", "conversation_id", "messages[].content[].file.file_id", "input[].content[].file_id",
			"input[].output[].file_id", "context_management"),
		each(askOpenIfTrue, keep, "enable_search"),
		media("messages[].content[]"),
		media("input[].content[]"),
		media("input[].output[]"), // of a tool that returns a screenshot
		[]rule{{"image_url", askImage, measure}, {"image_url.url", askImage, measure}, {"document.document_url", askDocument, measure},
			{"document.image_url", askImage, measure}}, // of the recognition of text
	)

	askedAnthropic = schema(askedMessages(), []rule{{"stream", askStream, keep}, {"model", askModel, keep}})

	askedGemini = schema(
		each(askMax, keep, "generationConfig.maxOutputTokens", "generation_config.max_output_tokens",
			"generationConfig.max_output_tokens", "generation_config.maxOutputTokens", "parameters.maxOutputTokens"),
		each(askChoices, keep, "generationConfig.candidateCount", "generation_config.candidate_count", "parameters.sampleCount"),
		each(askNone, keep, "tools[].functionDeclarations", "tools[].function_declarations"),
		each(askOpen, keep, "tools[].*", "cachedContent", "cached_content",
			"contents[].parts[].fileData", "contents[].parts[].file_data", "content.parts[].fileData", "content.parts[].file_data",
			"requests[].content.parts[].fileData"),
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
		each(askOpen, keep, "toolConfig.tools[].*", "additionalModelRequestFields.tools", "additionalModelRequestFields.mcp_servers"),
		each(askBudget, keep, "additionalModelRequestFields.thinking.budget_tokens"),
		sources("messages[].content[]"),
		sources("messages[].content[].toolResult.content[]"),
		sources("system[]"),
	)

	// A model that is invoked takes its own format.
	askedInvoke = schema(
		askedMessages(),
		each(askMax, keep, "inferenceConfig.maxTokens", "inferenceConfig.max_new_tokens", "textGenerationConfig.maxTokenCount",
			"max_gen_len", "maxTokens", "max_tokens_to_sample", "max_completion_tokens"),
		each(askChoices, keep, "num_generations", "numResults", "n"),
		sources("messages[].content[]"),
	)
)

func askedSchema(f Format) *node {
	switch f {
	case Anthropic:
		return askedAnthropic
	case Gemini:
		return askedGemini
	case Ollama:
		return askedOllama
	case Converse:
		return askedConverse
	case Invoke:
		return askedInvoke
	default: // Cohere's names are OpenAI's
		return askedOpenAI
	}
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
	return rules
}

// sources are Converse's parts that are no text.
func sources(part string) []rule {
	return concat(
		each(askImage, measure, part+".image.source.bytes"),
		each(askAudio, measure, part+".audio.source.bytes"),
		each(askDocument, measure, part+".document.source.bytes", part+".video.source.bytes"),
		each(askOpen, keep, part+".image.source.s3Location", part+".audio.source.s3Location", part+".document.source.s3Location",
			part+".video.source.s3Location"),
	)
}

// askedMessages are Anthropic's. A tool without a type is the caller's own.
func askedMessages() []rule {
	rules := concat(
		each(askMax, keep, "max_tokens", "max_tokens_to_sample"),
		each(askBudget, keep, "thinking.budget_tokens"),
		each(askTool, keep, "tools[].type"),
		each(askOpen, keep, "mcp_servers", "container", "context_management"),
	)
	for _, part := range []string{"messages[].content[]", "messages[].content[].content[]"} {
		rules = append(rules, under(part+".source", []rule{
			{"", askMedium, keep}, {"data", askMediumBytes, count}, {"media_type", askMime, keep},
			{"url", askOpen, keep}, {"file_id", askOpen, keep},
		})...)
	}
	return rules
}
