package failsafe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/llmtenant/tenant"
)

// Policy is a policy of failsafe-go for the attempts of calls.
type Policy = failsafe.Policy[*tenant.Reply]

// Around returns a middleware for [tenant.Use] that makes the attempts of calls under policies, the first of them outermost. They
// are of all calls of the agent together, as far as a policy remembers anything, such as a circuit breaker.
//
// A reply that came is handed out, also where a time-out has passed before its policy has seen it: it was paid for.
func Around(policies ...Policy) tenant.Middleware {
	if slices.Contains(policies, nil) || len(policies) == 0 {
		return nil // which Use refuses
	}
	executor := failsafe.With(policies...)
	return func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			var (
				mu   sync.Mutex // a hedge makes several attempts at once
				paid *tenant.Reply
			)
			reply, err := executor.WithContext(ctx).GetWithExecution(func(e failsafe.Execution[*tenant.Reply]) (*tenant.Reply, error) {
				mu.Lock()
				came := paid
				mu.Unlock()
				if came != nil { // and the policies have not seen it
					return came, nil
				}
				reply, err := next(e.Context(), call)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					paid = reply
				}
				return reply, err
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil && paid != nil {
				return paid, nil
			}
			return reply, err
		}
	}
}

// What [Retry] waits for between two attempts, where the provider does not say it.
const (
	firstDelay = 500 * time.Millisecond
	mostDelay  = 30 * time.Second
	jitter     = 0.1
)

// Retry returns the builder of a policy that tries again what is worth it: what [tenant.CallError.Retryable] says, and an attempt
// that a time-out has ended; never a refusal of the budgets. It makes 2 more attempts after the first, after half a second and
// twice as long each time, up to 30 seconds; where the provider asks to wait, that long, up to [MostAsked], and where it asks to wait
// longer, no more. Its error is the last attempt's. All of that is for the caller to change before Build.
func Retry() retrypolicy.Builder[*tenant.Reply] {
	return retrypolicy.NewBuilder[*tenant.Reply]().
		HandleIf(func(_ *tenant.Reply, err error) bool { return retryable(err) }).
		WithMaxRetries(2).
		WithBackoff(firstDelay, mostDelay).
		WithJitterFactor(jitter).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[*tenant.Reply]) time.Duration {
			if asked := asked(e.LastError()); asked > 0 {
				return asked + asked/8 // from which the jitter takes less than that
			}
			return -1 // which is the backoff
		}).
		ReturnLastFailure()
}

// MostAsked is how long [Retry] waits where a provider asks for it. A model of [tenant.WithFallback] comes first otherwise.
const MostAsked = time.Minute

func retryable(err error) bool {
	if errors.Is(err, timeout.ErrExceeded) {
		return true
	}
	var failed *tenant.CallError
	return errors.As(err, &failed) && failed.Retryable() && failed.RetryAfter() <= MostAsked
}

func asked(err error) time.Duration {
	var failed *tenant.CallError
	if errors.As(err, &failed) {
		return failed.RetryAfter()
	}
	return 0
}

// Failed reports whether a model has failed: for the HandleIf of a circuit breaker, which is not to open because a tenant has used
// up its budget.
func Failed(_ *tenant.Reply, err error) bool {
	var failed *tenant.CallError
	return errors.As(err, &failed) || errors.Is(err, timeout.ErrExceeded)
}
