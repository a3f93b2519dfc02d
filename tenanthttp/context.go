package tenanthttp

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/llmtenant/tenant"
)

type scopeKey struct{}

// A scope is what a context says about its calls.
type scope struct {
	options []tenant.CallOption
	last    *atomic.Pointer[refusal] // shared with the scopes around it
}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

// WithCall returns a context whose calls have options, such as [tenant.WithAgent], [tenant.WithTag],
// [tenant.WithIdempotencyKey] and [tenant.WithWait]. They go before those of the context that it is made from. Every
// call under the context has them, so that one with an idempotency key is for one call: the SDK's own retries of a call
// that has failed may use its key again. The tenant is the context's ([tenant.NewContext]): a call with
// [tenant.WithTenant] is refused. Options that shape a request, such as [tenant.WithMaxTokens], say nothing here: the
// request has its shape.
func WithCall(ctx context.Context, options ...tenant.CallOption) context.Context {
	s := scopeOf(ctx)
	s.options = slices.Concat(s.options, options)
	if s.last == nil {
		s.last = new(atomic.Pointer[refusal])
	}
	return context.WithValue(ctx, scopeKey{}, s)
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
			next.ServeHTTP(w, r.WithContext(WithCall(tenant.NewContext(r.Context(), t))))
		})
	}
}
