package meter

import (
	"bytes"
	"slices"
)

// HasForm reports whether a request's body has the form of a call to the endpoint: it is an object, or the form of an
// upload, that names a model, unless the path does, and has a member for what the model is given, which Ollama's may lack.
// It is for hosts that are not known, whose paths may mean something else: a path such as /messages is not Anthropic's
// alone. The paths of chat completions, of completions and of rankings are nobody else's, with what they are given, so that
// their bodies need not name the model: a server of one model asks for no name.
func HasForm(e Endpoint, body []byte) bool { return new(RequestReader).HasForm(e, body) }

// HasForm is the function of that name.
func (r *RequestReader) HasForm(e Endpoint, body []byte) bool {
	named := e.Model != "" || e.Kind == Batch
	switch e.Format {
	case ChatCompletions, Completions, LlamaCpp, TextGeneration, Conversations, AsyncChat:
		named = true
	}
	if bytes.HasPrefix(body, []byte("--")) {
		r.asked = asked{}
		a := &r.asked
		a.form(body)
		return (named || a.Model != "") && (e.Kind == Images || e.Kind == Transcription || e.Kind == Video)
	}
	r.form = form{}
	f := &r.form
	s := makeScanner(formSchema, f, &f.room)
	s.write(body)
	s.close()
	named = named || e.Kind == Rerank && (f.has("documents") || f.has("texts")) || e.Format == Interactions && f.has("agent") || f.has("model_id")
	if !s.whole || s.state == failed || !named && !f.has("model") {
		return false
	}
	if e.Format == Ollama && e.Kind != Embeddings {
		return true // without anything to answer, it loads the model
	}
	return e.Format == Invoke || slices.ContainsFunc(given(e), f.has)
}

// formFields are the names of members by their fields.
var formFields = [...]string{
	"model", "messages", "message", "prompt", "input", "inputs", "previous_response_id", "conversation", "contents", "content",
	"requests", "instances", "batch", "text", "texts", "images", "query", "document", "file", "file_url", "url", "input_file_id", "input_files",
	"agent", "request", "model_id",
	"documents", "input_prefix", "input_suffix", "queries", "text_1",
}

var formSchema = func() *node {
	var rules []rule
	for i, name := range formFields[:] {
		rules = append(rules, rule{name, formField + field(i), measure})
	}
	return schema(rules)
}()

const formField field = 100 // the first

// form keeps which members a body has that are neither null nor empty strings.
type form struct {
	reply
	members [len(formFields)]bool
	room    room
}

func (f *form) has(name string) bool { return f.members[slices.Index(formFields[:], name)] }

func (f *form) begin(is field) { f.members[is-formField] = true }

func (f *form) scalar(is field, v value) {
	if len(v.text) > 0 {
		f.members[is-formField] = true
	}
}

func (f *form) text(field, text) {}

// given names the members that say what a model is given, of which a request has one.
func given(e Endpoint) []string {
	if d, ok := dialects[e.Format]; ok {
		return d.given
	}
	switch e.Format {
	case ChatCompletions, Anthropic, Converse:
		if e.Kind == Batch {
			return []string{"requests"}
		}
		return []string{"messages"}
	case Completions:
		return []string{"prompt"}
	case LlamaCpp:
		if e.Kind == Embeddings {
			return []string{"content", "input"}
		}
		return []string{"prompt", "input_prefix", "input_suffix"}
	case TextGeneration:
		return []string{"inputs"}
	case Responses:
		return []string{"input", "prompt", "previous_response_id", "conversation"}
	case Gemini:
		return []string{"contents", "content", "requests", "instances", "batch"}
	case Ollama:
		return []string{"messages", "prompt", "input"}
	case Conversations:
		return []string{"inputs"}
	case AsyncChat:
		return []string{"request"}
	case Cohere:
		return []string{"messages", "message", "prompt", "text", "texts", "inputs", "images", "query"}
	}
	switch e.Kind {
	case Batch:
		return []string{"input_file_id", "input_files", "requests"}
	case Images:
		return []string{"prompt"}
	case Transcription:
		return []string{"file", "file_url", "url"}
	case Rerank:
		return []string{"query", "queries", "text_1"} // the last two are vLLM's
	case OCR:
		return []string{"document"}
	case Video:
		return []string{"prompt", "instances"}
	default:
		return []string{"input", "inputs"}
	}
}
