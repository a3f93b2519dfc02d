package tenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/text"
)

// RepriceOption is an option of [Ledger.Reprice].
type RepriceOption func(*repricing) error

// WithDryRun has Reprice report what it would correct, and write nothing. Defaults to off.
func WithDryRun() RepriceOption {
	return func(r *repricing) error {
		r.dry = true
		return nil
	}
}

// OnlyTenants has Reprice look at the own calls of these tenants alone, whatever they were called when they made them. A nil
// Tenant stands for the calls without a tenant. Defaults to all calls.
func OnlyTenants(tenants ...Tenant) RepriceOption {
	return func(r *repricing) error {
		if len(tenants) == 0 {
			return fmt.Errorf("OnlyTenants: there is none")
		}
		r.only = append(r.only, tenants...)
		return nil
	}
}

// OnlyModels has Reprice look at the calls alone that asked for one of these models or were billed as one, by the names that
// executions have them by. Defaults to all models.
func OnlyModels(models ...string) RepriceOption {
	return func(r *repricing) error {
		if len(models) == 0 || slices.Contains(models, "") {
			return fmt.Errorf("OnlyModels: %q is not a list of names of models", models)
		}
		r.models = append(r.models, models...)
		return nil
	}
}

// RepriceReport is what a [Ledger.Reprice] has found and done.
type RepriceReport struct {
	RepriceTotals // of all calls that were looked at

	// Pruned are the calls of that time that were pruned (see [Ledger.Prune]), or whose tenant was erased: they are left as they
	// are, and count nowhere else.
	Pruned int64

	// Lines are the same by tenant and model, where something is to correct or has no price, in the order of their names.
	Lines []RepriceLine
}

// RepriceLine is the calls of one tenant to one model.
type RepriceLine struct {
	TenantID        string // as it was at the calls; empty for those without a tenant
	Provider, Model string // as billed, else as asked for
	RepriceTotals
}

// RepriceTotals are sums over calls.
type RepriceTotals struct {
	// Calls are those that the price book has a price for, and Corrected those of them for which it comes to another cost
	// or charge than the books: they have been corrected, or would be without [WithDryRun].
	Calls, Corrected int64

	// Unpriced are the calls without a price, or without one for all that they used, or with one by which the call would cost more than a million dollars. They
	// are left as they are, and count nowhere else.
	Unpriced int64

	// Booked is what the calls cost by the books before, with earlier corrections, and Right what they cost by the price
	// book, in US dollars; BookedCharge and RightCharge are what their tenants are charged for them.
	Booked, Right             decimal.Decimal
	BookedCharge, RightCharge decimal.Decimal
}

// Difference is what is corrected of the cost: positive where too little was booked.
func (t RepriceTotals) Difference() decimal.Decimal { return t.Right.Sub(t.Booked) }

// ChargeDifference is what is corrected of the charge: positive where too little was charged.
func (t RepriceTotals) ChargeDifference() decimal.Decimal { return t.RightCharge.Sub(t.BookedCharge) }

// Reprice books what the calls that were admitted from one time on and before another cost, or were charged, too much or too
// little by the price book as it is now: after a wrong price was in it, or none, or one was changed with effect from a day that is past.
// It changes no call. What a call is off by is an adjustment of its own: an execution with the status "adjusted", and the
// call's tenant, agent, model, tags and time, which names the call in Corrects. So it counts wherever the call counts: for
// its day in every question, in those of its windows that are still open, and for all who stood above its tenant. A
// window that has ended keeps its balance.
//
// A call is charged anew as it was charged when it was settled: by its own usage, its service tier, what the provider
// stated where the book charges that, the terms of the id that its tenant has now, and the price in force at that time, by
// the database's clock. The book has to know what held then: of terms and of rows without a date, it is assumed that they
// held at all times. Use [OnlyTenants] and [OnlyModels] where that is not so, and [WithDryRun] to see first. The reason of
// ctx ([ContextWithReason]) and its actor are kept with the corrections.
//
// Calls whose cost or charge the caller named are left alone, and so are other adjustments, abandoned calls whose usage nobody knows,
// and running ones, which are yet to be charged.
//
// It can run while calls go on, again, and in several processes at once: what is corrected already is part of what is
// booked, and no correction is booked twice. It reads some hundreds of calls at a time, of one tenant after the other, and
// hands the corrections to the path on which calls are booked. It returns what was done so far also with an error, after
// which it can be run again. A correction is never [Pending]: where the books cannot be reached, whoever reprices is told.
//
// Errors: [ErrInvalidOption], also for a ledger without prices and for a tenant that does not exist; [ErrInvalidTenant];
// [ErrUnavailable]; [ErrNotMigrated]; [ErrClosed]; and ctx's own.
func (l *Ledger) Reprice(ctx context.Context, from, to time.Time, options ...RepriceOption) (RepriceReport, error) {
	r, err := l.repricing(ctx, from, to, options)
	if err != nil {
		return RepriceReport{}, err
	}
	err = r.run(ctx)
	slices.SortFunc(r.report.Lines, func(a, b RepriceLine) int {
		return cmp.Or(cmp.Compare(a.TenantID, b.TenantID), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return r.report, err
}

func (l *Ledger) repricing(ctx context.Context, from, to time.Time, options []RepriceOption) (*repricing, error) {
	r := &repricing{
		Ledger: l, books: books.Books{Dialect: l.dialect, Conn: l.pool},
		span:  books.Range{From: books.Admission(from), To: books.Admission(to)},
		actor: callctx.Actor(ctx), reason: cmp.Or(callctx.Reason(ctx), "price correction"),
	}
	for _, f := range []struct{ what, value string }{{"actor in ContextWithActor", r.actor}, {"reason in ContextWithReason", r.reason}} {
		if err := text.Valid(ErrInvalidOption, f.what, f.value, false); err != nil {
			return nil, err
		}
	}
	var err error
	switch {
	case l.options.prices == nil:
		err = fmt.Errorf("the ledger was opened without prices; see WithPrices")
	case !from.Before(to):
		err = fmt.Errorf("%s is not before %s", from.Format(time.RFC3339Nano), to.Format(time.RFC3339Nano))
	}
	for _, option := range options {
		switch {
		case err != nil:
		case option == nil:
			err = fmt.Errorf("a nil RepriceOption")
		default:
			err = option(r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: Reprice: %w", ErrInvalidOption, err)
	}
	return r, nil
}
