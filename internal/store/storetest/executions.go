package storetest

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// execution returns one with a value of its own in every column.
func execution(tenant book.ID) *book.Execution {
	e := &book.Execution{
		Tenant: tenant, ID: ID(), Ancestors: []book.ID{ID(), ID()}, TenantKey: "acme", Price: "openai/gpt", ServiceTier: "flex", Reason: "why", Corrects: ID(), Status: book.Succeeded, Agent: "support", Provider: "openai",
		Model: "gpt", BilledModel: "gpt-2026-01-01", RequestID: "req-1", IdempotencyKey: "order-17", Tags: `{"a": "ü'\"", "b": ""}`,
		Actor: "user-1", Process: ID(), AdmittedAt: now, DeadlineAt: now.Add(time.Hour + time.Microsecond),
		FinishedAt: now.Add(time.Second), SettledAt: now.Add(2 * time.Second),
		Held: book.Amount{Cost: 101, Charge: 108, Tokens: 102, Calls: 1}, Charged: book.Amount{Cost: 103, Charge: 109, Tokens: 104, Calls: 1},
		Reported: 105, Overrun: book.Amount{Cost: 106, Charge: 110, Tokens: 107}, Estimated: true, Unpriced: true, ErrorCode: "cut_short",
		Latency: 1500 * time.Millisecond,
	}
	for i, n := range e.Usage.Classes() {
		*n = int64(201 + i)
	}
	e.Usage.Units = units.Of(units.Pages, 301).Plus(units.Of(units.OutputImages.With("hd"), 302))
	return e
}

// columns are the values of an execution as they are to be stored.
func columns(e *book.Execution) map[string]string {
	nullable := func(t time.Time) string {
		if t.IsZero() {
			return "NULL"
		}
		return t.UTC().Format(stamp)
	}
	out := map[string]string{
		"tenant": e.Tenant.String(), "id": e.ID.String(), "tenant_id": e.TenantKey, "status": string(e.Status), "agent": e.Agent,
		"provider": e.Provider, "model": e.Model, "billed_model": e.BilledModel, "request_id": e.RequestID,
		"idempotency_key": text(e.IdempotencyKey), "tags": e.Tags, "actor": e.Actor, "process": e.Process.String(),
		"admitted_at": e.AdmittedAt.UTC().Format(stamp), "deadline_at": e.DeadlineAt.UTC().Format(stamp),
		"finished_at": nullable(e.FinishedAt), "settled_at": nullable(e.SettledAt),
		"held_cost": text(e.Held.Cost), "held_charge": text(e.Held.Charge), "held_tokens": text(e.Held.Tokens),
		"cost": text(e.Charged.Cost), "charge": text(e.Charged.Charge), "tokens": text(e.Charged.Tokens), "calls": text(e.Charged.Calls),
		"reported_cost": text(e.Reported), "overrun_cost": text(e.Overrun.Cost), "overrun_charge": text(e.Overrun.Charge), "overrun_tokens": text(e.Overrun.Tokens),
		"estimated": text(e.Estimated), "unpriced": text(e.Unpriced), "error_code": e.ErrorCode,
		"parents": sqldb.FormatIDs(e.Ancestors), "price": e.Price, "service_tier": e.ServiceTier, "reason": e.Reason, "corrects": "NULL",
		"latency_us": "NULL",
	}
	if e.Latency > 0 {
		out["latency_us"] = text(e.Latency.Microseconds())
	}
	if e.Corrects != (book.ID{}) {
		out["corrects"] = e.Corrects.String()
	}
	if e.IdempotencyKey == "" {
		out["idempotency_key"] = "NULL"
	}
	if e.Reported < 0 {
		out["reported_cost"] = "NULL"
	}
	for i, n := range e.Usage.Classes() {
		out[book.UsageColumns[i]] = text(*n)
	}
	return out
}

// stored compares the row of an execution with it.
func (b *Books) stored(e *book.Execution) {
	b.Helper()
	want, got := columns(e), b.row(`SELECT * FROM llm_executions WHERE tenant = $1 AND id = $2`, e.Tenant.String(), e.ID.String())
	if e.Tags == "" {
		require.Equal(b, "NULL", got["tags"])
	} else {
		require.JSONEq(b, e.Tags, got["tags"])
	}
	want["tags"] = got["tags"]
	of, err := units.Parse(strings.TrimPrefix(got["units"], "NULL"))
	require.NoError(b, err)
	require.Equal(b, e.Usage.Units, of)
	require.Equal(b, e.Usage.Units.IsZero(), got["units"] == "NULL")
	delete(got, "units")
	require.Equal(b, want, got)
}

// begun is an execution as it was before it ended.
func begun(e *book.Execution) *book.Execution {
	return &book.Execution{
		Tenant: e.Tenant, ID: e.ID, Ancestors: e.Ancestors, Reason: e.Reason, Corrects: e.Corrects, TenantKey: e.TenantKey, Status: book.Running, Agent: e.Agent, Provider: "asked",
		Model: e.Model, IdempotencyKey: e.IdempotencyKey, Tags: e.Tags, Actor: e.Actor, Process: e.Process,
		AdmittedAt: e.AdmittedAt, DeadlineAt: e.DeadlineAt, Held: e.Held, Reported: -1,
	}
}

func executionColumns(b *Books) {
	id := b.Tenant("acme")
	e := execution(id)
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{begun(e)}}))
	b.stored(begun(e))
	require.NoError(b, b.Write(book.Effects{Update: []book.Update{{From: book.Running, Execution: e}}}))
	b.stored(e)

	extreme := execution(id)
	extreme.IdempotencyKey, extreme.Tags, extreme.Estimated, extreme.Unpriced = "", "", false, false
	extreme.Held = book.Amount{Cost: math.MaxInt64, Tokens: math.MinInt64, Calls: 1}
	extreme.Charged = book.Amount{Cost: math.MinInt64, Tokens: math.MaxInt64, Calls: math.MaxInt64}
	extreme.Reported, extreme.SettledAt = math.MaxInt64, time.Time{}
	for _, n := range extreme.Usage.Classes() {
		*n = math.MaxInt64
	}
	extreme.Usage.Units = units.Of(units.InputAudio, math.MaxInt64).Plus(units.Of(units.Pages, math.MinInt64))
	zone := time.FixedZone("", -9*3600-1800)
	extreme.AdmittedAt = time.Date(2026, 12, 31, 23, 59, 59, 999999000, zone)
	extreme.FinishedAt = time.Date(9999, 12, 31, 0, 0, 0, 1000, zone)
	zero := &book.Execution{Tenant: id, ID: ID(), Status: book.Cancelled, AdmittedAt: now, DeadlineAt: now}
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{begun(extreme), begun(zero)}}))
	require.NoError(b, b.Write(book.Effects{Update: []book.Update{
		{From: book.Running, Execution: extreme}, {From: book.Running, Execution: zero},
	}}))
	b.stored(extreme)
	b.stored(zero)
}

// Rows of a batch may be alike in a column, but for some of them.
func alikeRows(b *Books) {
	id := b.Tenant("acme")
	for _, c := range []struct {
		rows int
		full func(i int) bool
	}{
		{8, func(int) bool { return true }},
		{8, func(i int) bool { return i == 0 }},
		{8, func(i int) bool { return i > 0 }},
		{8, func(i int) bool { return i == 3 }},
		{8, func(i int) bool { return i == 7 }},
		{8, func(i int) bool { return i%2 == 1 }},
		{300, func(i int) bool { return i%7 == 2 }}, // more than a store writes with one statement
	} {
		var (
			all     []*book.Execution
			inserts []*book.Execution
			updates []book.Update
		)
		for i := range c.rows {
			e := &book.Execution{Tenant: id, ID: ID(), Status: book.Cancelled, AdmittedAt: now, DeadlineAt: now, Reported: -1}
			if c.full(i) {
				e = execution(id)
				e.IdempotencyKey = e.ID.String()
			} else if i%2 == 0 { // as most calls are
				e.Status, e.FinishedAt, e.SettledAt, e.Latency = book.Succeeded, now.Add(time.Second), now.Add(time.Second), 3*time.Second
				e.TenantKey, e.Agent, e.Provider, e.Model, e.BilledModel, e.RequestID = "acme", "support", "openai", "gpt", "gpt-1", fmt.Sprint("r", i)
				e.Price, e.ServiceTier, e.Process, e.Held = "openai/gpt-1", "default", ID(), book.Amount{Cost: 90, Charge: 91, Tokens: 92, Calls: 1}
				e.Charged = book.Amount{Cost: int64(i), Charge: 81, Tokens: 82, Calls: 1}
				e.Usage = book.Usage{Input: 10, CacheRead: int64(20 + i), Output: 30, Reasoning: 22}
			}
			all, inserts, updates = append(all, e), append(inserts, begun(e)), append(updates, book.Update{From: book.Running, Execution: e})
		}
		require.NoError(b, b.Write(book.Effects{Insert: inserts}))
		for _, e := range inserts {
			b.stored(e)
		}
		require.NoError(b, b.Write(book.Effects{Update: updates}))
		want := &book.Want{Tenants: []book.ID{id}}
		for _, e := range all {
			b.stored(e)
			want.Executions = append(want.Executions, book.ExecutionKey{Tenant: id, ID: e.ID})
		}
		require.Len(b, b.Read(want).Executions, len(all))
	}
}

func finishedInsert(b *Books) {
	id := b.Tenant("acme")
	running := begun(execution(id))
	running.IdempotencyKey = ""
	inserted := []*book.Execution{running}
	for _, status := range []book.Status{book.Succeeded, book.Failed, book.Cancelled, book.Abandoned} {
		e := execution(id)
		e.Status, e.IdempotencyKey = status, string(status)
		inserted = append(inserted, e)
	}
	running.Provider = "openai"
	require.NoError(b, b.Write(book.Effects{Insert: inserted}))
	for _, e := range inserted {
		b.stored(e)
	}
}

func executionIsRead(b *Books) {
	id := b.Tenant("acme")
	over, running := execution(id), begun(execution(id))
	running.IdempotencyKey = ""
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{over, running}}))

	key := func(e *book.Execution) book.ExecutionKey { return book.ExecutionKey{Tenant: e.Tenant, ID: e.ID} }
	s := b.Read(&book.Want{Executions: []book.ExecutionKey{
		key(over), key(running), {Tenant: book.NoTenant, ID: over.ID}, {Tenant: id, ID: ID()},
	}})
	require.Len(b, s.Executions, 2)
	for _, want := range []*book.Execution{over, running} {
		got := *s.Executions[key(want)]
		for _, times := range [][2]*time.Time{
			{&want.AdmittedAt, &got.AdmittedAt}, {&want.DeadlineAt, &got.DeadlineAt}, {&want.FinishedAt, &got.FinishedAt},
			{&want.SettledAt, &got.SettledAt},
		} {
			require.True(b, times[0].Equal(*times[1]))
			require.Equal(b, times[0].IsZero(), times[1].IsZero())
			*times[1] = *times[0]
		}
		// Not read: no decision needs them.
		got.Tags, got.Actor, got.Overrun, got.ErrorCode, got.Usage = want.Tags, want.Actor, want.Overrun, want.ErrorCode, want.Usage
		got.Price, got.ServiceTier, got.Reason, got.Corrects, got.Latency = want.Price, want.ServiceTier, want.Reason, want.Corrects, want.Latency
		got.Place = book.Place{}
		require.Equal(b, *want, got)
	}
}

func stringsRoundTrip(b *Books) {
	for i, s := range []string{
		`it's "quoted" \ and $1 ? :a @b {} [] , NULL`, "ünïcödé 漢字 🙂 \u202e\u2028<&>", strings.Repeat("x", 255),
		strings.Repeat("語", 85), "\t line\nbreak\r\x01\x7f", " spaces ", "NULL", "null", "{}", "%_", "\\000", "1e3", "0x10",
	} {
		id := b.Tenant(s)
		e := execution(id)
		tags, err := json.Marshal(map[string]string{s: s})
		require.NoError(b, err)
		e.TenantKey, e.Agent, e.Provider, e.Model, e.BilledModel, e.RequestID = s, s, s, s, s, s
		e.IdempotencyKey, e.Actor, e.ErrorCode, e.Tags = s, s, s, string(tags)
		t := b.Read(&book.Want{Tenants: []book.ID{id}}).Tenants[id]
		balance := t.Balance(book.Scope{Agent: s, Model: s})
		balance.Spent.Cost = 1
		require.NoError(b, b.Write(book.Effects{
			Insert: []*book.Execution{e}, Balances: []book.BalanceRow{t.Row(balance.Scope)},
			Hours: map[book.HourKey]book.HourSum{e.Hour(): {Refusals: 1}},
		}), "%d %q", i, s)

		read := b.Read(&book.Want{Keys: []string{s}, Idempotent: uses(s, s)})
		require.Equal(b, id, read.Keys[s], "%q", s)
		require.Equal(b, s, read.Tenants[id].Key)
		require.Len(b, read.Tenants[id].Balances, 4)
		require.EqualValues(b, 1, read.Tenants[id].Balance(balance.Scope).Spent.Cost)
		got := read.Idempotent[book.IdempotencyKey{Tenant: id, Key: s}]
		require.NotNil(b, got, "%q", s)
		require.Equal(b, []string{s, s, s, s, s, s, s},
			[]string{got.TenantKey, got.Agent, got.Provider, got.Model, got.BilledModel, got.RequestID, got.IdempotencyKey})
		row := b.row(`SELECT tags, actor || error_code AS both FROM llm_executions WHERE tenant = $1`, id.String())
		require.Equal(b, strings.TrimSpace(s+s), row["both"])
		require.JSONEq(b, e.Tags, row["tags"])
		require.EqualValues(b, 1, b.Int(`SELECT refusals FROM llm_usage WHERE tenant = $1 AND agent = $2 AND model = $2 AND billed_model = $2`, id.String(), s))
	}
}

func unstatedCost(b *Books) {
	id := b.Tenant("acme")
	released, expired := Reserve(id, book.Amount{Cost: 1}), Reserve(id, book.Amount{Cost: 1})
	expired.Lifetime = -time.Second
	b.Decide(released, expired)
	require.Equal(b, []decide.Code{decide.Released, decide.Expired, decide.Released}, b.Decide(
		&decide.Op{Kind: decide.Release, Exec: book.Execution{Tenant: id, ID: released.Exec.ID}},
		&decide.Op{Kind: decide.Expire, Exec: book.Execution{Tenant: id, ID: expired.Exec.ID}},
		&decide.Op{Kind: decide.Release, Exec: book.Execution{Tenant: id, ID: ID()}},
	))
	require.EqualValues(b, 3, b.Int(`SELECT count(*) FROM llm_executions WHERE reported_cost IS NULL AND status <> 'running'`))
}

func executionIDIsUnique(b *Books) {
	id, other := b.Tenant("acme"), b.Tenant("other")
	e := begun(execution(id))
	e.IdempotencyKey = ""
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{e}}))
	err := b.Write(book.Effects{Insert: []*book.Execution{e}})
	require.Error(b, err)
	require.Equal(b, fault.Fatal, b.Store.Classify(err))
	same := *e
	same.Tenant = other
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{&same}}), "ids are a tenant's own")
}

func guardOnUpdates(b *Books) {
	id := b.Tenant("acme")
	settled, running, second := execution(id), begun(execution(id)), begun(execution(id))
	running.IdempotencyKey, second.IdempotencyKey = "", ""
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{settled, running, second}}))
	charged := *running
	charged.Status, charged.Charged = book.Succeeded, book.Amount{Cost: 1}

	moved, again, gone := charged, *settled, charged
	moved.ID = second.ID
	again.Charged.Cost++
	gone.ID = ID()
	for name, update := range map[string]book.Update{
		"has another status": {From: book.Abandoned, Execution: &moved},
		"is settled":         {From: book.Succeeded, Execution: &again},
		"is not there":       {From: book.Running, Execution: &gone},
	} {
		eff := example(id)
		eff.Insert[0].IdempotencyKey, eff.Insert[1].IdempotencyKey = "", ""
		eff.Update = []book.Update{{From: book.Running, Execution: &charged}, update}
		err := b.Write(eff)
		require.Error(b, err, name)
		require.Equal(b, fault.Conflict, b.Store.Classify(err), "%s: %v", name, err)
		b.stored(running)
		b.stored(second)
		b.stored(settled)
		require.Equal(b, [3]int64{3, 0, 0}, b.written(), name)
	}

	abandoned := charged
	abandoned.Status, abandoned.FinishedAt = book.Abandoned, now
	require.NoError(b, b.Write(book.Effects{Update: []book.Update{{From: book.Running, Execution: &abandoned}}}))
	corrected := abandoned
	corrected.SettledAt, corrected.Charged.Cost = now, 9
	update := book.Effects{Update: []book.Update{{From: book.Abandoned, Execution: &corrected}}}
	require.NoError(b, b.Write(update))
	require.Error(b, b.Write(update), "corrected once")
}

func rollUpAddsUp(b *Books) {
	id := b.Tenant("acme")
	e := execution(id)
	sum := book.HourSum{
		Errors: 1, Refusals: 2, Estimated: 3, Unpriced: 4, Charged: e.Charged, Usage: e.Usage, Timed: 6, LatencyUS: 7,
		Latencies: book.Latencies{{Bucket: 0, Calls: 1}, {Bucket: 30, Calls: 1 << 33}, {Bucket: book.LatencyBuckets - 1, Calls: 2}},
	}
	other := e.Hour()
	other.Hour = other.Hour.Add(time.Hour)
	none := book.HourKey{Tenant: book.NoTenant, Hour: other.Hour}
	add := func(sums map[book.HourKey]book.HourSum) {
		x := begun(execution(id)) // hours alone are not written
		x.IdempotencyKey = ""
		require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{x}, Hours: sums}))
	}
	add(map[book.HourKey]book.HourSum{e.Hour(): sum, other: sum, none: {Refusals: 5}})
	add(map[book.HourKey]book.HourSum{e.Hour(): sum, none: {Charged: book.Amount{Cost: -7}}})
	add(map[book.HourKey]book.HourSum{e.Hour(): {
		Errors: -1, Charged: book.Amount{}.Minus(e.Charged), Usage: book.Usage{}.Minus(e.Usage), Latencies: book.Latencies{{Bucket: 31, Calls: 5}},
	}})

	want := map[string]string{
		"tenant": id.String(), "hour": e.Hour().Hour.Format(stamp), "agent": "support", "model": "gpt", "billed_model": e.BilledModel,
		"provider": "openai", "service_tier": "flex", "below": "0",
		"calls": "1", "errors": "1", "refusals": "4", "cost": text(e.Charged.Cost), "charge": text(e.Charged.Charge), "tokens": text(e.Charged.Tokens),
		"estimated": "6", "unpriced": "8", "timed": "12", "latency_us": "14",
	}
	for i, n := range e.Usage.Classes() {
		want[book.UsageColumns[i]] = text(*n)
	}
	row := func(args ...any) (map[string]string, book.Latencies) {
		row := b.row(`SELECT * FROM llm_usage WHERE tenant = $1 AND hour = $2`, args...)
		delete(row, "generation") // which only one of the databases has
		counts, err := book.ParseLatencies(row["latencies"])
		require.NoError(b, err)
		delete(row, "latencies")
		return row, counts
	}
	got, counts := row(id.String(), e.Hour().Hour.Format(stamp))
	require.Equal(b, want, got)
	require.Equal(b, book.Latencies{{Bucket: 0, Calls: 2}, {Bucket: 30, Calls: 1 << 34}, {Bucket: 31, Calls: 5}, {Bucket: book.LatencyBuckets - 1, Calls: 4}}, counts)
	want["hour"], want["refusals"], want["estimated"], want["unpriced"], want["timed"], want["latency_us"] = other.Hour.Format(stamp), "2", "3", "4", "6", "7"
	got, counts = row(id.String(), other.Hour.Format(stamp))
	require.Equal(b, want, got)
	require.Equal(b, sum.Latencies, counts)
	got, _ = row(book.NoTenant.String(), other.Hour.Format(stamp))
	require.Equal(b, []string{"-7", "5", ""}, []string{got["cost"], got["refusals"], got["billed_model"]})

	below := e.Hour()
	below.Below = true
	add(map[book.HourKey]book.HourSum{below: {Charged: book.Amount{Cost: 9}}})
	require.EqualValues(b, 9, b.Int(`SELECT cost FROM llm_usage WHERE tenant = $1 AND below`, id.String()))

	// Of the first hour, the second batch is taken back by the third.
	const amount = `SELECT coalesce(sum(amount), 0) FROM llm_usage_units WHERE tenant = $1 AND hour = $2 AND agent = 'support' AND model = 'gpt'
		AND billed_model = $3 AND NOT below AND unit = $4`
	for _, key := range []book.HourKey{e.Hour(), other} {
		for unit, n := range e.Usage.Units.All() {
			require.Equal(b, n, b.Int(amount, id.String(), key.Hour.Format(stamp), e.BilledModel, string(unit)))
		}
	}
	require.EqualValues(b, 4, b.Int(`SELECT count(*) FROM llm_usage_units`))
}

func rollUpOverflows(b *Books) {
	id := b.Tenant("acme")
	eff := func() book.Effects {
		x := begun(execution(id))
		x.IdempotencyKey = ""
		return book.Effects{
			Insert: []*book.Execution{x}, Hours: map[book.HourKey]book.HourSum{x.Hour(): {Charged: book.Amount{Cost: math.MaxInt64 - 1}}},
		}
	}
	require.NoError(b, b.Write(eff()))
	err := b.Write(eff())
	require.Error(b, err)
	require.Equal(b, fault.Fatal, b.Store.Classify(err))
	require.EqualValues(b, math.MaxInt64-1, b.Int(`SELECT cost FROM llm_usage`))
	require.EqualValues(b, 1, b.Int(`SELECT count(*) FROM llm_executions`))

	many := func() book.Effects {
		x := begun(execution(id))
		x.IdempotencyKey = ""
		sum := book.HourSum{Usage: book.Usage{Units: units.Of(units.Pages, math.MaxInt64-1)}}
		return book.Effects{Insert: []*book.Execution{x}, Hours: map[book.HourKey]book.HourSum{x.Hour(): sum}}
	}
	require.NoError(b, b.Write(many()))
	err = b.Write(many())
	require.Error(b, err)
	require.Equal(b, fault.Fatal, b.Store.Classify(err))
	require.EqualValues(b, math.MaxInt64-1, b.Int(`SELECT amount FROM llm_usage_units`))
}

func largeBatches(b *Books) {
	tenants := make([]book.ID, 50)
	for i := range tenants {
		tenants[i] = b.Tenant(fmt.Sprint("tenant ", i))
	}
	reserves, settles := make([]*decide.Op, 500), make([]*decide.Op, 500)
	for i := range reserves {
		reserves[i] = Reserve(tenants[i%len(tenants)], book.Amount{Cost: 20, Tokens: 10})
		reserves[i].Exec.IdempotencyKey = fmt.Sprint(i)
		reserves[i].Exec.Tags = `{"n": "1"}`
	}
	for _, code := range b.Decide(reserves...) {
		require.Equal(b, decide.Granted, code)
	}
	for i, reserve := range reserves {
		settles[i] = Settle(reserve, book.Amount{Cost: int64(i), Tokens: 7, Calls: 1})
	}
	for _, code := range b.Decide(settles...) {
		require.Equal(b, decide.Settled, code)
	}
	for _, id := range tenants {
		b.Conserved(id)
	}
	require.EqualValues(b, 500*499/2, b.Int(`SELECT sum(cost) FROM llm_executions`))
}
