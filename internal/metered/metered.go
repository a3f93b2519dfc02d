// Package metered marks contexts of calls that are on the books already, so that nobody below books them again.
package metered

import "context"

type key struct{}

// Context returns a context whose calls are metered by the caller.
func Context(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is reports whether the calls of a context are metered above.
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }
