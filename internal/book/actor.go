package book

import "context"

type contextKey int

const (
	actorKey contextKey = iota
	reasonKey
)

// WithActor returns a context that says who acts.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey, actor)
}

// Actor returns who acts; empty where nobody said.
func Actor(ctx context.Context) string { return value(ctx, actorKey) }

// WithReason returns a context that says why something is changed.
func WithReason(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, reasonKey, reason)
}

// Reason returns why something is changed; empty where nobody said.
func Reason(ctx context.Context) string { return value(ctx, reasonKey) }

func value(ctx context.Context, key contextKey) string {
	s, _ := ctx.Value(key).(string)
	return s
}
