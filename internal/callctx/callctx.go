// Package callctx is what a context says of the calls that are made under it: all keys of this module are here.
package callctx

import (
	"context"
	"time"
)

type key int

const (
	tenantKey key = iota
	actorKey
	reasonKey
	meteredKey
	scopeKey
	exchangeKey
)

// WithTenant returns a context whose calls are made for a tenant. T is the interface of tenants, which this package cannot
// name; a nil one takes an outer one away.
func WithTenant[T any](ctx context.Context, t T) context.Context {
	return context.WithValue(ctx, tenantKey, &t)
}

// Tenant returns what [WithTenant] put into a context.
func Tenant[T any](ctx context.Context) (t T, ok bool) {
	p, _ := ctx.Value(tenantKey).(*T)
	if p == nil {
		return t, false
	}
	return *p, true
}

// WithActor returns a context that says who acts.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey, actor)
}

// Actor returns who acts; empty where nobody said.
func Actor(ctx context.Context) string { return text(ctx, actorKey) }

// WithReason returns a context that says why something is changed.
func WithReason(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, reasonKey, reason)
}

// Reason returns why something is changed; empty where nobody said.
func Reason(ctx context.Context) string { return text(ctx, reasonKey) }

// WithMetered returns a context whose calls are on the books already, so that nobody below books them again.
func WithMetered(ctx context.Context) context.Context {
	return context.WithValue(ctx, meteredKey, true)
}

// Metered reports whether the calls of a context are on the books already.
func Metered(ctx context.Context) bool { return ctx.Value(meteredKey) != nil }

// A Scope hears how the calls under a context were settled.
type Scope interface {
	// Settled is given a *tenant.SettledEvent, by several goroutines at once. It returns soon.
	Settled(event any)
}

// WithScope returns a context whose calls a scope hears of.
func WithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey, s)
}

// ScopeOf returns the scope that hears of the calls of a context; nil for none.
func ScopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey).(Scope)
	return s
}

// WithExchange returns a context whose calls are watched. X is the type of who watches, which this package cannot name.
func WithExchange[X any](ctx context.Context, x *X) context.Context {
	return context.WithValue(ctx, exchangeKey, x)
}

// Exchange returns who watches the calls of a context; nil for nobody.
func Exchange[X any](ctx context.Context) *X {
	x, _ := ctx.Value(exchangeKey).(*X)
	return x
}

// Detach returns a context with the values of another one that does not end with it. It is what context.WithoutCancel is, of which each
// look-up of a value allocates.
func Detach(ctx context.Context) context.Context { return &detached{ctx} }

type detached struct{ context.Context } //nolint:containedctx // it is one

func (*detached) Deadline() (none time.Time, ok bool) { return none, false }
func (*detached) Done() <-chan struct{}               { return nil }
func (*detached) Err() error                          { return nil }

func text(ctx context.Context, k key) string {
	s, _ := ctx.Value(k).(string)
	return s
}
