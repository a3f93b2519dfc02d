// Package harness runs SDKs over the transport of package tenanthttp, and checks what is on the books afterwards.
package harness

import (
	"context"
	"net/http"
	"testing"
)

// An SDK is one API of one SDK.
type SDK struct {
	Name   string // as the documentation calls it
	Module string // the path of its module, whose version goes into the documentation
	File   string // of the package of tests, that has it

	// New makes a client of the SDK's over an HTTP client and a server's base URL. The lines in it that follow the comment
	//
	//	// The transport under the SDK:
	//
	// up to an empty line go into the documentation.
	New func(t testing.TB, client *http.Client, url string) Calls

	Wire Wire

	// Check says what is wrong with a request that the server has got, such as its signature. Nil checks nothing.
	Check func(*Request) error

	// Retries is how often the SDK tries a call again by itself when the provider says 429 or 500.
	Retries int

	// HidesCancel says that a stream whose context has ended may look like a complete one to the SDK's caller.
	HidesCancel bool

	// ClosesLate says that the SDK, when its caller closes a stream, lets go of the reply only when it gets more of it.
	ClosesLate bool

	// Notes are sentences for the documentation: what an SDK's user has to know of it. A note that begins with the name of
	// a case and a colon stands at that case.
	Notes []string
}

// Calls is what a case does with an SDK. All of it goes through one client of the SDK's, from many goroutines at once.
type Calls struct {
	// Plain asks and returns the text of the reply.
	Plain func(ctx context.Context, prompt string) (string, error)

	// Stream asks for a stream and hands over each piece of the text as it comes. Where each returns an error, it gives the
	// stream up in the way that the SDK has for that, and returns the error. It fails where the SDK shows it anything that
	// a caller who did not ask for the usage does not expect, such as a chunk without choices.
	Stream func(ctx context.Context, prompt string, each func(piece string) error) error

	// Tool asks with the tool on offer ([ToolName]), has run make the call that the model wants, gives the result back, and
	// returns the text of the reply to that: two requests.
	Tool func(ctx context.Context, prompt string, run func(name, arguments string) (result string)) (string, error)

	// Status returns the status in an error of the SDK's own type, by which its users tell errors apart, and zero for any
	// other error.
	Status func(err error) int
}

// A Case is one thing that an SDK is to do.
type Case string

// The cases, in the order of the documentation.
const (
	Plain     Case = "plain"
	Streamed  Case = "streamed"
	ToolCall  Case = "tool call"
	Cancelled Case = "cancelled"
	Refused   Case = "refused"
	Failed    Case = "429 and 500"
	Tenants   Case = "two tenants"
)

var cases = []struct {
	name Case
	run  func(*bench)
}{
	{Plain, plain}, {Streamed, streamed}, {ToolCall, toolCall}, {Cancelled, cancelled}, {Refused, refused}, {Failed, failed}, {Tenants, tenants},
}

// Run runs all cases with an SDK, and keeps what has come out. It is to be called in a subtest of the SDK's own.
func Run(t *testing.T, sdk *SDK, results *Results) {
	b := newBench(t, sdk)
	for _, c := range cases {
		t.Run(string(c.name), func(t *testing.T) {
			b.T = t
			c.run(b)
			b.nothingIsLeft()
			results.passed(sdk.Name, c.name)
		})
	}
}
