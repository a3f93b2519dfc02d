package tenant

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// Chunk is a piece of a reply that comes in pieces.
type Chunk struct {
	// Text is what has come since the chunk before.
	Text string

	// Reply is the whole reply, with what it was charged, in the last chunk, which has no Text; nil in all others, and with an
	// error of a call that brought nothing.
	Reply *Reply
}

// Stream makes one call, as [Agent.Call] does, and hands out the text while it comes. Each loop over what it returns is a
// call of its own:
//
//	for chunk, err := range agent.Stream(ctx, "Hello", tenant.WithTenant(org)) {
//		if err != nil {
//			return err
//		}
//		fmt.Fprint(w, chunk.Text)
//		if chunk.Reply != nil {
//			log.Println("cost", chunk.Reply.Cost)
//		}
//	}
//
// The call is on the books when the last chunk comes, and when the loop is over, however it ends: with the text, with an
// error, by a break or a return, by the end of ctx, or by a panic in its body. A stream that does not reach its end is
// charged what the provider has stated by then; otherwise the input that is likely and the text that came, marked
// Estimated; all that it held, where nothing came and nobody knows. Package tenanthttp's LastCall says what a call cost whose loop
// was left.
//
// Once a part of the text was handed out no further attempt is made. A [Model] that is no [Streamer], and a reply that a
// [Middleware] has kept, come as one chunk.
//
// Errors: those of [Agent.Call]. An error is the last that comes.
func (a *Agent) Stream(ctx context.Context, prompt string, options ...CallOption) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		call, err := a.begin(ctx, "Stream", prompt, options)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		call.Streamed = true
		s := &sink{texts: make(chan string), left: make(chan struct{})}
		call.made.sink = s
		ctx, cancel := context.WithCancel(ctx)
		end := make(chan streamed, 1)
		go func() {
			e := streamed{err: errEnded}
			defer func() {
				e.panicked = recover()
				end <- e
			}()
			e.reply, e.err = call.made.run(ctx, call)
		}()
		s.handOut(cancel, end, yield)
	}
}

var errEnded = errors.New("tenant: the model has ended its goroutine")

// streamed is how the goroutine of a stream ended.
type streamed struct {
	reply    *Reply
	err      error
	panicked any
}

// handOut is the loop of a stream. The goroutine of the call has ended when it returns, whatever the loop's body does.
func (s *sink) handOut(cancel context.CancelFunc, end <-chan streamed, yield func(Chunk, error) bool) {
	over := false
	defer func() {
		close(s.left)
		cancel()
		if !over {
			<-end
		}
	}()
	for {
		select {
		case text := <-s.texts:
			if !yield(Chunk{Text: text}, nil) {
				return
			}
		case e := <-end:
			over = true
			switch {
			case e.panicked != nil:
				panic(e.panicked) //nolint:forbidigo // the model's panic is its caller's, who is in this goroutine
			case e.reply != nil && e.err == nil && e.reply.Text != "" && !s.begun() && !yield(Chunk{Text: e.reply.Text}, nil):
			default:
				yield(Chunk{Reply: e.reply}, e.err)
			}
			return
		}
	}
}

// sink takes the text of a stream to the loop of its caller. It takes that of one attempt: the first that has any.
type sink struct {
	texts chan string
	left  chan struct{} // closed when the loop is over

	mu    sync.Mutex
	owner *attempt
}

// put hands out a piece of text, and reports whether more is wanted.
func (s *sink) put(by *attempt, text string) bool {
	s.mu.Lock()
	if s.owner == nil {
		s.owner = by
	}
	other := s.owner != by
	s.mu.Unlock()
	if other {
		return false
	}
	select {
	case s.texts <- text:
		return true
	case <-s.left:
		return false
	}
}

// begun reports whether any text was handed out.
func (s *sink) begun() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner != nil
}

// over reports whether the loop is.
func (s *sink) over() bool {
	select {
	case <-s.left:
		return true
	default:
		return false
	}
}
