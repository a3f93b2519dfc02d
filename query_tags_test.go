package tenant_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
)

// A tag that is rolled up is answered as the executions say: by folded days, after changes, and when the calls are gone.
func TestQueryUsage_ByATagThatIsRolledUpOutlivesTheCalls(t *testing.T) {
	t.Parallel()
	feature := tenant.ByTag("feature")
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		executions, start := randomBooks(t, db, ledger)
		of := func(key string) (calls []tenant.Execution) {
			for _, e := range executions {
				if e.TenantID == key {
					calls = append(calls, e)
				}
			}
			return calls
		}
		check := func(seed uint64) {
			t.Helper()
			rapid.Check(t, func(t *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), seed))
				q, cuts := randomQuestion(r, start)
				for i := range cuts {
					cuts[i] = cuts[i].Truncate(15 * time.Minute)
				}
				if q.Period != tenant.AllTime {
					q.Period = tenant.Between(cuts[0], cuts[1])
				}
				q.By = [][]tenant.Group{{feature}, {feature, tenant.ByDay}, {tenant.ByMonth, feature}}[r.IntN(3)]
				q.TimeZone = []string{"UTC", "Asia/Kathmandu", "America/Santiago"}[r.IntN(3)]
				calls := of("")
				switch {
				case q.Everybody:
					calls = executions
				case q.Descendants:
					calls = append(of("company"), of("acme")...)
				case q.Tenant != nil:
					calls = of(q.Tenant.LLMTenantID())
				}
				answer, err := tenant.QueryUsage(t.Context(), db, q)
				require.NoError(t, err, "%+v", q)
				want, total := rowsOfExecutions(q, calls, cuts[0], cuts[1], zone(t, q.TimeZone))
				requireMeasures(t, total, answer.Total, "%+v", q)
				for _, row := range answer.Rows {
					key := fmt.Sprintf("%q", row.Keys)
					requireMeasures(t, want[key], row.Measures, "%+v of %s", q, key)
					delete(want, key)
				}
				require.Empty(t, want, "%+v", q)
			})
		}
		check(1)
		require.NoError(t, ledger.RollUp(t.Context()))
		var folded int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_usage_windows WHERE tag = 'feature'`).Scan(&folded).Error)
		require.Positive(t, folded)
		check(2)
		require.NoError(t, db.Exec(`UPDATE llm_executions SET cost = cost + 7, charge = charge + 8 WHERE agent = 'support'`).Error)
		_, err := ledger.Repair(t.Context())
		require.NoError(t, err)
		require.NoError(t, booked(db).Find(&executions).Error)
		check(3)
		require.NoError(t, ledger.RollUp(t.Context()))
		check(4)

		report, err := ledger.Prune(t.Context(), start.AddDate(0, 0, 20))
		require.NoError(t, err)
		require.Positive(t, report.Executions)
		check(5)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
		// One that lacks a day is found, and repaired.
		require.NoError(t, db.Exec(`DELETE FROM llm_usage_windows WHERE tag <> '' AND window_unit = 'day'`).Error)
		found, err = ledger.Verify(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, found)
		require.Contains(t, found[0].Where, `tag "feature" is`)
		_, err = ledger.Repair(t.Context())
		require.NoError(t, err)
		require.NoError(t, ledger.RollUp(t.Context()))
		found, err = ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)

		// What is folded can be folded anew of what is left.
		require.NoError(t, db.Exec(`DELETE FROM llm_usage_windows WHERE tag <> ''`).Error)
		require.NoError(t, db.Exec(`DELETE FROM llm_usage_folds WHERE tag <> ''`).Error)
		check(6)
		require.NoError(t, ledger.RollUp(t.Context()))
		check(7)

		_, err = tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.AllTime, By: []tenant.Group{tenant.ByTag("colour")}})
		require.ErrorIs(t, err, tenant.ErrPruned)
		require.ErrorContains(t, err, `what their tag "colour" was`)
	}, tenant.WithRollupTags("feature"))
}

func TestQueryUsage_TellsABoundedNumberOfValuesApart(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		start := at(t, "2026-03-01T00:00:00Z")
		tenant.SetClock(ledger, start.AddDate(0, 2, 0))
		calls := make([]past, 1030)
		for i := range calls {
			calls[i] = past{at: start.Add(time.Duration(i) * time.Minute), cost: 1, agent: fmt.Sprint("value-", i)}
		}
		remember(t, db, "acme", append(calls, calls[:5]...)...)
		tags := `'{"feature":"' || agent || '"}'`
		if db.Name() == "postgres" {
			tags = "CAST(" + tags + " AS jsonb)"
		}
		require.NoError(t, db.Exec(`UPDATE llm_executions SET tags = `+tags).Error)
		ask := func() (values int, other string) {
			answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{
				Tenant: acme, Period: tenant.Between(start, start.AddDate(0, 0, 2)), By: []tenant.Group{tenant.ByTag("feature")},
			})
			require.NoError(t, err)
			require.Equal(t, "0.000001035", answer.Total.Cost.String())
			for _, r := range answer.Rows {
				if r.Keys[0] == "other" {
					other = r.Cost.Shift(9).String()
				}
			}
			return len(answer.Rows), other
		}
		values, _ := ask()
		require.Equal(t, 1030, values, "nothing is folded yet")
		require.NoError(t, ledger.RollUp(t.Context()))
		values, other := ask()
		require.Equal(t, 1001, values)
		_, err := ledger.Prune(t.Context(), start.AddDate(0, 1, 0))
		require.NoError(t, err)
		again, same := ask()
		require.Equal(t, values, again)
		require.Equal(t, other, same)
	}, tenant.WithRollupTags("feature"))
}

func TestWithRollupTags_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	for want, tags := range map[string][]string{
		"name in WithRollupTags":                 {"a", ""},
		`the tag "a" is there twice`:             {"a", "b", "a"},
		"WithRollupTags: 9 tags are more than 8": {"1", "2", "3", "4", "5", "6", "7", "8", "9"},
	} {
		_, err := tenant.Open(db, tenant.WithRollupTags(tags...))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
}
