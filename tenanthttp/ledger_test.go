package tenanthttp

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/report"
)

// ledger is a ledger that grants everything at once, and counts.
type ledger struct {
	asked   tenant.Estimate // the last
	settled atomic.Int64
	used    tenant.Usage // the last

	record   func() error                                     // says what becomes of what is recorded; nil: it is booked
	pending  atomic.Bool                                      // what becomes of it is Pending
	deferred func(context.Context) (tenant.Settlement, error) // what becomes of a deferred call; nil: there is none
	reported atomic.Int64
	defers   bool
}

func (l *ledger) Reserve(_ context.Context, _ tenant.Tenant, e tenant.Estimate, _ ...tenant.ReserveOption) (*tenant.Hold, error) {
	l.asked = e
	return &tenant.Hold{OutputTokens: e.OutputTokens, Tokens: e.InputTokens + e.OutputTokens}, nil
}

func (l *ledger) Settle(_ context.Context, _ *tenant.Hold, a tenant.Actual) (tenant.Settlement, error) {
	l.settled.Add(1)
	l.used = a.Usage
	return tenant.Settlement{Outcome: tenant.Settled}, nil
}

func (l *ledger) Release(context.Context, *tenant.Hold) (tenant.Settlement, error) {
	return tenant.Settlement{Outcome: tenant.Released}, nil
}

func (l *ledger) Record(context.Context, tenant.Tenant, tenant.Actual, ...tenant.RecordOption) (tenant.Settlement, error) {
	s := tenant.Settlement{Outcome: tenant.Settled}
	if l.pending.Load() {
		s.Outcome = tenant.Pending
	}
	if l.record != nil {
		return s, l.record()
	}
	return s, nil
}

func (l *ledger) Defer(context.Context, *tenant.Hold, string) error {
	if l.defers {
		return nil
	}
	return tenant.ErrNotDeferred
}

func (l *ledger) SettleDeferred(ctx context.Context, _ tenant.Tenant, _ string, _ tenant.Actual) (tenant.Settlement, error) {
	if l.deferred != nil {
		return l.deferred(ctx)
	}
	return tenant.Settlement{}, tenant.ErrNotDeferred
}

func (l *ledger) ReportCall(ctx context.Context, _ report.Call) context.Context { return ctx }

func (l *ledger) ReportHostError(context.Context, report.HostError) {}

func (l *ledger) ReportUnmetered(context.Context, report.Unmetered) { l.reported.Add(1) }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
