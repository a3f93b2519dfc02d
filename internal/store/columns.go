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
// time.Time, *time.Time and book.Latencies.
type Column[T any] struct {
	Name   string
	Value  func(T) any   // of one row
	Values func([]T) any // of many rows: a slice of the value's type
}

// NewColumn returns a column of a name that has these values.
func NewColumn[T, V any](name string, value func(T) V) Column[T] {
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

// Table is the columns of one kind of write: those that say which row it is, and those that it sets. Brief are those of Set
// that a plain row has: the others are to stay as a new row has them. They are nil where no row is plain.
type Table[T any] struct {
	Key, Set, Brief []Column[T]

	plain func(T) bool
}

// or gives a table its plain rows, which do not set the columns that are left out.
func (t Table[T]) or(plain func(T) bool, left ...string) Table[T] {
	t.plain = plain
	for _, c := range t.Set {
		if !slices.Contains(left, c.Name) {
			t.Brief = append(t.Brief, c)
		}
	}
	return t
}

// Split returns the plain rows and the others.
func (t *Table[T]) Split(rows []T) (plain, others []T) {
	if t.plain == nil {
		return nil, rows
	}
	n := 0
	for _, row := range rows {
		if t.plain(row) {
			n++
		}
	}
	switch n {
	case 0:
		return nil, rows
	case len(rows):
		return rows, nil
	}
	plain, others = make([]T, 0, n), make([]T, 0, len(rows)-n)
	for _, row := range rows {
		if t.plain(row) {
			plain = append(plain, row)
		} else {
			others = append(others, row)
		}
	}
	return plain, others
}

// Columns returns all of them, the key's first.
func (t Table[T]) Columns() []Column[T] { return slices.Concat(t.Key, t.Set) }

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
	Generation int64 // of the tenant's balances, for a store that has generations
}

// Hours returns the rows of the roll-up that a batch adds to, in the order of their tenants, in the memory of those of another.
func Hours(memory []Hour, eff *book.Effects) []Hour {
	hours := slices.Grow(memory[:0], len(eff.Hours))
	for key, sum := range eff.Hours {
		hours = append(hours, Hour{HourKey: key, HourSum: sum})
	}
	slices.SortFunc(hours, func(a, b Hour) int {
		return cmp.Or(slices.Compare(a.Tenant[:], b.Tenant[:]), a.HourKey.Hour.Compare(b.HourKey.Hour))
	})
	return hours
}

// HourUnits is what a batch adds to one row of the units in the roll-up.
type HourUnits struct {
	book.HourKey
	Generation int64
	Unit       units.Unit
	Amount     int64
}

// Units returns the rows of the units in the roll-up that some of its hours have.
func Units(hours []Hour) (rows []HourUnits) {
	for i := range hours {
		for unit, n := range hours[i].Usage.Units.All() {
			rows = append(rows, HourUnits{hours[i].HourKey, hours[i].Generation, unit, n})
		}
	}
	return rows
}

// Begun and Over are the inserted executions that run, and those that are over already.
func Begun(eff *book.Effects) (running []*book.Execution) {
	for _, e := range eff.Insert {
		if e.Status == book.Running {
			running = append(running, e)
		}
	}
	return running
}

// Over is described beside Begun.
func Over(eff *book.Effects) (finished []book.Update) {
	for _, e := range eff.Insert {
		if e.Status != book.Running {
			finished = append(finished, book.Update{From: e.Status, Execution: e})
		}
	}
	return finished
}

// Taken are the idempotency keys that executions take.
func Taken(eff *book.Effects) (taken []*book.Execution) {
	for _, e := range eff.Insert {
		if e.IdempotencyKey != "" && e.Status != book.Failed && e.Status != book.Cancelled {
			taken = append(taken, e)
		}
	}
	return taken
}

// Freed are the idempotency keys that executions give up.
func Freed(eff *book.Effects) (freed []*book.Execution) {
	for _, u := range eff.Update {
		if u.IdempotencyKey != "" && (u.Status == book.Failed || u.Status == book.Cancelled) {
			freed = append(freed, u.Execution)
		}
	}
	return freed
}

// Keys is an idempotency key, and the execution that has taken it.
var Keys = Table[exec]{
	Key: []Column[exec]{
		NewColumn("tenant", func(e exec) [16]byte { return e.Tenant }),
		NewColumn("key", func(e exec) string { return e.IdempotencyKey }),
		NewColumn("execution", func(e exec) [16]byte { return e.ID }),
	},
	Set: []Column[exec]{
		NewColumn("status", func(e exec) string { return string(e.Status) }),
		NewColumn("cost", func(e exec) int64 { return e.Charged.Cost }),
		NewColumn("charge", func(e exec) int64 { return e.Charged.Charge }),
		NewColumn("taken_at", func(e exec) time.Time { return e.AdmittedAt }),
	},
}

type (
	exec   = *book.Execution
	update = book.Update
	row    = book.BalanceRow
	sum    = book.Balance
)

// Inserted is what is known of an execution when it begins. What is known at its end is written by Updated.
var Inserted = Table[exec]{
	Key: []Column[exec]{
		NewColumn("tenant", func(e exec) [16]byte { return e.Tenant }),
		NewColumn("id", func(e exec) [16]byte { return e.ID }),
	},
	Set: []Column[exec]{
		NewColumn("parents", func(e exec) string { return sqldb.FormatIDs(e.Ancestors) }), // an array, where the database has them
		NewColumn("status", func(e exec) string { return string(e.Status) }),
		NewColumn("tenant_id", func(e exec) string { return e.TenantKey }),
		NewColumn("agent", func(e exec) string { return e.Agent }),
		NewColumn("provider", func(e exec) string { return e.Provider }),
		NewColumn("model", func(e exec) string { return e.Model }),
		NewColumn("idempotency_key", func(e exec) string { return e.IdempotencyKey }), // stored as NULL if empty
		NewColumn("tags", func(e exec) string { return e.Tags }),                      // stored as NULL if empty
		NewColumn("actor", func(e exec) string { return e.Actor }),
		NewColumn("process", func(e exec) [16]byte { return e.Process }),
		NewColumn("admitted_at", func(e exec) time.Time { return e.AdmittedAt }),
		NewColumn("deadline_at", func(e exec) time.Time { return e.DeadlineAt }),
		NewColumn("held_cost", func(e exec) int64 { return e.Held.Cost }),
		NewColumn("held_charge", func(e exec) int64 { return e.Held.Charge }),
		NewColumn("held_tokens", func(e exec) int64 { return e.Held.Tokens }),
		NewColumn("unpriced", func(e exec) bool { return e.Unpriced }),
		NewColumn("reason", func(e exec) string { return e.Reason }),
		NewColumn("corrects", func(e exec) string { // stored as NULL if empty
			if e.Corrects == (book.ID{}) {
				return ""
			}
			return e.Corrects.String()
		}),
	},
}.or(func(e exec) bool {
	return len(e.Ancestors) == 0 && e.IdempotencyKey == "" && e.Tags == "" && e.Actor == "" && e.Reason == "" && e.Corrects == (book.ID{}) && !e.Unpriced
}, "parents", "idempotency_key", "tags", "actor", "reason", "corrects", "unpriced")

// Updated is the outcome of an execution. The key's "was" is the status that it must still have.
var Updated = Table[update]{
	Key: []Column[update]{
		NewColumn("tenant", func(u update) [16]byte { return u.Tenant }),
		NewColumn("id", func(u update) [16]byte { return u.ID }),
		NewColumn("was", func(u update) string { return string(u.From) }),
	},
	Set: append([]Column[update]{
		NewColumn("status", func(u update) string { return string(u.Status) }),
		NewColumn("provider", func(u update) string { return u.Provider }),
		NewColumn("billed_model", func(u update) string { return u.BilledModel }),
		NewColumn("request_id", func(u update) string { return u.RequestID }),
		NewColumn("finished_at", func(u update) *time.Time { return optional(&u.FinishedAt) }),
		NewColumn("settled_at", func(u update) *time.Time { return optional(&u.SettledAt) }),
		NewColumn("cost", func(u update) int64 { return u.Charged.Cost }),
		NewColumn("charge", func(u update) int64 { return u.Charged.Charge }),
		NewColumn("tokens", func(u update) int64 { return u.Charged.Tokens }),
		NewColumn("calls", func(u update) int64 { return u.Charged.Calls }),
		NewColumn("reported_cost", func(u update) *int64 {
			if u.Reported < 0 {
				return nil
			}
			return &u.Reported
		}),
		NewColumn("overrun_cost", func(u update) int64 { return u.Overrun.Cost }),
		NewColumn("overrun_charge", func(u update) int64 { return u.Overrun.Charge }),
		NewColumn("overrun_tokens", func(u update) int64 { return u.Overrun.Tokens }),
		NewColumn("estimated", func(u update) bool { return u.Estimated }),
		NewColumn("unpriced", func(u update) bool { return u.Unpriced }),
		NewColumn("price", func(u update) string { return u.Price }),
		NewColumn("service_tier", func(u update) string { return u.ServiceTier }),
		NewColumn("error_code", func(u update) string { return u.ErrorCode }),
		NewColumn("units", func(u update) string { return u.Usage.Units.String() }), // stored as NULL if empty
		NewColumn("latency_us", func(u update) *int64 {
			us := u.Latency.Microseconds()
			if us <= 0 {
				return nil
			}
			return &us
		}),
	}, usage(func(u update) book.Usage { return u.Usage })...),
}.or(func(u update) bool {
	return u.From == book.Running && u.Reported < 0 && u.Overrun == book.Amount{} && !u.Estimated && u.ErrorCode == "" && plainUsage(&u.Usage)
}, append([]string{"reported_cost", "overrun_cost", "overrun_charge", "overrun_tokens", "estimated", "error_code", "units"}, rareUsage...)...)

// rareUsage are the columns of a usage that most calls have nothing in, which plainUsage says of one.
var rareUsage = []string{
	"cache_read_audio_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens", "output_audio_tokens",
	"input_image_tokens", "output_image_tokens", "web_searches",
}

func plainUsage(u *book.Usage) bool {
	return u.CacheReadAudio == 0 && u.CacheWrite5m == 0 && u.CacheWrite1h == 0 && u.InputAudio == 0 && u.OutputAudio == 0 &&
		u.InputImage == 0 && u.OutputImage == 0 && u.WebSearches == 0 && u.Units.IsZero()
}

// Whole is all of an execution that is over when it is inserted: one version of its row, not two.
var Whole = func() (t Table[update]) {
	both := func(columns []Column[exec]) (out []Column[update]) {
		for _, c := range columns {
			if slices.ContainsFunc(Updated.Set, func(u Column[update]) bool { return u.Name == c.Name }) {
				continue
			}
			out = append(out, Column[update]{
				Name:  c.Name,
				Value: func(u update) any { return c.Value(u.Execution) },
				Values: func(rows []update) any {
					executions := make([]exec, len(rows))
					for i, u := range rows {
						executions[i] = u.Execution
					}
					return c.Values(executions)
				},
			})
		}
		return out
	}
	return Table[update]{Key: both(Inserted.Key), Set: append(both(Inserted.Set), Updated.Set...)}
}()

// Balances is a balance as it is to be.
var Balances = Table[row]{
	Key: []Column[row]{
		NewColumn("tenant", func(r row) [16]byte { return r.Tenant.ID }),
		NewColumn("window_unit", func(r row) string { return r.Window.String() }),
		NewColumn("agent", func(r row) string { return r.Agent }),
		NewColumn("model", func(r row) string { return r.Model }),
	},
	Set: slices.Concat([]Column[row]{
		NewColumn("window_start", func(r row) time.Time { return r.Start }),
		NewColumn("window_end", func(r row) *time.Time { return optional(&r.End) }),
	}, sums("", func(r row) *sum { return r.Balance }), beside("day_", func(r row) *sum { return r.Day }),
		beside("month_", func(r row) *sum { return r.Month })),
}

func beside(prefix string, of func(row) *sum) []Column[row] {
	return append([]Column[row]{
		NewColumn(prefix+"start", func(r row) time.Time { return or(of(r)).Start }),
		NewColumn(prefix+"end", func(r row) time.Time { return or(of(r)).End }),
	}, sums(prefix, func(r row) *sum { return or(of(r)) })...)
}

// none stands in the rows that have nothing beside their balance.
var none = sum{Start: time.Unix(0, 0).UTC(), End: time.Unix(0, 0).UTC()}

func or(b *sum) *sum {
	if b == nil {
		return &none
	}
	return b
}

func sums(prefix string, of func(row) *sum) []Column[row] {
	return []Column[row]{
		NewColumn(prefix+"spent_cost", func(r row) int64 { return of(r).Spent.Cost }),
		NewColumn(prefix+"spent_charge", func(r row) int64 { return of(r).Spent.Charge }),
		NewColumn(prefix+"spent_tokens", func(r row) int64 { return of(r).Spent.Tokens }),
		NewColumn(prefix+"spent_calls", func(r row) int64 { return of(r).Spent.Calls }),
		NewColumn(prefix+"held_cost", func(r row) int64 { return of(r).Held.Cost }),
		NewColumn(prefix+"held_charge", func(r row) int64 { return of(r).Held.Charge }),
		NewColumn(prefix+"held_tokens", func(r row) int64 { return of(r).Held.Tokens }),
		NewColumn(prefix+"held_calls", func(r row) int64 { return of(r).Held.Calls }),
	}
}

// Thresholds are those that are met.
var Thresholds = Table[*book.Threshold]{
	Key: []Column[*book.Threshold]{
		NewColumn("tenant", func(t *book.Threshold) [16]byte { return t.Tenant }),
		NewColumn("window_unit", func(t *book.Threshold) string { return t.Window.String() }),
		NewColumn("agent", func(t *book.Threshold) string { return t.Agent }),
		NewColumn("model", func(t *book.Threshold) string { return t.Model }),
		NewColumn("metric", func(t *book.Threshold) string { return t.Limit.Counts() }),
		NewColumn("amount", func(t *book.Threshold) int64 { return t.Max }),
		NewColumn("window_start", func(t *book.Threshold) time.Time { return t.Start }),
		NewColumn("percent", func(t *book.Threshold) int64 { return t.Percent }),
	},
	Set: []Column[*book.Threshold]{
		NewColumn("crossed_at", func(t *book.Threshold) time.Time { return t.At }),
	},
}

// Summed is what is added to a row of the roll-up.
var Summed = Table[Hour]{
	Key: hour(func(h Hour) book.HourKey { return h.HourKey }),
	Set: append([]Column[Hour]{
		NewColumn("calls", func(h Hour) int64 { return h.Charged.Calls }),
		NewColumn("errors", func(h Hour) int64 { return h.Errors }),
		NewColumn("refusals", func(h Hour) int64 { return h.Refusals }),
		NewColumn("cost", func(h Hour) int64 { return h.Charged.Cost }),
		NewColumn("charge", func(h Hour) int64 { return h.Charged.Charge }),
		NewColumn("estimated", func(h Hour) int64 { return h.Estimated }),
		NewColumn("unpriced", func(h Hour) int64 { return h.Unpriced }),
		NewColumn("timed", func(h Hour) int64 { return h.Timed }),
		NewColumn("latency_us", func(h Hour) int64 { return h.LatencyUS }),
		NewColumn("latencies", func(h Hour) book.Latencies { return h.Latencies }),
		NewColumn("tokens", func(h Hour) int64 { return h.Charged.Tokens }),
	}, usage(func(h Hour) book.Usage { return h.Usage })...),
}.or(func(h Hour) bool {
	return h.Errors|h.Refusals|h.Estimated|h.Unpriced == 0 && plainUsage(&h.Usage)
}, append([]string{"errors", "refusals", "estimated", "unpriced"}, rareUsage...)...)

// SummedUnits is what is added to a row of the units in the roll-up.
var SummedUnits = Table[HourUnits]{
	Key: append(hour(func(h HourUnits) book.HourKey { return h.HourKey }),
		NewColumn("unit", func(h HourUnits) string { return string(h.Unit) })),
	Set: []Column[HourUnits]{
		NewColumn("amount", func(h HourUnits) int64 { return h.Amount }),
	},
}

// Late says that an hour of the roll-up was changed that may be folded already.
var Late = Table[book.LateHour]{Set: []Column[book.LateHour]{
	NewColumn("tenant", func(l book.LateHour) [16]byte { return l.Tenant }),
	NewColumn("hour", func(l book.LateHour) time.Time { return l.Hour }),
}}

func hour[T any](key func(T) book.HourKey) []Column[T] {
	return []Column[T]{
		NewColumn("tenant", func(row T) [16]byte { return key(row).Tenant }),
		NewColumn("hour", func(row T) time.Time { return key(row).Hour }),
		NewColumn("agent", func(row T) string { return key(row).Agent }),
		NewColumn("model", func(row T) string { return key(row).Model }),
		NewColumn("billed_model", func(row T) string { return key(row).BilledModel }),
		NewColumn("provider", func(row T) string { return key(row).Provider }),
		NewColumn("service_tier", func(row T) string { return key(row).ServiceTier }),
		NewColumn("below", func(row T) bool { return key(row).Below }),
	}
}

func usage[T any](part func(T) book.Usage) []Column[T] {
	columns := make([]Column[T], len(book.UsageColumns))
	for i, name := range book.UsageColumns {
		columns[i] = NewColumn(name, func(row T) int64 {
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
