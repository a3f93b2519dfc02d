package tenant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// HostErrorEvent says that a call was refused for what is wrong with the program that makes it, and not with a budget: it
// has forgotten the tenant where one is required, or has given one that was not saved, not declared or has no id, or an
// option that cannot be meant. No customer can do anything about it. It is written to the ledger's logger as well,
// whatever the observer: at the level of errors, and the same again for debugging.
type HostErrorEvent struct {
	TenantID               string // empty where there is none, or none that can be
	Agent, Provider, Model string

	// Err is what the caller got: one that wraps [ErrTenantRequired], [ErrInvalidTenant], [ErrUnknownTenant],
	// [ErrIdentityConflict], [ErrHierarchy], [ErrInvalidOption], or an error of whoever has called [Ledger.HostError].
	Err error
}

func (*HostErrorEvent) event() {}

// hostErrors are those that a program makes, and its customers do not.
var hostErrors = []error{ErrTenantRequired, ErrInvalidTenant, ErrUnknownTenant, ErrIdentityConflict, ErrHierarchy, ErrInvalidOption}

// HostError tells the log and the observer of a call that was refused for what is wrong with the program, as a
// [*HostErrorEvent]. It is for whoever stands between a program and its providers, as package tenanthttp does; what
// [Ledger.Reserve] and [Agent.Call] refuse they tell themselves. Of the options, [WithAgent] is looked at.
func (l *Ledger) HostError(ctx context.Context, t Tenant, provider, model string, err error, options ...CallOption) {
	o := newCallOptions()
	_ = o.apply(options) // what is wrong with them may be what err says
	e := &HostErrorEvent{Agent: o.agent, Provider: provider, Model: model, Err: err}
	if who, err := l.identify(t); err == nil {
		e.TenantID = who.key
	}
	l.hostError(ctx, e)
}

func (l *Ledger) hostError(ctx context.Context, e *HostErrorEvent) {
	level := slog.LevelError
	if _, named := l.hostErrors.LoadOrStore(fmt.Sprint(hostErrorOf(e.Err)), true); named {
		level = slog.LevelDebug
	}
	l.options.log.Log(ctx, level, "tenant: a call was refused for an error of the program that makes it", "tenant", e.TenantID,
		"agent", e.Agent, "provider", e.Provider, "model", e.Model, "error", e.Err)
	l.observe(ctx, e)
}

// hostErrorOf returns which of the errors that a program makes an error is; nil for none.
func hostErrorOf(err error) error {
	for _, known := range hostErrors {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

// notAdmitted tells of an error with which a call was not admitted, where it is the program's, and returns it.
func (l *Ledger) notAdmitted(ctx context.Context, t Tenant, provider, model string, err error, options ...CallOption) error {
	if hostErrorOf(err) != nil {
		l.HostError(ctx, t, provider, model, err, options...)
	}
	return err
}
