package harness

import (
	"net/http"

	"github.com/llmtenant/tenant"
)

const (
	// Model is the model that every SDK asks for. It is the only one that has a price.
	Model = "test-model"

	// Billed is the model that a reply names, where its format has a place for that.
	Billed = "test-model-2026-01-01"

	// Question is what every SDK asks, where a case does not say otherwise.
	Question = "Tell me a story."
)

// The tool that SDKs offer in the case of a tool call: it takes an object with a string named city.
const (
	ToolName        = "get_weather"
	ToolDescription = "The weather of a city"
	ToolParameter   = "city"

	// ToolArguments are what the model calls it with, and ToolResult is what it returns.
	ToolArguments = `{"city":"Paris"}`
	ToolResult    = "Sunny, 21 degrees."
)

// A Wire is the format in which a provider's SDK and its server talk: a fake of the provider, which knows nothing of
// tokens and texts but what it is told. Its bodies are of our own writing, and have what a real reply has as far as SDKs
// look at it. Methods are given the request that they answer, since some formats say there what the reply is to have; it
// is the one that the server got, which the transport may have changed.
//
// Usage is given in the classes that the library has. A format states those that it has a place for, in its own way (most
// count cached tokens in the input), and leaves the others out.
type Wire interface {
	// Streams reports whether a request asks for a stream.
	Streams(r *Request) bool

	// Reply is a whole reply with a text. It has one part.
	Reply(r *Request, text string, u tenant.Usage) Reply

	// Stream is a streamed reply, whose text comes in pieces: a part for each, and parts without a text for what the format
	// puts before, between and after them.
	Stream(r *Request, pieces []string, u tenant.Usage) Reply

	// ToolCall is a whole reply in which the model calls the tool [ToolName] with [ToolArguments], and says nothing.
	ToolCall(r *Request, u tenant.Usage) Reply

	// Error is a reply with status 429 or 500, in the form of the provider's errors. It asks for the shortest wait before
	// another try that its headers can say.
	Error(status int) Reply
}

// A Request is what the server has got.
type Request struct {
	Method, Host, Path string
	Header             http.Header
	Body               []byte
}

// A Reply is what the server says.
type Reply struct {
	Status int // 200 where it is zero
	Header http.Header
	Parts  []Part
	Abort  bool // the connection breaks after them

	// Model is the model that it names, empty where the format names none. Usage is what it states, all in all: what the
	// wire was given, less what the format has no place for.
	Model string
	Usage tenant.Usage
}

// A Part is what is sent at once. The server sends the next one when the caller has seen this one's text.
type Part struct {
	Data string
	Text string // that the SDK's caller gets of it

	// Stated is the usage that the reply has stated up to here, this part included: what a reply that is cut short here
	// leaves behind. Zero is nothing.
	Stated tenant.Usage

	// Asked says that the part is there for its usage alone, and because the request has asked for it. An SDK that has not
	// does not get it.
	Asked bool
}

// whole is a reply in one part, as JSON.
func whole(body string) Reply {
	return Reply{Header: http.Header{"Content-Type": {"application/json"}}, Parts: []Part{{Data: body}}}
}
