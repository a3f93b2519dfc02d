package store

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// Column is a column that a batch writes. Values are of the types [16]byte (a UUID), string, int64, *int64, bool,
// time.Time and *time.Time.
type Column[T any] struct {
	Name   string
	Value  func(T) any   // of one row
	Values func([]T) any // of many rows: a slice of the value's type
}

func column[T, V any](name string, value func(T) V) Column[T] {
	return Column[T]{
		Name:  name,
		Value: func(row T) any { return value(row) },
		Values: func(rows []T) any {
			values := make([]V, len(rows))
			for i, row := range rows {
				values[i] = value(row)
			}
			return values
		},
	}
}

// Table is the columns of one kind of write: those that say which row it is, and those that it sets.
type Table[T any] struct{ Key, Set []Column[T] }

// Columns returns all of them, the key's first.
func (t *Table[T]) Columns() []Column[T] { return slices.Concat(t.Key, t.Set) }

// Each returns a piece of SQL for every column, with the column's name in the place of @.
func Each[T any](columns []Column[T], piece, separator string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = strings.ReplaceAll(piece, "@", c.Name)
	}
	return strings.Join(out, separator)
}

// Hour is what a batch adds to one row of the roll-up.
type Hour struct {
	book.HourKey
	book.HourSum
}

// Hours returns the rows of the roll-up that a batch adds to, in the order of their tenants.
func Hours(eff *book.Effects) []Hour {
	hours := make([]Hour, 0, len(eff.Hours))
	for key, sum := range eff.Hours {
		hours = append(hours, Hour{key, sum})
	}
	slices.SortFunc(hours, func(a, b Hour) int {
		return cmp.Or(slices.Compare(a.Tenant[:], b.Tenant[:]), a.HourKey.Hour.Compare(b.HourKey.Hour))
	})
	return hours
}

// HourUnits is what a batch adds to one row of the units in the roll-up.
type HourUnits struct {
	book.HourKey
	Unit   units.Unit
	Amount int64
}

// Units returns the rows of the units in the roll-up that some of its hours have.
func Units(hours []Hour) (rows []HourUnits) {
	for i := range hours {
		for unit, n := range hours[i].Usage.Units.All() {
			rows = append(rows, HourUnits{hours[i].HourKey, unit, n})
		}
	}
	return rows
}

// Finished returns the updates that complete those inserted executions which are over already.
func Finished(eff *book.Effects) []book.Update {
	var finished []book.Update
	for _, e := range eff.Insert {
		if e.Status != book.Running {
			finished = append(finished, book.Update{From: e.Status, Execution: e})
		}
	}
	return finished
}

type (
	exec   = *book.Execution
	update = book.Update
	row    = book.BalanceRow
)

// Inserted is what is known of an execution when it begins. What is known at its end is written by Updated.
var Inserted = Table[exec]{
	Key: []Column[exec]{
		column("tenant", func(e exec) [16]byte { return e.Tenant }),
		column("id", func(e exec) [16]byte { return e.ID }),
	},
	Set: []Column[exec]{
		column("parents", func(e exec) string { return sqldb.FormatIDs(e.Parents) }), // an array, where the database has them
		column("status", func(e exec) string { return string(e.Status) }),
		column("tenant_id", func(e exec) string { return e.TenantKey }),
		column("agent", func(e exec) string { return e.Agent }),
		column("provider", func(e exec) string { return e.Provider }),
		column("model", func(e exec) string { return e.Model }),
		column("idempotency_key", func(e exec) string { return e.IdempotencyKey }), // stored as NULL if empty
		column("tags", func(e exec) string { return e.Tags }),                      // stored as NULL if empty
		column("actor", func(e exec) string { return e.Actor }),
		column("process", func(e exec) [16]byte { return e.Process }),
		column("admitted_at", func(e exec) time.Time { return e.AdmittedAt }),
		column("deadline_at", func(e exec) time.Time { return e.DeadlineAt }),
		column("held_cost", func(e exec) int64 { return e.Held.Cost }),
		column("held_tokens", func(e exec) int64 { return e.Held.Tokens }),
		column("unpriced", func(e exec) bool { return e.Unpriced }),
		column("reason", func(e exec) string { return e.Reason }),
		column("corrects", func(e exec) string { // stored as NULL if empty
			if e.Corrects == (book.ID{}) {
				return ""
			}
			return e.Corrects.String()
		}),
	},
}

// Updated is the outcome of an execution. The key's "was" is the status that it must still have.
var Updated = Table[update]{
	Key: []Column[update]{
		column("tenant", func(u update) [16]byte { return u.Tenant }),
		column("id", func(u update) [16]byte { return u.ID }),
		column("was", func(u update) string { return string(u.From) }),
	},
	Set: append([]Column[update]{
		column("status", func(u update) string { return string(u.Status) }),
		column("provider", func(u update) string { return u.Provider }),
		column("billed_model", func(u update) string { return u.BilledModel }),
		column("request_id", func(u update) string { return u.RequestID }),
		column("finished_at", func(u update) *time.Time { return optional(&u.FinishedAt) }),
		column("settled_at", func(u update) *time.Time { return optional(&u.SettledAt) }),
		column("cost", func(u update) int64 { return u.Charged.Cost }),
		column("tokens", func(u update) int64 { return u.Charged.Tokens }),
		column("calls", func(u update) int64 { return u.Charged.Calls }),
		column("reported_cost", func(u update) *int64 {
			if u.Reported < 0 {
				return nil
			}
			return &u.Reported
		}),
		column("overrun_cost", func(u update) int64 { return u.Overrun.Cost }),
		column("overrun_tokens", func(u update) int64 { return u.Overrun.Tokens }),
		column("estimated", func(u update) bool { return u.Estimated }),
		column("unpriced", func(u update) bool { return u.Unpriced }),
		column("price", func(u update) string { return u.Price }),
		column("service_tier", func(u update) string { return u.ServiceTier }),
		column("error_code", func(u update) string { return u.ErrorCode }),
		column("units", func(u update) string { return u.Usage.Units.String() }), // stored as NULL if empty
	}, usage(func(u update) book.Usage { return u.Usage })...),
}

// Balances is a balance as it is to be.
var Balances = Table[row]{
	Key: []Column[row]{
		column("tenant", func(r row) [16]byte { return r.Tenant }),
		column("window_unit", func(r row) string { return r.Window.String() }),
		column("agent", func(r row) string { return r.Agent }),
		column("model", func(r row) string { return r.Model }),
	},
	Set: []Column[row]{
		column("window_start", func(r row) time.Time { return r.Start }),
		column("window_end", func(r row) *time.Time { return optional(&r.End) }),
		column("spent_cost", func(r row) int64 { return r.Spent.Cost }),
		column("spent_tokens", func(r row) int64 { return r.Spent.Tokens }),
		column("spent_calls", func(r row) int64 { return r.Spent.Calls }),
		column("held_cost", func(r row) int64 { return r.Held.Cost }),
		column("held_tokens", func(r row) int64 { return r.Held.Tokens }),
		column("held_calls", func(r row) int64 { return r.Held.Calls }),
	},
}

// Thresholds are those that are met.
var Thresholds = Table[*book.Threshold]{
	Key: []Column[*book.Threshold]{
		column("tenant", func(t *book.Threshold) [16]byte { return t.Tenant }),
		column("window_unit", func(t *book.Threshold) string { return t.Window.String() }),
		column("agent", func(t *book.Threshold) string { return t.Agent }),
		column("model", func(t *book.Threshold) string { return t.Model }),
		column("metric", func(t *book.Threshold) string { return string(t.Metric) }),
		column("amount", func(t *book.Threshold) int64 { return t.Max }),
		column("window_start", func(t *book.Threshold) time.Time { return t.Start }),
		column("percent", func(t *book.Threshold) int64 { return t.Percent }),
	},
	Set: []Column[*book.Threshold]{
		column("crossed_at", func(t *book.Threshold) time.Time { return t.At }),
	},
}

// Summed is what is added to a row of the roll-up.
var Summed = Table[Hour]{
	Key: hour(func(h Hour) book.HourKey { return h.HourKey }),
	Set: append([]Column[Hour]{
		column("calls", func(h Hour) int64 { return h.Charged.Calls }),
		column("errors", func(h Hour) int64 { return h.Errors }),
		column("refusals", func(h Hour) int64 { return h.Refusals }),
		column("cost", func(h Hour) int64 { return h.Charged.Cost }),
		column("tokens", func(h Hour) int64 { return h.Charged.Tokens }),
	}, usage(func(h Hour) book.Usage { return h.Usage })...),
}

// SummedUnits is what is added to a row of the units in the roll-up.
var SummedUnits = Table[HourUnits]{
	Key: append(hour(func(h HourUnits) book.HourKey { return h.HourKey }),
		column("unit", func(h HourUnits) string { return string(h.Unit) })),
	Set: []Column[HourUnits]{
		column("amount", func(h HourUnits) int64 { return h.Amount }),
	},
}

func hour[T any](key func(T) book.HourKey) []Column[T] {
	return []Column[T]{
		column("tenant", func(row T) [16]byte { return key(row).Tenant }),
		column("hour", func(row T) time.Time { return key(row).Hour }),
		column("agent", func(row T) string { return key(row).Agent }),
		column("model", func(row T) string { return key(row).Model }),
		column("billed_model", func(row T) string { return key(row).BilledModel }),
		column("below", func(row T) bool { return key(row).Below }),
	}
}

func usage[T any](part func(T) book.Usage) []Column[T] {
	columns := make([]Column[T], len(book.UsageColumns))
	for i, name := range book.UsageColumns {
		columns[i] = column(name, func(row T) int64 {
			u := part(row)
			return *u.Classes()[i]
		})
	}
	return columns
}

func optional(t *time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return t
}
