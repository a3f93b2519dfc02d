package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// What a measurement is made with, besides what its options say. A test that only wants to see each figure takes less of it.
var (
	asked    = 1_000     // how many tenants books are filled with; where questions are asked, one has a fifth of the calls
	days     = 395       // how long the books go back: 13 months
	repeated = 1_000_000 // how many times a question is asked at most
)

// questions measures what is asked of books of 13 months, each question beside a GROUP BY of the executions.
func (b *bench) questions(ctx context.Context) ([]Figure, error) {
	var urls [2]string
	for i := range urls {
		var err error
		if urls[i], err = b.database(ctx); err != nil {
			return nil, err
		}
	}
	figures, err := questions(ctx, [2]gorm.Dialector{postgres.Open(urls[0]), postgres.Open(urls[1])}, b.executions, "")
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "tenant-bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	file := func(name string) gorm.Dialector {
		return sqlite.Open(filepath.Join(folder, name) + "?_pragma=busy_timeout(5000)&_pragma=synchronous(normal)&_txlock=immediate")
	}
	more, err := questions(ctx, [2]gorm.Dialector{file("books.db"), file("few.db")}, b.executions/10, "sqlite_")
	return append(figures, more...), err
}

// questions measures those of one database. The other one is the same with a tenth of the others' calls.
func questions(ctx context.Context, of [2]gorm.Dialector, executions int, prefix string) (_ []Figure, err error) {
	var both [2]*books
	for i, part := range []float64{1, 0.1} {
		s, err := attach(of[i], asked)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.close(ctx)) }()
		s.zone = lateIn(time.Now())
		if err := s.prepare(ctx); err != nil {
			return nil, err
		}
		if err := s.fill(ctx, executions, part); err != nil {
			return nil, err
		}
		both[i] = s
	}
	many, few, err := small(ctx, both)
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf(" of %d executions", executions)
	figures, err := both[0].questions(ctx, at, prefix)
	return append([]Figure{{
		Key: prefix + "questions_small_tenant", Name: "a small tenant's questions, the slowest of them" + at, Unit: "us", Value: many, Baseline: few,
		Against: "with a tenth of the others' calls",
	}}, figures...), err
}

// inquiry is a question, and the same asked of the executions.
type inquiry struct {
	key, name string
	query     tenant.Query
	group     string // of the executions
	rest      string // what comes after the groups
	times     int
}

// inquiries are what people ask first.
func (s *books) inquiries() []inquiry {
	today := time.Now().UTC()
	year := tenant.Between(today.AddDate(-1, 0, 0).Truncate(24*time.Hour), today.Truncate(24*time.Hour))
	day, model := s.day(), "CASE billed_model WHEN '' THEN model ELSE billed_model END"
	return []inquiry{
		{"questions_year_by_day", "a large tenant's 12 months by day", tenant.Query{Tenant: s.keys[0], Period: year, TimeZone: "UTC", By: []tenant.Group{tenant.ByDay}}, day, "", 21},
		{"questions_year_by_model_by_day", "a large tenant's 12 months by model by day", tenant.Query{
			Tenant: s.keys[0], Period: year, TimeZone: "UTC", By: []tenant.Group{tenant.ByModel, tenant.ByDay},
		}, model + ", " + day, "", 21},
		{"questions_everybody_by_day_by_model", "everybody's 12 months by day by model", tenant.Query{
			Everybody: true, Period: year, By: []tenant.Group{tenant.ByDay, tenant.ByModel},
		}, day + ", " + model, "", 11},
		{"questions_top_tenants", "the 20 tenants of last month that cost the most", tenant.Query{
			Everybody: true, Period: tenant.LastMonth, By: []tenant.Group{tenant.ByTenant}, Top: 20,
		}, "tenant", " ORDER BY sum(cost) DESC LIMIT 20", 11},
		{"questions_today", "a large tenant's day, all measures", tenant.Query{Tenant: s.keys[0], Period: tenant.Today}, "", "", 51},
		{"questions_this_month", "a large tenant's month, all measures", tenant.Query{Tenant: s.keys[0], Period: tenant.ThisMonth}, "", "", 51},
	}
}

// lateIn is a time zone in which it is past ten in the evening at a time: its day has nearly all of its calls.
func lateIn(t time.Time) string {
	const late = 22
	hours := late - t.UTC().Hour()
	if hours > 12 {
		hours -= 24
	}
	if hours == 0 {
		return "UTC"
	}
	return fmt.Sprintf("Etc/GMT%+d", -hours) // whose sign is the other way round
}

func (s *books) questions(ctx context.Context, at, prefix string) (figures []Figure, err error) {
	for _, i := range s.inquiries() {
		own, whole, err := s.ask(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.name, err)
		}
		raw, sum, err := s.raw(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("%s, of the executions: %w", i.name, err)
		}
		if whole != sum && !strings.Contains(i.rest, "LIMIT") {
			return nil, fmt.Errorf("%s: the answer is %d nano-dollars, the executions say %d", i.name, whole, sum)
		}
		figures = append(figures, Figure{
			Key: prefix + i.key, Name: i.name + at, Unit: "us", Value: own, Baseline: raw, Against: "a GROUP BY of the executions",
		})
	}
	for _, c := range []struct {
		key    string
		ask    func() error
		period tenant.Period
	}{
		{"cost_today", func() error { _, err := tenant.CostToday(ctx, s.db, s.keys[0]); return err }, tenant.Today},
		{"cost_this_month", func() error { _, err := tenant.CostThisMonth(ctx, s.db, s.keys[0]); return err }, tenant.ThisMonth},
	} {
		own, err := median(501, c.ask)
		if err != nil {
			return nil, err
		}
		raw, _, err := s.raw(ctx, inquiry{query: tenant.Query{Tenant: s.keys[0], Period: c.period}})
		if err != nil {
			return nil, err
		}
		figures = append(figures, Figure{
			Key: prefix + c.key, Name: map[string]string{"cost_today": "CostToday", "cost_this_month": "CostThisMonth"}[c.key] + at, Unit: "us", Value: own, Baseline: raw,
			Against: "a sum over the executions",
		})
	}
	return figures, nil
}

// small is how long the slowest question about a tenant with few calls takes in each of two databases, which are asked by turns.
func small(ctx context.Context, of [2]*books) (many, few float64, err error) {
	for _, i := range of[0].inquiries() {
		if i.query.Everybody {
			continue
		}
		const times = 51
		var took [2][]time.Duration
		for range min(times, repeated) {
			for n, s := range of {
				i.query.Tenant = s.keys[1]
				start := time.Now()
				if _, err := tenant.QueryUsage(ctx, s.db, i.query); err != nil {
					return 0, 0, err
				}
				took[n] = append(took[n], time.Since(start))
			}
		}
		if slow := percentile(took[0], 0.5); slow > many {
			many, few = slow, percentile(took[1], 0.5)
		}
	}
	return many, few, nil
}

// ask returns how long a question takes, and the cost that its answer says, in nano-dollars.
func (s *books) ask(ctx context.Context, i inquiry) (took float64, cost int64, err error) {
	took, err = median(i.times, func() error {
		answer, err := tenant.QueryUsage(ctx, s.db, i.query)
		if err == nil {
			cost, err = money.FromDecimal(answer.Total.Cost)
		}
		return err
	})
	return took, cost, err
}

// raw asks the executions.
func (s *books) raw(ctx context.Context, i inquiry) (took float64, cost int64, err error) {
	answer, err := tenant.QueryUsage(ctx, s.db, tenant.Query{Tenant: i.query.Tenant, Everybody: i.query.Everybody, Period: i.query.Period, TimeZone: i.query.TimeZone})
	if err != nil {
		return 0, 0, err
	}
	d := s.dialect()
	where, args := "", []any{d.Time(answer.From), d.Time(answer.To)}
	if !i.query.Everybody {
		where, args = "tenant = ? AND ", append([]any{s.ids[0].String()}, args...)
	}
	group := ""
	if i.group != "" {
		group = " GROUP BY " + i.group
	}
	sums := []string{"sum(cost)", "sum(charge)", "sum(tokens)", "sum(calls)", "sum(latency_us)"}
	for _, column := range book.UsageColumns {
		sums = append(sums, "sum("+column+")")
	}
	statement := d.Bind(`SELECT CAST(sum(cost) AS bigint), ` + strings.Join(sums, ", ") + `,
		sum(CASE status WHEN 'failed' THEN 1 ELSE 0 END), sum(CASE WHEN estimated THEN 1 ELSE 0 END), sum(CASE WHEN unpriced THEN 1 ELSE 0 END)
		FROM llm_executions WHERE ` + where + `admitted_at >= ? AND admitted_at < ? AND status <> 'running' AND status <> 'cancelled'` + group + i.rest)
	took, err = median(3, func() (err error) {
		cost = 0
		rows, err := s.pool.QueryContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		for rows.Next() {
			var of int64
			to := make([]any, len(columns))
			for i := range to {
				to[i] = new(any)
			}
			to[0] = &of
			if err := rows.Scan(to...); err != nil {
				return err
			}
			cost += of
		}
		return rows.Err()
	})
	return took, cost, err
}

func median(times int, do func() error) (float64, error) {
	took := make([]time.Duration, min(times, repeated))
	for i := range took {
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	return percentile(took, 0.5), nil
}

// day is an expression for the day, in UTC, on which an execution was admitted.
func (s *books) day() string {
	if s.db.Name() == "postgres" {
		return "date_trunc('day', admitted_at, 'UTC')"
	}
	return "substr(admitted_at, 1, 10)"
}

// filler books executions of 13 months up to now, in the order of their time, and the roll-up with them.
type filler struct {
	*books
	executions int
	end        time.Time
}

var filled = []string{
	"tenant", "id", "tenant_id", "status", "agent", "provider", "model", "billed_model", "process", "admitted_at", "deadline_at",
	"finished_at", "settled_at", "cost", "charge", "tokens", "calls", "input_tokens", "output_tokens", "latency_us", "price",
}

// execution is one of them, by its number.
func (f *filler) execution(i int, r *rand.Rand) []any {
	who := 0
	if i%5 != 0 {
		who = 1 + (i-i/5)%(asked-1)
	}
	span := time.Duration(days) * 24 * time.Hour
	at := f.end.Add(-span + time.Duration(float64(span)*float64(i+1)/float64(f.executions+1))).Truncate(time.Microsecond)
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(i))
	model := [...]string{"gpt-large", "gpt-small", "claude-large", "claude-small"}[r.IntN(4)]
	input, output, status := int64(r.IntN(5000)), int64(r.IntN(900)), "succeeded"
	if r.IntN(50) == 0 {
		status = "failed"
	}
	d := f.dialect()
	when := d.Time(at)
	return []any{
		f.ids[who].String(), id.String(), string(f.keys[who]), status, [...]string{"", "support", "search"}[r.IntN(3)], strings.SplitN(model, "-", 2)[0], model, model,
		process.String(), when, when, when, when, input*2500 + output*10_000, input*3000 + output*12_000, input + output, int64(1), input, output,
		int64(r.IntN(20_000_000)), "book",
	}
}

// fill books executions: all of the small tenant, and a part of those of the others.
func (s *books) fill(ctx context.Context, executions int, part float64) error {
	f := &filler{books: s, executions: executions, end: time.Now().UTC().Truncate(time.Microsecond)}
	r := rand.New(rand.NewPCG(1, uint64(100*part)))
	i := -1
	next := func() ([]any, bool) {
		for i++; i < f.executions; i++ {
			if small := i%5 != 0 && 1+(i-i/5)%(asked-1) == 1; small || float64(i%1000)/1000 < part {
				return f.execution(i, r), true
			}
		}
		return nil, false
	}
	insert := f.insertRows
	if f.db.Name() == "postgres" {
		insert = f.copyRows
	}
	if err := insert(ctx, next); err != nil {
		return err
	}
	return f.rollUp(ctx)
}

func (f *filler) copyRows(ctx context.Context, next func() ([]any, bool)) error {
	conn, err := f.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Raw(func(c any) error {
		_, err := c.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{"llm_executions"}, filled, pgx.CopyFromFunc(func() ([]any, error) {
			row, ok := next()
			if !ok {
				return nil, nil
			}
			for _, column := range []int{0, 1, 8} {
				id, err := uuid.Parse(row[column].(string))
				if err != nil {
					return nil, err
				}
				row[column] = [16]byte(id)
			}
			return row, nil
		}))
		return err
	})
}

func (f *filler) insertRows(ctx context.Context, next func() ([]any, bool)) (err error) {
	tx, err := f.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	statement, err := tx.PrepareContext(ctx, `INSERT INTO llm_executions (`+strings.Join(filled, ", ")+`) VALUES (`+strings.TrimSuffix(strings.Repeat("?, ", len(filled)), ", ")+`)`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	for row, ok := next(); ok; row, ok = next() {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// rollUp makes the roll-up anew: its hours here, days and months as the ledger does.
func (f *filler) rollUp(ctx context.Context) error {
	d := f.dialect()
	const key = "agent, model, billed_model, provider, service_tier"
	columns := []string{"calls", "cost", "charge", "tokens", "latency_us"}
	columns = append(columns, book.UsageColumns[:]...)
	sums := make([]string, len(columns))
	for i, column := range columns {
		sums[i] = "CAST(sum(" + column + ") AS bigint) AS " + column
	}
	statements := []string{
		`DELETE FROM llm_usage`, `DELETE FROM llm_usage_windows`, `DELETE FROM llm_usage_late`, `DELETE FROM llm_usage_folds WHERE window_unit <> 'total'`,
		`INSERT INTO llm_usage (tenant, hour, ` + key + `, ` + strings.Join(columns, ", ") + `, errors, timed, latencies)
			SELECT tenant, hour, ` + key + `, ` + strings.Join(columns, ", ") + `, errors, timed, ` + d.CompactCounts("latencies") + ` FROM (
				SELECT tenant, ` + d.Hour("admitted_at") + ` AS hour, ` + key + `, ` + strings.Join(sums, ", ") + `,
					sum(CASE status WHEN 'failed' THEN 1 ELSE 0 END) AS errors, count(latency_us) AS timed, ` + d.MergedCounts(d.OneCount("latency_us")) + ` AS latencies
				FROM llm_executions WHERE status <> 'running' AND status <> 'cancelled' GROUP BY 1, 2, ` + key + `) x`,
	}
	analyze := "ANALYZE"
	if f.db.Name() == "postgres" {
		analyze = "VACUUM ANALYZE"
		statements = append([]string{`TRUNCATE llm_usage, llm_usage_windows`}, statements[2:]...)
	}
	for _, statement := range append(statements, analyze) {
		if _, err := f.pool.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	if err := f.ledger.RollUp(ctx); err != nil {
		return err
	}
	if _, err := f.pool.ExecContext(ctx, analyze); err != nil || f.db.Name() == "postgres" {
		return err
	}
	// The log of a transaction this large is not left to those who read.
	_, err := f.pool.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
