package tenant_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
)

func TestListExecutions_IsWhatAQueryAsksForInItsOrder(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		executions, start := randomBooks(t, db, ledger)
		rapid.Check(t, func(t *rapid.T) {
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
			q, meets := randomList(r, start)
			var want []string
			for _, e := range ordered(q, executions) {
				if meets(&e) {
					want = append(want, e.ID)
				}
			}
			var all []string
			for e, err := range tenant.ListExecutions(t.Context(), db, q) {
				require.NoError(t, err)
				all = append(all, e.ID)
			}
			require.Equal(t, want, all, "%+v", q)

			size := 7 + r.IntN(90)
			var pages []string
			for {
				page, err := tenant.ExecutionsPage(t.Context(), db, q, size)
				require.NoError(t, err)
				require.True(t, len(page.Executions) == size || page.Next == "", "a page is full where there is another one")
				for _, e := range page.Executions {
					pages = append(pages, e.ID)
				}
				if page.Next == "" {
					break
				}
				require.NotEmpty(t, page.Executions)
				require.Equal(t, page.Next, q.Cursor(page.Executions[len(page.Executions)-1]))
				q.After = page.Next
			}
			require.Equal(t, want, pages, "%+v", q)
		})
	})
}

// randomList is a list that somebody may ask for, and what its executions have in common.
func randomList(r *rand.Rand, start time.Time) (q tenant.ExecutionQuery, meets func(*tenant.Execution) bool) {
	some := func() bool { return r.IntN(4) == 0 }
	q.ByCost, q.Ascending, q.Estimated, q.Unpriced = some(), some(), some(), some()
	switch r.IntN(4) {
	case 0:
		q.Everybody = true
	case 1:
		q.Tenant, q.Descendants = tenant.ID("company"), some()
	case 2:
		q.Tenant = acme
	}
	for field, values := range map[*[]string][]string{
		&q.Statuses: {"succeeded", "failed", "running", "cancelled"}, &q.Agents: {"", "support"}, &q.Models: {"large", "large-2026"},
		&q.Providers: {"openai", "nobody"}, &q.Actors: {"user-1", ""},
	} {
		if some() {
			*field = values[:1+r.IntN(len(values))]
		}
	}
	if some() {
		q.Tags = map[string]string{"feature": "search", `a "quoted" one`: "it's"}
	}
	if some() {
		q.MinCost, q.MaxCost = tenant.USD("0.0002"), tenant.USD("0.0009")
	}
	from, to := start.AddDate(-1, 0, 0), start.AddDate(1, 0, 0)
	if some() {
		from, to = someTime(r, start), someTime(r, start)
		if to.Before(from) {
			from, to = to, from
		}
		q.Period = tenant.Between(from, to)
	}
	in := func(list []string, values ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, v) })
	}
	return q, func(e *tenant.Execution) bool {
		mine := q.Everybody || q.Tenant == nil && e.TenantID == "" || q.Tenant != nil && e.TenantID == q.Tenant.LLMTenantID() ||
			q.Descendants && e.TenantID == "acme"
		for name, value := range q.Tags {
			mine = mine && e.Tags[name] == value
		}
		return mine && !e.AdmittedAt.Before(from) && e.AdmittedAt.Before(to) && in(q.Statuses, e.Status) && in(q.Agents, e.Agent) &&
			in(q.Models, e.Model, e.BilledModel) && in(q.Providers, e.Provider) && in(q.Actors, e.Actor) &&
			(!q.MinCost.IsSet() || e.CostNano >= 200_000 && e.CostNano < 900_000) &&
			(!q.Estimated || e.Estimated) && (!q.Unpriced || e.Unpriced)
	}
}

func ordered(q tenant.ExecutionQuery, executions []tenant.Execution) []tenant.Execution {
	return slices.SortedFunc(slices.Values(executions), func(a, b tenant.Execution) int {
		if !q.Ascending {
			a, b = b, a
		}
		if q.ByCost {
			return cmp.Or(cmp.Compare(a.CostNano, b.CostNano), cmp.Compare(a.ID, b.ID))
		}
		return cmp.Or(a.AdmittedAt.Compare(b.AdmittedAt), cmp.Compare(a.ID, b.ID))
	})
}

func TestListExecutions_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		byCost := tenant.ExecutionQuery{ByCost: true}
		cursor := byCost.Cursor(tenant.Execution{ID: "01900000-0000-7000-8000-000000000000", CostNano: 7})
		for want, q := range map[string]tenant.ExecutionQuery{
			"ExecutionQuery.Everybody":                                    {Everybody: true, Tenant: acme},
			`ExecutionQuery.After: "nonsense" is no cursor`:               {After: "nonsense"},
			`ExecutionQuery.After: "` + cursor + `" is no cursor of this`: {After: cursor},
			"ExecutionQuery.MinCost: ":                                    {MinCost: tenant.USD("cheap")},
			"ExecutionQuery.MaxCost: ":                                    {MaxCost: tenant.USD("-1")},
			"February 2026 has the days 1 to 28":                          {Period: tenant.Date(2026, time.February, 29)},
		} {
			_, err := tenant.ExecutionsPage(t.Context(), db, q, 10)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, want)
			n := 0
			for _, err := range tenant.ListExecutions(t.Context(), db, q) {
				require.ErrorContains(t, err, want)
				n++
			}
			require.Equal(t, 1, n)
		}
		for _, limit := range []int{-1, 0, 1001} {
			_, err := tenant.ExecutionsPage(t.Context(), db, tenant.ExecutionQuery{}, limit)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
		}
	})
}

// Whoever leaves the loop has cost no more than the first page.
func TestListExecutions_IsLeftEarlyWithoutReadingOn(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		randomBooks(t, db, ledger)
		var most, statements int
		require.NoError(t, db.Callback().Query().After("gorm:query").Register("count", func(tx *gorm.DB) {
			if tx.Statement.Table == "llm_executions" {
				statements, most = statements+1, max(most, int(tx.RowsAffected))
			}
		}))
		for _, err := range tenant.ListExecutions(t.Context(), db, tenant.ExecutionQuery{Everybody: true}) {
			require.NoError(t, err)
			break
		}
		require.Positive(t, statements)
		require.LessOrEqual(t, most, 50)
	})
}
