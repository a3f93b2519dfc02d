// Package metered marks contexts: of calls that are on the books already, so that nobody below books them again, and of
// requests that nobody books, with what they are for.
package metered

import "context"

type (
	key     struct{}
	service struct{}
)

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
