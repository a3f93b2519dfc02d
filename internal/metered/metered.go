// Package metered marks contexts: of calls that are on the books already, so that nobody below books them again; of calls
// of which somebody wants to hear how they were settled; and of requests that nobody books, with what they are for.
package metered

import "context"

type (
	key      struct{}
	service  struct{}
	scopeKey struct{}
)

// A Scope hears how the calls under a context were settled.
type Scope interface {
	// Settled is given a *tenant.SettledEvent, by several goroutines at once. It returns soon.
	Settled(event any)
}

// WithScope returns a context whose calls a scope hears of.
func WithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// ScopeOf returns the scope that hears of the calls of a context; nil for none.
func ScopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}

// Context returns a context whose calls are metered by the caller.
func Context(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is reports whether the calls of a context are metered above.
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }

// As returns a context that says what a request is for which nobody meters.
func As(ctx context.Context, what string) context.Context {
	return context.WithValue(ctx, service{}, what)
}

// Service returns what As was given, or an empty string.
func Service(ctx context.Context) string {
	what, _ := ctx.Value(service{}).(string)
	return what
}
