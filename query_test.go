package tenant_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/units"
)

var groups = []tenant.Group{
	tenant.ByTenant, tenant.ByAgent, tenant.ByAskedModel, tenant.ByModel, tenant.ByProvider, tenant.ByServiceTier, tenant.ByActor,
	tenant.ByTag("feature"), tenant.ByTag(`a "quoted" one`), tenant.ByHour, tenant.ByDay, tenant.ByWeek, tenant.ByMonth,
}

var windows = map[tenant.Group]period.Window{
	tenant.ByHour: period.Hour, tenant.ByDay: period.Day, tenant.ByWeek: period.Week, tenant.ByMonth: period.Month,
}

// naive is a row of an answer as it is added up from the executions themselves, in a process.
type naive struct {
	cost, charge, tokens, calls, errors, estimated, unpriced int64
	usage                                                    tenant.Usage
	took                                                     []time.Duration
}

func (n *naive) add(e *tenant.Execution) {
	n.cost, n.charge, n.tokens, n.calls = n.cost+e.CostNano, n.charge+e.ChargeNano, n.tokens+e.Tokens, n.calls+e.Calls
	if d, ok := e.Latency(); ok {
		n.took = append(n.took, d)
	}
	for to, yes := range map[*int64]bool{&n.errors: e.Status == "failed", &n.estimated: e.Estimated, &n.unpriced: e.Unpriced} {
		if yes {
			*to++
		}
	}
	n.usage.Input += e.Usage.Input
	n.usage.Reasoning += e.Usage.Reasoning
	n.usage.Units = n.usage.Units.Plus(e.Usage.Units)
}

func naiveOf(m tenant.Measures) naive {
	return naive{
		m.Cost.Shift(9).IntPart(), m.Charge.Shift(9).IntPart(), m.Tokens, m.Calls, m.Errors, m.Estimated, m.Unpriced,
		tenant.Usage{Input: m.Usage.Input, Reasoning: m.Usage.Reasoning, Units: m.Usage.Units}, nil,
	}
}

// keyOf is the key of an execution in a group.
func keyOf(g tenant.Group, e *tenant.Execution, zone *time.Location) string {
	switch g {
	case tenant.ByTenant:
		return e.TenantID
	case tenant.ByAgent:
		return e.Agent
	case tenant.ByAskedModel:
		return e.Model
	case tenant.ByModel:
		if e.BilledModel != "" {
			return e.BilledModel
		}
		return e.Model
	case tenant.ByProvider:
		return e.Provider
	case tenant.ByServiceTier:
		return e.ServiceTier
	case tenant.ByActor:
		return e.Actor
	case tenant.ByTag("feature"):
		return e.Tags["feature"]
	case tenant.ByTag(`a "quoted" one`):
		return e.Tags[`a "quoted" one`]
	}
	start, _ := period.Bounds(windows[g], e.AdmittedAt, zone, time.Monday)
	return label(g, start.In(zone))
}

func label(g tenant.Group, start time.Time) string {
	switch g {
	case tenant.ByHour:
		return start.Format(time.RFC3339)
	case tenant.ByMonth:
		return start.Format("2006-01")
	default:
		return start.Format("2006-01-02")
	}
}

// rowsOfExecutions answers a query by the executions alone.
func rowsOfExecutions(q tenant.Query, executions []tenant.Execution, from, to time.Time, zone *time.Location) (map[string]naive, naive) {
	rows, total := map[string]naive{}, naive{}
	for i := range executions {
		e := &executions[i]
		if e.AdmittedAt.Before(from) || !e.AdmittedAt.Before(to) || e.Status == "running" || e.Status == "cancelled" {
			continue
		}
		var keys []string
		for _, g := range q.By {
			keys = append(keys, keyOf(g, e, zone))
		}
		row := rows[fmt.Sprintf("%q", keys)]
		row.add(e)
		rows[fmt.Sprintf("%q", keys)] = row
		total.add(e)
	}
	return rows, total
}

// Whatever is asked, of random calls, the answer is what the executions themselves add up to.
func TestQueryUsage_IsTheSameQuestionAskedOfTheExecutions(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		executions, start := randomBooks(t, db, ledger)
		names := []string{"UTC", "Asia/Kathmandu", "Asia/Kolkata", "America/Santiago", "Atlantic/Azores", "Europe/Berlin", "Australia/Lord_Howe"}

		check := func(executions []tenant.Execution, seed uint64) {
			of := map[string][]tenant.Execution{}
			for _, e := range executions {
				of[e.TenantID] = append(of[e.TenantID], e)
			}
			rapid.Check(t, func(t *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), seed))
				q, cuts := randomQuestion(r, start)
				q.TimeZone = names[r.IntN(len(names))]
				calls := of[""]
				switch {
				case q.Everybody:
					calls = executions
				case q.Descendants:
					calls = slices.Concat(of["company"], of["acme"])
				case q.Tenant != nil:
					calls = of[q.Tenant.LLMTenantID()]
				}
				answer, err := tenant.QueryUsage(t.Context(), db, q)
				require.NoError(t, err, "%+v", q)
				want, total := rowsOfExecutions(q, calls, cuts[0], cuts[1], zone(t, q.TimeZone))
				requireMeasures(t, total, answer.Total, "%+v", q)
				for _, row := range answer.Rows {
					key := fmt.Sprintf("%q", append([]string(nil), row.Keys...))
					requireMeasures(t, want[key], row.Measures, "%+v of %s", q, key)
					delete(want, key)
				}
				require.Empty(t, want, "%+v", q)
			})
		}
		check(executions, 1)
		require.NoError(t, ledger.RollUp(t.Context()))
		require.Positive(t, count(t, db, "llm_usage_windows"))
		check(executions, 2)

		// What changes later counts at once, and when it is folded.
		require.NoError(t, db.Exec(`UPDATE llm_executions SET cost = cost + 7, charge = charge + 8 WHERE agent = 'support'`).Error)
		_, err := ledger.Repair(t.Context())
		require.NoError(t, err)
		require.NoError(t, booked(db).Find(&executions).Error)
		require.Positive(t, count(t, db, "llm_usage_late"))
		check(executions, 3)
		require.NoError(t, ledger.RollUp(t.Context()))
		require.Zero(t, count(t, db, "llm_usage_late"))
		check(executions, 4)
	}, tenant.WithRollupTags("feature"))
}

func count(t *testing.T, db *gorm.DB, table string) (n int64) {
	t.Helper()
	require.NoError(t, db.Raw("SELECT count(*) FROM "+table).Scan(&n).Error)
	return n
}

// requireMeasures compares figures with those of the executions; how long 95 per cent took is known to an eighth.
func requireMeasures(t *rapid.T, want naive, have tenant.Measures, message string, args ...any) {
	took := want.took
	want.took = nil
	require.Equal(t, want, naiveOf(have), append([]any{message}, args...)...)
	require.Equal(t, have.Charge.Sub(have.Cost).String(), have.Margin.String())
	if len(took) == 0 {
		require.Zero(t, have.AverageLatency)
		require.Zero(t, have.P95Latency)
		return
	}
	slices.Sort(took)
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	require.Equal(t, (sum / time.Duration(len(took))).Truncate(time.Microsecond), have.AverageLatency)
	exact := took[(95*len(took)+99)/100-1]
	require.InDelta(t, exact, have.P95Latency, max(float64(exact)/8, float64(2*time.Millisecond)))
}

// randomQuestion is one that somebody may ask, and the bounds of its period.
func randomQuestion(r *rand.Rand, start time.Time) (q tenant.Query, cuts []time.Time) {
	switch r.IntN(6) {
	case 0:
		q.Everybody = true
	case 1:
	case 2:
		q.Tenant, q.Descendants = tenant.ID("company"), true
	default:
		q.Tenant = tenant.ID([]string{"acme", "globex", "company"}[r.IntN(3)])
	}
	cuts = []time.Time{someTime(r, start), someTime(r, start)}
	slices.SortFunc(cuts, time.Time.Compare)
	q.Period = tenant.Between(cuts[0], cuts[1])
	if r.IntN(8) == 0 {
		q.Period, cuts = tenant.AllTime, []time.Time{start.AddDate(-1, 0, 0), start.AddDate(1, 0, 0)}
	}
	timed := false
	for _, i := range r.Perm(len(groups))[:r.IntN(3)] {
		if windows[groups[i]] == period.Total || !timed {
			timed = timed || windows[groups[i]] != period.Total
			q.By = append(q.By, groups[i])
		}
	}
	return q, cuts
}

// someTime is within 40 days of a start, often on a border of an hour or of what a zone has for one, or beside it.
func someTime(r *rand.Rand, start time.Time) time.Time {
	when := start.Add(time.Duration(r.Int64N(int64(40 * 24 * time.Hour))))
	switch r.IntN(4) {
	case 0:
		when = when.Truncate(time.Hour)
	case 1:
		when = when.Truncate(15 * time.Minute)
	case 2:
		when = when.Truncate(30 * time.Minute).Add(time.Duration(r.IntN(3)-1) * time.Microsecond)
	}
	return when.Truncate(time.Microsecond)
}

// randomBooks enters calls of three tenants and of none, and returns their executions, and the time from which on they were
// made. The calls of acme count for company too.
func randomBooks(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) (executions []tenant.Execution, start time.Time) {
	t.Helper()
	place(t, db, "company", "", "")
	place(t, db, "acme", "company", "")
	place(t, db, "acme", "", "")
	known(t, db, "globex")
	start = at(t, "2026-03-20T00:00:00Z")
	tenant.SetClock(ledger, start.AddDate(0, 0, 50))
	r := rand.New(rand.NewPCG(7, 8))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for _, who := range []struct {
		key string
		n   int
	}{{"", 40}, {"company", 60}, {"acme", 300}, {"globex", 150}} {
		calls := make([]past, who.n)
		for i := range calls {
			calls[i] = past{
				at: someTime(r, start), cost: r.Int64N(1e6), tokens: r.Int64N(1000), agent: pick("", "support", "search"),
				model: pick("large", "small"), billed: pick("", "large", "large-2026"),
				status: pick("succeeded", "succeeded", "failed", "abandoned", "running", "cancelled"),
				usage:  tenant.Usage{Input: r.Int64N(100), Reasoning: r.Int64N(9), Units: units.Of(units.Pages, r.Int64N(3))},
			}
		}
		remember(t, db, who.key, calls...)
	}
	marked(t, db, r)
	countsFor(t, db, "acme", "company")
	_, err := ledger.Repair(t.Context())
	require.NoError(t, err)
	require.NoError(t, booked(db).Find(&executions).Error)
	return executions, start
}

// marked gives the executions at random what remember does not.
func marked(t *testing.T, db *gorm.DB, r *rand.Rand) {
	t.Helper()
	var ids []string
	require.NoError(t, booked(db).Select("CAST(id AS text)").Order("id").Scan(&ids).Error)
	for _, id := range ids {
		tags := []any{nil, `{"feature":"chat"}`, `{"feature":"search","a \"quoted\" one":"it's"}`, `{}`}[r.IntN(4)]
		require.NoError(t, db.Exec(`UPDATE llm_executions SET provider = ?, service_tier = ?, actor = ?, estimated = ?, unpriced = ?, tags = ?,
			charge = cost + ?, latency_us = ? WHERE id = ?`,
			[]string{"openai", "anthropic"}[r.IntN(2)], []string{"", "flex"}[r.IntN(2)], []string{"", "user-1", "user-2"}[r.IntN(3)],
			r.IntN(3) == 0, r.IntN(5) == 0, tags, r.IntN(1000), []any{nil, r.IntN(60_000_000)}[r.IntN(2)], id).Error)
	}
}

// countsFor makes the calls of one tenant, which has stood below another one, count for that.
func countsFor(t *testing.T, db *gorm.DB, key, above string) {
	t.Helper()
	var id string
	require.NoError(t, db.Raw(`SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = ?`, above).Scan(&id).Error)
	require.NoError(t, db.Exec(`UPDATE llm_executions SET parents = ? WHERE tenant_id = ?`, "{"+id+"}", key).Error)
}

func TestQueryUsage_ComparesWithThePeriodBefore(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		tenant.SetClock(ledger, at(t, "2026-03-10T12:00:00Z"))
		remember(t, db, "acme",
			past{at: at(t, "2026-01-31T23:59:59Z"), cost: 1, agent: "a"},
			past{at: at(t, "2026-02-01T00:00:00Z"), cost: 10, agent: "a"}, past{at: at(t, "2026-02-28T12:00:00Z"), cost: 20, agent: "gone"},
			past{at: at(t, "2026-03-01T00:00:00Z"), cost: 100, agent: "a"}, past{at: at(t, "2026-03-31T12:00:00Z"), cost: 200, agent: "new"},
			past{at: at(t, "2026-04-01T00:00:00Z"), cost: 1000, agent: "a"})
		type was struct {
			key         string
			now, before int64
		}
		ask := func(p tenant.Period, by ...tenant.Group) (rows []was, total was) {
			answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Tenant: acme, Period: p, By: by, Compare: true})
			require.NoError(t, err)
			nano := func(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
			for _, row := range answer.Rows {
				if row.Cost.IsZero() && row.Before.Cost.IsZero() {
					continue
				}
				rows = append(rows, was{fmt.Sprint(row.Keys), nano(row.Cost), nano(row.Before.Cost)})
			}
			return rows, was{answer.Before.From.Format(time.DateOnly), nano(answer.Total.Cost), nano(answer.Before.Total.Cost)}
		}
		for _, p := range []tenant.Period{tenant.ThisMonth, tenant.Date(2026, time.March, 1).Through(2026, time.March, 31)} {
			rows, total := ask(p, tenant.ByAgent)
			require.Equal(t, []was{{"[new]", 200, 0}, {"[a]", 100, 10}, {"[gone]", 0, 20}}, rows)
			require.Equal(t, was{"2026-02-01", 300, 30}, total)
			rows, total = ask(p, tenant.ByDay)
			require.Equal(t, []was{{"[2026-03-01]", 100, 10}, {"[2026-03-28]", 0, 20}, {"[2026-03-31]", 200, 0}}, rows)
			require.Equal(t, was{"2026-02-01", 300, 30}, total)
		}
		rows, total := ask(tenant.LastMonth, tenant.ByDay)
		require.Equal(t, []was{{"[2026-02-01]", 10, 0}, {"[2026-02-28]", 20, 0}}, rows, "January has a 31st, which is of no day of February")
		require.Equal(t, was{"2026-01-01", 30, 1}, total, "but counts in its month")
		_, total = ask(tenant.Between(at(t, "2026-03-01T00:00:00Z"), at(t, "2026-03-01T00:00:01Z")))
		require.Equal(t, was{"2026-02-28", 100, 0}, total)
		_, total = ask(tenant.Date(2026, time.March, 1).Through(2026, time.March, 2))
		require.Equal(t, was{"2026-02-27", 100, 20}, total)
	})
}

func TestQueryUsage_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		for want, q := range map[string]tenant.Query{
			`Query.Period is nil`:                                            {},
			`Query.By: the group "colour" is none`:                           {Period: tenant.Today, By: []tenant.Group{"colour"}},
			`Query.By: the group "" is none`:                                 {Period: tenant.Today, By: []tenant.Group{""}},
			`Query.By: the group "tag:" is none`:                             {Period: tenant.Today, By: []tenant.Group{tenant.ByTag("")}},
			`Query.By: ["agent" "model" "day"] are more than two groups`:     {Period: tenant.Today, By: []tenant.Group{tenant.ByAgent, tenant.ByModel, tenant.ByDay}},
			`Query.By: "day" and "month" are both of time`:                   {Period: tenant.Today, By: []tenant.Group{tenant.ByDay, tenant.ByMonth}},
			`Query.By: the group "agent" is there twice`:                     {Period: tenant.Today, By: []tenant.Group{tenant.ByAgent, tenant.ByAgent}},
			`Query.OrderBy: the measure "size" is none`:                      {Period: tenant.Today, OrderBy: "size"},
			`Query.Top: -1 is negative`:                                      {Period: tenant.Today, Top: -1},
			`Query.TimeZone: the time zone "Mars/Olympus" is not known here`: {Period: tenant.Today, TimeZone: "Mars/Olympus"},
			`Query.TimeZone: the time zone "Local" is not an IANA name`:      {Period: tenant.Today, TimeZone: "Local"},
			`Query.Everybody: there is a Tenant too, "acme"`:                 {Period: tenant.Today, Everybody: true, Tenant: acme},
			`Query.Everybody: Descendants are those of a Tenant`:             {Period: tenant.Today, Everybody: true, Descendants: true},
			`Query.Compare: there is no period before all time`:              {Period: tenant.AllTime, Compare: true},
			`Between: the period begins at 2026-03-02T00:00:00Z, after its end at 2026-03-01T00:00:00Z`: {
				Period: tenant.Between(at(t, "2026-03-02T00:00:00Z"), at(t, "2026-03-01T00:00:00Z")),
			},
			`Query.Period: 0001-01-01 to 9999-12-31 has more than 1000000 of the group "hour"`: {
				Period: tenant.Date(1, 1, 1).Through(9999, 12, 31), By: []tenant.Group{tenant.ByHour},
			},
		} {
			_, err := tenant.QueryUsage(t.Context(), db, q)
			require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
			require.ErrorContains(t, err, want)
		}
	})
}

// A call that is settled days later counts at once, and so it does when its day is folded anew.
func TestQueryUsage_OfAFoldedDayHasWhatIsSettledLate(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		_, err := ledger.Record(ctx, acme, tenant.Actual{Model: "m", Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		hold, err := ledger.Reserve(ctx, acme, cent)
		require.NoError(t, err)
		// Ten days pass.
		d := dialectOf(db)
		was := time.Now().UTC().AddDate(0, 0, -10).Truncate(time.Microsecond)
		require.NoError(t, db.Exec(`UPDATE llm_executions SET admitted_at = ?`, d.Time(was)).Error)
		_, err = ledger.Repair(ctx)
		require.NoError(t, err)
		require.NoError(t, ledger.RollUp(ctx))
		require.Positive(t, count(t, db, "llm_usage_windows"))
		ask := func() string {
			answer, err := tenant.QueryUsage(ctx, db, tenant.Query{
				Tenant: acme, Period: tenant.Between(was.AddDate(0, 0, -3), was.AddDate(0, 0, 3)), By: []tenant.Group{tenant.ByDay}, Top: 1,
			})
			require.NoError(t, err)
			require.True(t, answer.Total.Cost.Equal(answer.Rows[0].Cost))
			return answer.Total.Cost.String()
		}
		require.Equal(t, "0.25", ask())
		require.NoError(t, db.Exec(`CREATE TABLE kept AS SELECT * FROM llm_usage_windows`).Error)
		require.NoError(t, db.Exec(`DELETE FROM llm_usage_windows`).Error)
		require.Equal(t, "0", ask(), "it is read where it is folded")
		require.NoError(t, db.Exec(`INSERT INTO llm_usage_windows SELECT * FROM kept`).Error)

		_, err = ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.005")})
		require.NoError(t, err)
		require.Positive(t, count(t, db, "llm_usage_late"))
		require.Equal(t, "0.255", ask())
		require.NoError(t, ledger.RollUp(ctx))
		require.Zero(t, count(t, db, "llm_usage_late"))
		require.Equal(t, "0.255", ask())
	})
}

func TestQueryUsage_KeepsTheTopAndFillsTheirPeriods(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme")
		noon := at(t, "2026-03-01T12:00:00Z")
		remember(t, db, "acme", past{at: noon, cost: 5, agent: "a"}, past{at: noon.AddDate(0, 0, 2), cost: 5, agent: "a"},
			past{at: noon, cost: 9, agent: "b"}, past{at: noon.AddDate(0, 0, 1), cost: 1, agent: "c", tokens: 100})
		ask := func(q tenant.Query) (rows []string) {
			q.Tenant, q.Period = acme, tenant.Date(2026, time.March, 1).Through(2026, time.March, 3)
			answer, err := tenant.QueryUsage(t.Context(), db, q)
			require.NoError(t, err)
			require.Equal(t, "0.00000002", answer.Total.Cost.String(), "the total has what is left out")
			for _, r := range answer.Rows {
				rows = append(rows, fmt.Sprint(r.Keys, " ", r.Cost.Shift(9)))
			}
			return rows
		}
		agent, day := tenant.ByAgent, tenant.ByDay
		require.Equal(t, []string{"[a] 10", "[b] 9"}, ask(tenant.Query{By: []tenant.Group{agent}, Top: 2}))
		require.Equal(t, []string{"[c] 1"}, ask(tenant.Query{By: []tenant.Group{agent}, Top: 1, OrderBy: tenant.TokensMeasure}))
		require.Equal(t, []string{"[2026-03-01] 14"}, ask(tenant.Query{By: []tenant.Group{day}, Top: 1}))
		require.Equal(t, []string{"[2026-03-01] 14", "[2026-03-02] 1", "[2026-03-03] 5"}, ask(tenant.Query{By: []tenant.Group{day}}))
		require.Equal(t, []string{"[a 2026-03-01] 5", "[a 2026-03-02] 0", "[a 2026-03-03] 5"}, ask(tenant.Query{By: []tenant.Group{agent, day}, Top: 1}))
		require.Equal(t, []string{"[] 20"}, ask(tenant.Query{}))
	})
}
