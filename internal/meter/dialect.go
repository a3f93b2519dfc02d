package meter

import (
	"cmp"
	"strings"
)

// The formats of services that have a native API beside OpenAI's: what is in it is much the same, and elsewhere.
const (
	CloudflareRun   Format = "cloudflare_run"
	WatsonxChat     Format = "watsonx_chat"
	WatsonxText     Format = "watsonx_text" // also embeddings and ranking
	DashScope       Format = "dashscope"
	Cortex          Format = "snowflake_cortex"
	Invocations     Format = "databricks_invocations"
	VoyageMultimode Format = "voyage_multimodal"
)

// A dialect is what a native API has where OpenAI's has it elsewhere.
type dialect struct {
	asked, reply *node
	limit        location // of output; without keys there is none
	given        []string // members of which a request has one
}

// What the values of such replies mean, beside those of OpenAI's.
const (
	nativeInput field = 180 + iota
	nativeOutput
	nativeText // of the input, where the rest of it is images
)

var dialects = map[Format]dialect{
	// *Execute AI model* (Cloudflare API reference), *REST API* (AI Gateway docs): /ai/run has the input in an envelope.
	CloudflareRun: {
		asked: schema(askedOpenAI(), each(askMax, keep, "max_tokens"), under("input", askedOpenAI()), each(askMax, keep, "input.max_tokens")),
		reply: beside(replyAt(openAISchema, "result", []rule{{"success", fieldNone, keep}, {"errors[]", fieldError, keep}}), openAISchema,
			each(fieldText, count, "response", "result.response")),
		limit: location{keys: []string{"max_tokens"}},
		given: []string{"messages", "prompt", "input", "text", "query"},
	},
	// Types of watsonx-ai-node-sdk, src/types/vml_v1.ts.
	WatsonxChat: {
		asked: schema(askedOpenAI(), each(askMax, keep, "max_tokens", "max_completion_tokens"), each(askModel, keep, "model_id")),
		reply: beside(openAISchema, nil, each(fieldModel, keep, "model_id")),
		limit: location{keys: []string{"max_tokens", "max_completion_tokens"}},
		given: []string{"messages"},
	},
	WatsonxText: {
		asked: schema(each(askModel, keep, "model_id"), each(askMax, keep, "parameters.max_new_tokens")),
		reply: schema(
			each(fieldModel, keep, "model_id"), each(nativeInput, keep, "input_token_count", "results[].input_token_count"),
			each(nativeOutput, keep, "results[].generated_token_count"), each(fieldText, count, "results[].generated_text"),
			each(fieldFinish, keep, "results[].stop_reason"), each(fieldError, keep, "errors[]"),
		),
		limit: location{"parameters", nil, []string{"max_new_tokens"}},
		given: []string{"input", "inputs"},
	},
	// dashscope-sdk-python, dashscope/api_entities. A stream repeats the usage, which grows.
	DashScope: {
		asked: schema(
			each(askModel, keep, "model"), each(askMax, keep, "parameters.max_tokens"), each(askChoices, keep, "parameters.n"),
			each(askOpenIfTrue, keep, "parameters.enable_search"),
			each(askImage, measure, "input.messages[].content[].image"), each(askAudio, measure, "input.messages[].content[].audio"),
			each(askDocument, measure, "input.messages[].content[].video", "input.messages[].content[].video[]"),
			each(askImage, measure, "input.contents[].image"), each(askDocument, measure, "input.contents[].video"),
		),
		reply: schema(
			under("usage", openAIUsage(openAICounts())),
			each(fieldText, count, "output.text", "output.choices[].message.content", "output.choices[].message.content[].text",
				"output.choices[].message.reasoning_content"),
			each(fieldFinish, keep, "output.finish_reason", "output.choices[].finish_reason"),
			each(fieldID, keep, "request_id"), each(fieldError, keep, "code"),
		),
		limit: location{"parameters", nil, []string{"max_tokens"}},
		given: []string{"input"},
	},
	// *Cortex REST API* (Snowflake docs).
	Cortex: {
		asked: schema(askedOpenAI(), each(askMax, keep, "max_tokens", "max_output_tokens")),
		reply: openAISchema,
		limit: location{keys: []string{"max_tokens", "max_output_tokens"}},
		given: []string{"messages", "text"},
	},
	// *Query foundation models* (Databricks docs): whatever a model that is served takes, which is OpenAI's if it is one of text.
	Invocations: {
		asked: schema(askedOpenAI(), each(askMax, keep, "max_tokens")),
		reply: openAISchema,
		limit: location{keys: []string{"max_tokens"}},
		given: []string{"messages", "prompt", "input"},
	},
	// *Multimodal embeddings* (Voyage API reference): of the total, what is no text is pixels.
	VoyageMultimode: {
		asked: schema(each(askModel, keep, "model"),
			each(askImage, measure, "inputs[].content[].image_base64", "inputs[].content[].image_url"),
			each(askDocument, measure, "inputs[].content[].video_base64", "inputs[].content[].video_url")),
		reply: beside(openAISchema, nil, each(nativeText, keep, "usage.text_tokens")),
		given: []string{"inputs"},
	},
}

// beside returns a schema that has the members of others too, and rules of its own. Neither of them is changed.
func beside(first, second *node, rules []rule) *node {
	root := first.copied()
	if second != nil {
		for name, n := range second.members {
			if root.members[name] == nil {
				root.members[name] = n.copied()
			}
		}
	}
	for _, r := range rules {
		n := root.at(r.path)
		n.field, n.how = r.field, r.how
	}
	return root
}

func (n *node) copied() *node {
	if n == nil {
		return nil
	}
	c := *n
	c.rest, c.elements = n.rest.copied(), n.elements.copied()
	if n.members != nil {
		c.members = make(map[string]*node, len(n.members))
		for name, m := range n.members {
			c.members[name] = m.copied()
		}
	}
	return &c
}

// dialect recognises the native APIs.
func (e *Endpoint) dialect(p path) bool {
	last, before := p.back(0), p.back(1)
	e.Kind = Chat
	switch {
	case e.Provider == Cloudflare && p.holds([]string{"ai", "run"}):
		e.Format, e.Model = CloudflareRun, p.afterAll("ai", "run")
	case p.holds([]string{"workers-ai"}) && strings.HasPrefix(p.after("workers-ai"), "@"): // through its gateway
		e.Format, e.Model = CloudflareRun, p.afterAll("workers-ai")
	case p.holds([]string{"ml", "v1"}) && before == "text":
		return e.watsonx(last)
	case e.Provider == Alibaba && p.holds([]string{"api", "v1", "services"}):
		return e.dashScope(p)
	case last == "inference:complete" && before == "cortex":
		e.Format = Cortex
	case (last == "inference:embed" || last == "embed") && (before == "cortex" && e.Provider == Snowflake):
		e.Kind, e.Format = Embeddings, Cortex
	case last == "invocations" && p.back(2) == "serving-endpoints":
		e.Format, e.Model, e.Service = Invocations, before, "a model of one's own at Databricks, by the hour"
	case last == "multimodalembeddings":
		e.Kind, e.Format = Embeddings, VoyageMultimode
	case last == "contextualizedembeddings":
		e.Kind, e.Format = Embeddings, OpenAI
	default:
		return false
	}
	if e.Format == CloudflareRun && (strings.Contains(e.Model, "bge-") || strings.Contains(e.Model, "embed")) {
		e.Kind = Embeddings
	}
	return true
}

func (e *Endpoint) watsonx(last string) bool {
	e.Format = WatsonxText
	switch last {
	case "chat", "chat_stream":
		e.Format, e.Streams = WatsonxChat, last == "chat_stream"
	case "generation", "generation_stream":
		e.Streams = last == "generation_stream"
	case "embeddings":
		e.Kind = Embeddings
	case "rerank":
		e.Kind = Rerank
	default:
		return false
	}
	return true
}

// dashScope recognises what is charged by tokens of DashScope's own API.
func (e *Endpoint) dashScope(p path) bool {
	e.Format = DashScope
	switch group, task := p.after("services"), p.back(1); {
	case group == "aigc" && (task == "text-generation" || task == "multimodal-generation"):
	case group == "embeddings":
		e.Kind = Embeddings
	case group == "rerank":
		e.Kind = Rerank
	default:
		return false
	}
	return true
}

// afterAll returns what follows segments in a path, with its slashes: names of models have some.
func (p path) afterAll(segments ...string) string {
	for i := range len(p) - len(segments) + 1 {
		if p[i : i+len(segments)].holds(segments) {
			return strings.Join(p[i+len(segments):], "/")
		}
	}
	return ""
}

// inDialect reads the replies of native APIs, in which the parts that are OpenAI's mean what they mean there.
type inDialect struct {
	*openAI
	root  *node
	more  tally
	plain int64 // tokens of text in the input
}

func newInDialect(e Endpoint, d dialect) *inDialect {
	return &inDialect{openAI: newOpenAI(e), root: d.reply}
}

func (n *inDialect) schema() *node { return n.root }

// scalar takes counts over that are stated outside of a usage object. In a stream they grow, or are stated once.
func (n *inDialect) scalar(f field, v value) {
	switch f {
	case nativeInput:
		n.more.read(fieldPrompt, v)
	case nativeOutput:
		n.more.read(fieldCompletion, v)
	case fieldFinish:
		if !v.is("null") && !v.is("not_finished") { // DashScope's and watsonx's words for what goes on
			n.openAI.scalar(f, v)
		}
	case nativeText:
		if c, ok := v.count(); ok {
			n.plain = c
		}
	default:
		n.openAI.scalar(f, v)
	}
}

func (n *inDialect) result(to *Result) {
	if n.usage.empty() && !n.more.empty() {
		n.more.put(fieldCompletion, n.more.n[fieldCompletion]) // the first of a stream may say the input alone
		n.usage = n.more
	}
	n.openAI.result(to)
	to.Complete = to.Complete || n.endpoint.Format == Cortex && !n.usage.empty() // whose streams have no other end
	if n.endpoint.Format == VoyageMultimode && to.Found {
		images := max(to.Usage.Input-n.plain, 0)
		to.Usage.Input, to.Usage.InputImage = to.Usage.Input-images, to.Usage.InputImage+images
	}
	to.Model = cmp.Or(to.Model, n.endpoint.Model)
}
