package tenant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/llmtenant/tenant/internal/report"
)

// HostErrorEvent says that a call was refused for what is wrong with the program that makes it, and not with a budget: it
// has forgotten the tenant where one is required, or has given one that was not saved, not declared or has no id, or an
// option that is invalid. No customer can do anything about it. It is written to the ledger's logger as well,
// whatever the observer: at the level of errors, and the same again for debugging.
type HostErrorEvent struct {
	TenantID               string // empty where there is none, or none that can be
	Agent, Provider, Model string

	// Err is what the caller got: one that wraps [ErrTenantRequired], [ErrInvalidTenant], [ErrUnknownTenant],
	// [ErrIdentityConflict], [ErrHierarchy] or [ErrInvalidOption], or tenanthttp's ErrUnmetered.
	Err error
}

func (*HostErrorEvent) event() {}

// hostErrors are those that a program makes, and its customers do not.
var hostErrors = []error{ErrTenantRequired, ErrInvalidTenant, ErrUnknownTenant, ErrIdentityConflict, ErrHierarchy, ErrInvalidOption}

// reportedHostError tells of a call that package tenanthttp has refused. What [Ledger.Reserve] and [Agent.Call] refuse they
// tell themselves.
func (l *Ledger) reportedHostError(ctx context.Context, r report.HostError) {
	var o callOptions
	options, _ := r.Options.([]ReserveOption)
	_ = applyAll(&o, "Reserve", options) // what is wrong with them may be what the error says
	l.hostError(ctx, r.Tenant, HostErrorEvent{Agent: o.agent, Provider: r.Provider, Model: r.Model, Err: r.Err})
}

func (l *Ledger) hostError(ctx context.Context, t Tenant, e HostErrorEvent) {
	if who, err := l.identify(t); err == nil {
		e.TenantID = who.key
	}
	level := slog.LevelError
	if _, named := l.hostErrors.LoadOrStore(fmt.Sprint(hostErrorOf(e.Err)), true); named {
		level = slog.LevelDebug
	}
	l.options.log.Log(ctx, level, "tenant: a call was refused for an error of the program that makes it", "tenant", e.TenantID,
		"agent", e.Agent, "provider", e.Provider, "model", e.Model, "error", e.Err)
	l.observe(ctx, &e)
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

// notAdmitted tells of a call that was not admitted, where that is the program's error, and returns the error.
func (l *Ledger) notAdmitted(ctx context.Context, t Tenant, e HostErrorEvent) error {
	if hostErrorOf(e.Err) != nil {
		l.hostError(ctx, t, e)
	}
	return e.Err
}
