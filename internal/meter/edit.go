package meter

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// LimitOutput returns the body with a limit on the output of one choice, of that many tokens or of as many as it has
// already, whichever is less. No other byte changes; a body that needs no change is returned as it is. It returns false,
// and the body as it is, where the format has no such limit or the body is not of it.
func LimitOutput(e Endpoint, body []byte, tokens int64) ([]byte, bool) {
	if tokens <= 0 {
		return body, false
	}
	at, ok := limitOf(e)
	if !ok || e.Format == Interactions && !modelled(body) {
		return body, false
	}
	limit := strconv.FormatInt(tokens, 10)
	return at.set(body, limit, func(old []byte) bool {
		n, _, ok := scaled(old, 0)
		return ok && n >= 0 && n <= tokens
	})
}

// CanLimitOutput reports whether [LimitOutput] can.
func CanLimitOutput(e Endpoint, body []byte) bool {
	at, ok := limitOf(e)
	if !ok || e.Format == Interactions && !modelled(body) {
		return false
	}
	_, ok = at.edits(body, "0", func([]byte) bool { return true })
	return ok
}

// modelled reports whether an interaction is with a model: agents take no limit.
func modelled(body []byte) bool {
	f := new(form)
	s := makeScanner(formSchema, f, &f.room)
	s.write(body)
	return f.has("model")
}

// AskForUsage returns the body of a request for a stream of chat completions or completions such that the stream ends
// with the usage. No other byte changes. It returns false, and the body as it is, where the format has no such member, or
// the provider says its usage unasked or refuses to be asked.
func AskForUsage(e Endpoint, body []byte) ([]byte, bool) {
	switch {
	case e.Format != ChatCompletions && e.Format != Completions,
		e.Provider == Mistral, e.Provider == DeepSeek, e.Provider == Perplexity, e.before("2024-09"):
		return body, false
	}
	at := location{"stream_options", nil, []string{"include_usage"}}
	return at.set(body, "true", func(old []byte) bool { return string(old) == "true" })
}

// before reports whether Azure is asked for a version of its API from before a month.
func (e Endpoint) before(month string) bool { return e.dated != "" && e.dated < month }

// location is where a member of a request is: at the top, or in an object there.
type location struct {
	object string   // its name; empty: the top
	twins  []string // other names of it
	keys   []string // names of the member, of which the first is given to a new one
}

// limitOf returns where the limit of the output is.
func limitOf(e Endpoint) (location, bool) {
	top := func(keys ...string) (location, bool) { return location{keys: keys}, true }
	if d, ok := dialects[e.Format]; ok {
		return d.limit, e.Kind == Chat && len(d.limit.keys) > 0
	}
	switch e.Format {
	case ChatCompletions:
		switch {
		case e.Provider == OpenAIProvider, e.Provider == Groq, e.Provider == XAI, e.Provider == Cerebras,
			e.Provider == Azure && !e.before("2024-09"):
			return top("max_completion_tokens", "max_tokens") // reasoning models take no other
		}
		return top("max_tokens", "max_completion_tokens")
	case Anthropic:
		return top("max_tokens", "max_tokens_to_sample")
	case Completions:
		return top("max_tokens", "n_predict")
	case Cohere:
		return top("max_tokens")
	case LlamaCpp:
		return location{keys: []string{"n_predict", "max_tokens"}}, e.Kind == Chat
	case TextGeneration:
		return location{"parameters", nil, []string{"max_new_tokens"}}, e.Kind == Chat
	case Responses:
		return top("max_output_tokens")
	case Gemini:
		if e.Kind != Chat {
			return location{}, false
		}
		return location{"generationConfig", []string{"generation_config"}, []string{"maxOutputTokens", "max_output_tokens"}}, true
	case Interactions:
		return location{"generation_config", []string{"generationConfig"}, []string{"max_output_tokens", "maxOutputTokens"}}, true
	case Conversations:
		return location{"completion_args", nil, []string{"max_tokens"}}, true
	case AsyncChat:
		return location{"request", nil, []string{"max_tokens"}}, true
	case Ollama:
		return location{"options", nil, []string{"num_predict"}}, e.Kind == Chat
	case Converse:
		return location{"inferenceConfig", nil, []string{"maxTokens"}}, true
	case Invoke:
		m, ok := invoked(e.Model)
		return m.limit, ok && e.Kind == Chat
	}
	return location{}, false
}

// set gives a member a value, unless it has one that may stay. Where a name occurs more than once, each is set: which
// of them counts is the server's choice.
func (l location) set(body []byte, to string, stays func(old []byte) bool) ([]byte, bool) {
	edits, ok := l.edits(body, to, stays)
	return apply(body, edits), ok
}

// edits are what set does to a body.
func (l location) edits(body []byte, to string, stays func(old []byte) bool) (edits []edit, ok bool) {
	if !json.Valid(body) {
		return nil, false
	}
	start := skipSpace(body, 0)
	if body[start] != '{' {
		return nil, false
	}
	if l.object == "" {
		return l.inObject(body, start, to, stays), true
	}
	found := false
	for m := range members(body, start) {
		if string(m.key) != l.object && !among(l.twins, m.key) {
			continue
		}
		found = true
		switch body[m.from] {
		case '{':
			edits = append(edits, l.inObject(body, m.from, to, stays)...)
		case 'n': // null
			edits = append(edits, edit{m.from, m.to, "{" + pair(l.keys[0], to) + "}"})
		default:
			return nil, false
		}
	}
	if !found {
		edits = append(edits, insert(body, start, pair(l.object, "{"+pair(l.keys[0], to)+"}")))
	}
	return edits, true
}

func (l location) inObject(body []byte, start int, to string, stays func([]byte) bool) (edits []edit) {
	found := false
	for m := range members(body, start) {
		if !among(l.keys, m.key) {
			continue
		}
		found = true
		if !stays(body[m.from:m.to]) {
			edits = append(edits, edit{m.from, m.to, to})
		}
	}
	if !found {
		edits = append(edits, insert(body, start, pair(l.keys[0], to)))
	}
	return edits
}

func pair(key, value string) string { return `"` + key + `":` + value }

// insert puts a member at the beginning of an object.
func insert(body []byte, start int, member string) edit {
	if body[skipSpace(body, start+1)] != '}' {
		member += ","
	}
	return edit{start + 1, start + 1, member}
}

// An edit replaces a part of a body. Edits do not overlap, and come in order.
type edit struct {
	from, to int
	with     string
}

func apply(body []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return body
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out bytes.Buffer
	last := 0
	for _, e := range edits {
		out.Write(body[last:e.from])
		out.WriteString(e.with)
		last = e.to
	}
	out.Write(body[last:])
	return out.Bytes()
}

// member is a member of an object: its name without escapes, and where its value is.
type member struct {
	key      []byte
	from, to int
}

func among(names []string, key []byte) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name == string(key) })
}

// members walks the members of the object that begins at start, in a valid document.
func members(body []byte, start int) func(yield func(member) bool) {
	return func(yield func(member) bool) {
		i := skipSpace(body, start+1)
		for body[i] == '"' {
			end := skipValue(body, i)
			m := member{key: body[i+1 : end-1]}
			if bytes.IndexByte(m.key, '\\') >= 0 {
				var key string
				if json.Unmarshal(body[i:end], &key) != nil {
					return
				}
				m.key = []byte(key)
			}
			m.from = skipSpace(body, skipSpace(body, end)+1)
			m.to = skipValue(body, m.from)
			if !yield(m) {
				return
			}
			if i = skipSpace(body, m.to); body[i] == ',' {
				i = skipSpace(body, i+1)
			}
		}
	}
}

func skipSpace(body []byte, i int) int {
	for i < len(body) && strings.IndexByte(" \t\r\n", body[i]) >= 0 {
		i++
	}
	return i
}

// skipValue returns where a value ends, in a valid document.
func skipValue(body []byte, i int) int {
	for depth := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			for i++; body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of a number or literal that its container ends
			}
			depth--
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}
