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

	// LetsGo says when the SDK lets go of a stream that its caller gives up by other means than the context.
	LetsGo LetsGo

	// Notes are sentences for the documentation: what an SDK's user has to know of it. A note that begins with the name of
	// a case and a colon stands at that case.
	Notes []string
}

// LetsGo is when an SDK lets go of a reply, so that the provider sees that its reader has gone.
type LetsGo int

// The times.
const (
	AtOnce LetsGo = iota
	WithTheNextChunk
	WithTheContext
)

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
	Gateways  Case = "gateways"
)

var cases = []struct {
	name Case
	run  func(*bench)
}{
	{Plain, plain}, {Streamed, streamed}, {ToolCall, toolCall}, {Cancelled, cancelled}, {Refused, refused}, {Failed, failed}, {Tenants, tenants},
	{Gateways, throughGateways},
}

// RunAll runs all cases with all SDKs of a module, and checks that the documentation says what has come out.
func RunAll(t *testing.T, sdks []*SDK) {
	var r results
	t.Run("over the transport", func(t *testing.T) { // returns when all that is parallel in it has ended
		for _, sdk := range sdks {
			t.Run(sdk.Name, func(t *testing.T) {
				t.Parallel()
				run(t, sdk, &r)
			})
		}
	})
	r.document(t, sdks)
}

// run runs all cases with an SDK, one after the other, so that each finds books on which nothing is held.
func run(t *testing.T, sdk *SDK, r *results) {
	b := newBench(t, sdk)
	for _, c := range cases {
		t.Run(string(c.name), func(t *testing.T) {
			b.T = t
			c.run(b)
			b.nothingIsLeft()
			r.passed(sdk.Name, c.name)
		})
	}
}
