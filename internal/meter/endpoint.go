package meter

import (
	"net/http"
	"net/url"
	"strings"
)

// Kind is what a call is for.
type Kind string

// The kinds. Batch and its results, and Free, are not calls of a model: see Endpoint.
const (
	Chat          Kind = "chat" // and whatever else generates text from a prompt
	Embeddings    Kind = "embeddings"
	Images        Kind = "images"
	Speech        Kind = "speech"
	Transcription Kind = "transcription"
	Moderation    Kind = "moderation"
	Rerank        Kind = "rerank"
	OCR           Kind = "ocr"
	Video         Kind = "video"         // a job, whose result is a video
	Batch         Kind = "batch"         // charged later, with its results
	BatchResults  Kind = "batch_results" // may be asked for more than once; see Results
	File          Kind = "file"          // what it holds may be the results of a batch; see Results
	Free          Kind = "free"          // models, files, counting tokens
)

// inputOnly reports whether calls of the kind generate no tokens.
func (k Kind) inputOnly() bool { return k == Embeddings || k == Moderation || k == Rerank }

// Format is the wire format of requests and replies.
type Format string

// The formats. Three of them are OpenAI's: their requests differ, their replies are read alike.
const (
	ChatCompletions Format = "openai_chat"
	Completions     Format = "openai_completions"
	Responses       Format = "openai_responses"
	OpenAI          Format = "openai" // its other endpoints
	Anthropic       Format = "anthropic"
	Gemini          Format = "gemini"
	Ollama          Format = "ollama"
	Converse        Format = "bedrock_converse"
	Invoke          Format = "bedrock_invoke"
	Cohere          Format = "cohere"
	LlamaCpp        Format = "llamacpp" // its own completions, infills and embeddings
	TextGeneration  Format = "tgi"      // and embeddings of text-embeddings-inference

	Interactions  Format = "gemini_interactions"
	Conversations Format = "mistral_conversations"
	AsyncChat     Format = "perplexity_async" // a chat completion in an envelope
	Videos        Format = "videos"
	BedrockRerank Format = "bedrock_rerank"
)

// Endpoint is what a URL says about a call.
type Endpoint struct {
	// Provider is the host's name, empty where the host is not known.
	Provider string

	Kind   Kind
	Format Format

	// Model is the model, or Azure's deployment, that the path names.
	Model string

	// Region is where a call is kept, which has its price: by OpenAI as the host says it, "eu" or "us"; with Claude on Vertex AI
	// "regional", at an endpoint that is not the global one.
	Region string

	// Batch is the batch, or the file, that the path of its results names.
	Batch string

	// Job is what the path of a result calls the call that it is of, where the result may not say it. Download reports that
	// the result is what was made itself, which says nothing of what it used.
	Job      string
	Download bool

	// Streams reports that the path asks for a stream; elsewhere the request's body does.
	Streams bool

	// Retrieval reports that the reply was made by an earlier request, which may have been charged for it: it is to be
	// charged once by its ID.
	Retrieval bool

	// Service is what a request that is not recognised is known to be for, empty where nobody knows: see [Recognise].
	Service string

	dated string // Azure's version of the API
}

// Strange reports whether the path does not say enough: it may mean something else at its host, so that the body is to say
// whether it is a call. See [HasForm].
func (e Endpoint) Strange() bool { return e.Provider == "" || e.Format == Invocations }

// Recognise returns what a request is for. It returns false for what is neither known to be free nor a call whose reply
// this package reads: such a request may cost money that nobody counts. A known host is recognised by its name, any
// other by its path, and is to be by its body as well: see [HasForm].
func Recognise(method string, u *url.URL) (Endpoint, bool) {
	path := segments(u)
	e, known := recognise(method, u, path)
	if !known {
		e.Service = serviceOf(u, e.Provider, path)
	}
	return e, known
}

func recognise(method string, u *url.URL, path path) (Endpoint, bool) {
	e := Endpoint{Provider: providerOf(u), Region: regionOf(u)}
	free := Endpoint{Provider: e.Provider, Kind: Free}
	switch method {
	case http.MethodPost:
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "":
		return e.read(method, u, path, free)
	default:
		return free, e.Provider != "" && !path.has("realtime")
	}
	if e.Provider == Azure {
		e.dated = u.Query().Get("api-version")
	}
	switch {
	case path.free(e.Provider):
		return free, true
	case e.later(path), e.video(path), e.dialect(path), e.bedrock(path), e.google(path), e.ollama(path), e.cohere(path), e.anthropic(path), e.openAI(path), e.selfHosted(path):
		return e, true
	default:
		return e, false
	}
}

// read recognises what is asked for without being made. Replies that are made in the background are charged when they
// are read; a protocol switch is a session, which is not read here.
func (e Endpoint) read(method string, u *url.URL, path path, free Endpoint) (Endpoint, bool) {
	get := method == http.MethodGet || method == ""
	switch {
	case path.has("realtime") || path.has("live") || path.has("ws"):
		return e, false
	case get && path.back(1) == "responses" && (e.Provider != "" || strings.HasPrefix(path.back(0), "resp")):
		e.Kind, e.Format, e.Retrieval = Chat, Responses, true
		return e, true
	case get && (e.job(path) || e.film(path)):
		return e, true
	case get && e.results(path), get && e.page(path):
		return e, true
	case path.ends("results") && path.back(2) == "batches":
		return e, false
	case e.Provider != "" || serviceHost(u):
		return free, true
	case get && (path.ends("models") || path.back(1) == "models" || path.back(0) == "tags" || path.back(0) == "version"):
		return free, true
	default:
		return free, !get
	}
}

// results recognises what has the results of a batch, or may have them.
func (e *Endpoint) results(p path) bool {
	last := p.back(0)
	file, download := strings.CutSuffix(last, ":download")
	switch {
	case last == "results" && p.back(2) == "batches" && p.back(3) == "messages":
		e.Kind, e.Format, e.Batch = BatchResults, Anthropic, p.back(1)
	case last == "content" && p.back(2) == "files":
		e.Kind, e.Format, e.Batch = File, OpenAI, p.back(1)
	case p.back(2) == "batch" && p.back(1) == "jobs": // Mistral's, which can have them in it
		e.Kind, e.Format, e.Batch = BatchResults, OpenAI, last
	case download && p.back(1) == "files" && p.google(e.Provider):
		e.Kind, e.Format, e.Batch = File, Gemini, file
	case p.back(1) == "batches" && p.google(e.Provider): // likewise
		e.Kind, e.Format, e.Batch = BatchResults, Gemini, last
	default:
		return false
	}
	e.Retrieval = true
	return true
}

// page recognises what has the results of a batch in pages: xAI's (*Batch API*, xAI docs) and OpenRouter's (*Get batch results*,
// OpenRouter docs), which has them in the batch too.
func (e *Endpoint) page(p path) bool {
	switch {
	case p.back(0) == "results" && p.back(2) == "batches" && (e.Provider == XAI || e.Provider == OpenRouter):
		e.Batch = p.back(1)
	case p.back(1) == "batches" && e.Provider == OpenRouter:
		e.Batch = p.back(0)
	default:
		return false
	}
	e.Kind, e.Format, e.Retrieval = BatchResults, OpenAI, true
	return true
}

// google reports whether a path is one of the Gemini API.
func (p path) google(provider string) bool {
	return provider == Google || provider == "" && (p.has("v1beta") || p.has("v1alpha"))
}

// path is a URL's path in segments, unescaped.
type path []string

func segments(u *url.URL) path {
	var p path
	for _, s := range strings.Split(u.EscapedPath(), "/") {
		if s == "" {
			continue
		}
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		p = append(p, s)
	}
	return p
}

// back returns the segment that is n before the last, or an empty string.
func (p path) back(n int) string {
	if n >= len(p) {
		return ""
	}
	return p[len(p)-1-n]
}

// ends reports whether the last segments are these.
func (p path) ends(last ...string) bool {
	for i, s := range last {
		if p.back(len(last)-1-i) != s {
			return false
		}
	}
	return true
}

// after returns the segment that follows the first one of a name.
func (p path) after(name string) string {
	for i := range len(p) - 1 {
		if p[i] == name {
			return p[i+1]
		}
	}
	return ""
}

func (p path) has(name string) bool {
	for _, s := range p {
		if s == name {
			return true
		}
	}
	return false
}

func (e *Endpoint) bedrock(p path) bool {
	if e.Provider == Bedrock && len(p) == 1 && p[0] == "rerank" {
		e.Kind, e.Format = Rerank, BedrockRerank
		return true
	}
	if p.back(2) != "model" && p.back(2) != "models" {
		return false
	}
	switch p.back(0) {
	case "converse":
		e.Format = Converse
	case "converse-stream":
		e.Format, e.Streams = Converse, true
	case "invoke":
		e.Format = Invoke
	case "invoke-with-response-stream":
		e.Format, e.Streams = Invoke, true
	default:
		return false
	}
	e.Kind, e.Model = Chat, p.back(1)
	switch {
	case strings.Contains(e.Model, "embed"):
		e.Kind = Embeddings
	case e.Format == Invoke && strings.Contains(e.Model, "rerank"):
		e.Kind, e.Format = Rerank, BedrockRerank
	case e.Format == Invoke && drawer(e.Model):
		e.Kind = Images
	}
	return true
}

// drawer reports whether a model of Bedrock's makes images.
func drawer(model string) bool {
	return strings.Contains(model, "stability.") || strings.Contains(model, "nova-canvas") || strings.Contains(model, "titan-image")
}

func (e *Endpoint) google(p path) bool {
	model, verb, ok := cutLast(p.back(0), ":")
	if !ok {
		return false
	}
	e.Kind, e.Format, e.Model = Chat, Gemini, model
	switch verb {
	case "generateContent":
	case "streamGenerateContent":
		e.Streams = true
	case "embedContent", "batchEmbedContents":
		e.Kind = Embeddings
	case "batchGenerateContent", "asyncBatchEmbedContent":
		e.Kind = Batch
	case "predict":
		e.Kind = Embeddings
		if strings.HasPrefix(model, "imagen") {
			e.Kind = Images
		}
	case "rawPredict", "streamRawPredict":
		e.Streams = verb == "streamRawPredict"
		e.Format = ChatCompletions
		switch {
		case p.after("publishers") == "anthropic":
			e.Format = Anthropic
			if place := p.after("locations"); e.Provider == Vertex && place != "" && place != "global" {
				e.Region = "regional"
			}
		case strings.Contains(model, "-ocr"): // Mistral's
			e.Kind, e.Format = OCR, OpenAI
		}
		if model == "count-tokens" {
			e.Kind = Free
		}
	default:
		return false
	}
	return true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (e *Endpoint) ollama(p path) bool {
	if p.back(1) != "api" {
		return false
	}
	switch p.back(0) {
	case "chat", "generate":
		e.Kind = Chat
	case "embed", "embeddings":
		e.Kind = Embeddings
	default:
		return false
	}
	e.Format = Ollama
	return true
}

func (e *Endpoint) cohere(p path) bool {
	if e.Provider != CohereProvider && p.back(1) != "v2" || p.has("compatibility") || p.has("audio") {
		return false
	}
	switch p.back(0) {
	case "chat", "generate", "summarize":
		e.Kind = Chat
	case "embed":
		e.Kind = Embeddings
	case "classify":
		e.Kind = Moderation
	case "rerank":
		e.Kind = Rerank
	default:
		return false
	}
	e.Format = Cohere
	return true
}

func (e *Endpoint) anthropic(p path) bool {
	switch {
	case p.ends("messages", "batches"):
		e.Kind = Batch
	case p.ends("messages") && p.after("threads") == "", p.ends("complete") && e.Provider == AnthropicProvider:
		e.Kind = Chat
	default:
		return false
	}
	e.Format = Anthropic
	return true
}

func (e *Endpoint) openAI(p path) bool {
	e.Kind, e.Format = Chat, OpenAI
	e.Model = p.after("deployments")
	switch last, before := p.back(0), p.back(1); {
	case before == "chat" && last == "completions", last == "chat" && e.Provider == Writer, p.ends("agents", "completions"),
		p.ends("text", "chatcompletion_v2"): // the latter is MiniMax's own
		e.Format = ChatCompletions
	case last == "completions":
		e.Format = Completions
	case last == "decisions" && (e.Provider == OpenAIProvider || e.Provider == Azure): // answers without a limit to their length
	case last == "responses", before == "responses" && last == "compact":
		e.Format = Responses
	case p.back(2) == "responses" && last == "cancel":
		e.Format, e.Retrieval = Responses, true
	case last == "embeddings", before == "embeddings" && last == "multimodal", last == "pooling":
		e.Kind = Embeddings
	case last == "images" && e.Provider == OpenRouter, before == "images" && (last == "generations" || last == "edits" || last == "variations"):
		e.Kind = Images
	case before == "audio" && (last == "transcriptions" || last == "translations"):
		e.Kind = Transcription
	case before == "audio" && last == "speech":
		e.Kind = Speech
	case last == "moderations", last == "classifications", last == "classify":
		e.Kind = Moderation
	case last == "rerank", last == "reranking", last == "score":
		e.Kind = Rerank
	case last == "ocr":
		e.Kind = OCR
	case last == "batches", before == "batch" && last == "jobs", p.back(2) == "batches" && last == "requests" && e.Provider == XAI:
		e.Kind = Batch
	default:
		return false
	}
	return true
}

// selfHosted recognises the APIs of servers that run a model of one's own, which have no name by which they are known.
func (e *Endpoint) selfHosted(p path) bool {
	if e.Provider != "" && e.Provider != "huggingface" {
		return false
	}
	e.Kind, e.Format = Chat, TextGeneration
	switch p.back(0) {
	case "completion", "infill":
		e.Format = LlamaCpp
	case "embedding":
		e.Kind, e.Format = Embeddings, LlamaCpp
	case "generate":
	case "generate_stream":
		e.Streams = true
	case "embed", "embed_all", "embed_sparse":
		e.Kind = Embeddings
	default:
		return false
	}
	return true
}
