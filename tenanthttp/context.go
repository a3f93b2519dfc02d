package tenanthttp

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/callctx"
)

// A scope is what a context says about its calls, and what is known of the last of them. A nil scope says nothing.
type scope struct {
	options []tenant.ReserveOption
	around  *scope // that it was made from
	refused atomic.Pointer[refusal]

	mu      sync.Mutex
	settled *tenant.SettledEvent // the last
	pending map[string]bool      // the executions that are not on the books yet
}

func scopeOf(ctx context.Context) *scope {
	s, _ := callctx.ScopeOf(ctx).(*scope)
	return s
}

func (s *scope) calls() []tenant.ReserveOption {
	if s == nil {
		return nil
	}
	return s.options
}

// records returns a new slice of the options that mean something for a call that was made elsewhere and is booked here.
func (s *scope) records() (out []tenant.RecordOption) {
	for _, option := range s.calls() {
		if r, ok := option.(tenant.RecordOption); ok || option == nil { // a nil one is the ledger's to refuse
			out = append(out, r)
		}
	}
	return out
}

// refusal keeps the refusal of a call under the scope, and so under those around it. Nil forgets the one before: the last
// call was none, and an error of it with the same status is the provider's.
func (s *scope) refusal(r *refusal) {
	for ; s != nil; s = s.around {
		s.refused.Store(r)
	}
}

// Settled implements [callctx.Scope].
func (s *scope) Settled(event any) {
	e, _ := event.(*tenant.SettledEvent)
	for ; s != nil && e != nil; s = s.around {
		s.keep(e)
	}
}

// keep keeps what is known of the last call. A call that was pending and is booked is not the last for that, and one that is
// on the books is not pending any more.
func (s *scope) keep(e *tenant.SettledEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.settled != nil && s.settled.ExecutionID == e.ExecutionID
	switch {
	case e.Pending && same && !s.settled.Pending:
		return
	case e.Pending:
		if s.pending == nil {
			s.pending = map[string]bool{}
		}
		s.pending[e.ExecutionID] = true
	default:
		was := s.pending[e.ExecutionID]
		delete(s.pending, e.ExecutionID)
		if was && !same {
			return
		}
	}
	s.settled = e
}

// last returns what is known of the last call, nil where there was none.
func (s *scope) last() *tenant.SettledEvent {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled
}

// LastCall returns how the last call under ctx was settled, if ctx is of [ContextWithCall] or [Middleware], or derived from one
// that is: what it has used and cost, for a header, a metric or a log line. Calls of contexts that were made from ctx count
// too, and so do those of agents. A stream is settled when its end was read. A call that was made but is not on the books
// yet is Pending. It reports false where none was settled.
//
//	ctx = tenanthttp.ContextWithCall(ctx)
//	reply, err := sdk.Chat.Completions.New(ctx, params)
//	if call, ok := tenanthttp.LastCall(ctx); ok {
//		w.Header().Set("X-Charge-USD", call.Charge.String())
//	}
func LastCall(ctx context.Context) (tenant.SettledEvent, bool) {
	if e := scopeOf(ctx).last(); e != nil {
		return *e, true
	}
	return tenant.SettledEvent{}, false
}

// ContextWithCall returns a context whose calls have options, such as [tenant.WithAgent], [tenant.WithTag],
// [tenant.WithIdempotencyKey] and [tenant.WithWait]. They go before those of the context that it is made from. Every
// call under the context has them, so that one with an idempotency key is for one call: the SDK's own retries of a call
// that has failed may use its key again. The tenant is the context's ([tenant.ContextWithTenant]). A nil option is refused with
// [tenant.ErrInvalidOption] by each call under the context.
func ContextWithCall(ctx context.Context, options ...tenant.ReserveOption) context.Context {
	around := scopeOf(ctx)
	return callctx.WithScope(ctx, &scope{options: slices.Concat(around.calls(), options), around: around})
}

// Middleware makes an HTTP server's requests calls of a tenant: it puts what of returns into the request's context, from
// where [Transport] and [tenant.Agent] take it. A nil tenant is none. Where of returns an error, the request is answered
// with 403 and nothing of the error.
func Middleware(of func(*http.Request) (tenant.Tenant, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if of == nil {
				http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
				return
			}
			t, err := of(r)
			if err != nil {
				http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r.WithContext(ContextWithCall(tenant.ContextWithTenant(r.Context(), t))))
		})
	}
}
