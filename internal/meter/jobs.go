package meter

import "maps"

// A job is a call whose reply names it, and whose usage comes with a later request for its result. This file knows those
// that are no background responses of OpenAI's: which paths make them and read them, and what names them.

// later recognises what is posted to make a job, or a call of the same API that is none.
func (e *Endpoint) later(p path) bool {
	last, before := p.back(0), p.back(1)
	e.Kind = Chat
	switch {
	case last == "interactions" && (e.Provider == "" || e.Provider == Google || e.Provider == Vertex):
		e.Format = Interactions
	case last == "cancel" && p.back(2) == "interactions":
		e.Format, e.Retrieval, e.Job = Interactions, true, before
	case last == "completions" && before == "chat" && p.back(2) == "async" && e.Provider == ZAI: // without an envelope
		e.Format = ChatCompletions
	case last == "completions" && before == "chat" && p.back(2) == "async", last == "sonar" && before == "async":
		e.Format = AsyncChat
	case last == "agent" && e.Provider == Perplexity:
		e.Format = Responses
	case last == "sonar" && (e.Provider == Perplexity || before == "v1"):
		e.Format = ChatCompletions
	case p.conversation(e.Provider):
		e.Format = Conversations
		if last != "conversations" { // what was said before is stored
			e.Job = p.after("conversations")
		}
	default:
		return false
	}
	return true
}

// conversation reports whether a path is one of Mistral's conversations, where a post is a call. At OpenAI it makes a
// conversation, or puts items into one, and costs nothing.
func (p path) conversation(provider string) bool {
	if provider != Mistral && provider != "" {
		return false
	}
	last, before := p.back(0), p.back(1)
	return last == "conversations" || before == "conversations" || p.back(2) == "conversations" && last == "restart"
}

// job recognises the request for a job's result.
func (e *Endpoint) job(p path) bool {
	last, before := p.back(0), p.back(1)
	switch {
	case before == "interactions" && (p.google(e.Provider) || e.Provider == Vertex || e.Provider == "" && p.has("v1")):
		e.Format = Interactions
	case before == "agent" && e.Provider == Perplexity:
		e.Format = Responses
	case before == "deferred-completion", before == "async-result" && e.Provider == ZAI:
		e.Format = ChatCompletions
	case before == "completions" && p.back(2) == "chat" && p.back(3) == "async", before == "sonar" && p.back(2) == "async":
		e.Format = AsyncChat
	default:
		return false
	}
	e.Kind, e.Retrieval, e.Job = Chat, true, last
	return true
}

// What the values around the reply of a job mean.
const (
	jobID field = 160 + iota
	jobModel
	jobStatus
	jobError
)

// asyncChat reads Perplexity's asynchronous chat completions: the job, with the chat completion in it once it is there.
// Shapes: perplexity-py, types/async_/chat (June 2026).
type asyncChat struct {
	*openAI
	id, asked string
	waits     bool
	broken    bool
}

var asyncChatSchema = replyAt(openAISchema, "response", []rule{
	{"id", jobID, keep}, {"model", jobModel, keep}, {"status", jobStatus, keep}, {"error_message", jobError, keep}, {"error", fieldError, keep},
})

// askedAsyncChat is what a request says, which is a chat completion's in an envelope.
var askedAsyncChat = schema(under("request", concat(askedOpenAI(), each(askMax, keep, "max_tokens", "max_completion_tokens"))))

func newAsyncChat(e Endpoint) *asyncChat { return &asyncChat{openAI: newOpenAI(e)} }

func (a *asyncChat) schema() *node { return asyncChatSchema }

func (a *asyncChat) scalar(f field, v value) {
	switch f {
	case jobID:
		a.id = intern(a.id, v)
	case jobModel:
		a.asked = intern(a.asked, v)
	case jobStatus:
		a.waits = !v.is("COMPLETED") && !v.is("FAILED")
		a.broken = a.broken || v.is("FAILED")
	case jobError:
		a.broken = a.broken || len(v.text) > 0
	default:
		a.openAI.scalar(f, v)
	}
}

func (a *asyncChat) result(to *Result) {
	if a.model == "" {
		a.model = a.asked
	}
	a.failed = a.failed || a.broken
	a.openAI.result(to)
	if a.id != "" {
		to.ID = a.id
	}
	to.Pending = a.waits && !to.Found && !to.Failed
}

// deferredChat reads chat completions, and what xAI and Z.ai reply in the place of one that they defer: the name of the request
// alone, and with Z.ai a task_status. Others state a request_id beside the reply. Pages: Deferred chat completions (xAI docs),
// Chat completion (async), Query async result (Z.ai docs).
type deferredChat struct {
	*openAI
	id    string
	waits bool
}

var deferredChatSchema = func() *node {
	root := *openAISchema
	root.members = maps.Clone(root.members)
	root.at("request_id").field = jobID
	root.at("task_status").field = jobStatus
	return &root
}()

func (d *deferredChat) schema() *node { return deferredChatSchema }

func (d *deferredChat) scalar(f field, v value) {
	switch f {
	case jobID:
		d.id = intern(d.id, v)
	case jobStatus:
		d.waits = v.is("PROCESSING")
		d.failed = d.failed || v.is("FAIL")
	default:
		d.openAI.scalar(f, v)
	}
}

func (d *deferredChat) result(to *Result) {
	d.openAI.result(to)
	if d.id != "" && to.ID == "" && to.Complete && !to.Found && !d.failed && to.OutputChars == 0 && len(to.FinishReasons) == 0 {
		to.ID, to.Pending = d.id, true
	}
	to.Pending = to.Pending || d.waits && to.ID != "" && !to.Found && !to.Failed
}
