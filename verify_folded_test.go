package tenant_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// Whatever somebody has changed of a day or a month that is rolled up, of a tenant or of everybody, Verify names it, and Repair has it
// rolled up anew. What an hour has changed of since is not compared, and what is right is not named.
func TestVerify_ComparesRolledUpDaysAndMonthsWithTheirHours(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		now := at(t, "2026-08-20T10:00:00Z")
		known(t, db, "company", "acme", "globex")
		require.NoError(t, db.Exec(`UPDATE llm_tenants SET time_zone = 'Asia/Kathmandu' WHERE tenant_id = 'globex'`).Error)
		r := rand.New(rand.NewPCG(7, 8))
		for _, key := range []string{"", "acme", "globex"} {
			remember(t, db, key, yearOf(r, now, 60)...)
		}
		tenant.SetClock(ledger, now)
		require.NoError(t, ledger.RollUp(t.Context()))
		require.Positive(t, countRows(t, db, "llm_usage_windows"))
		verify := func() []tenant.Difference {
			t.Helper()
			found, err := ledger.Verify(t.Context())
			require.NoError(t, err)
			return found
		}
		require.Empty(t, verify())

		const everybody = "00000000-0000-0000-0000-000000000002"
		for name, c := range map[string]struct {
			change, column string
			uuid           func(tenant.UUID) bool
		}{
			"a cost":     {`UPDATE llm_usage_windows SET cost = cost + 7 WHERE window_unit = 'day' AND tenant IN (SELECT id FROM llm_tenants WHERE tenant_id = 'acme')`, "cost", nil},
			"a unit":     {`UPDATE llm_usage_windows SET amount = amount + 1 WHERE window_unit = 'month' AND unit <> '' AND tenant IN (SELECT id FROM llm_tenants WHERE tenant_id = 'globex')`, "unit pages", nil},
			"everybody":  {`UPDATE llm_usage_windows SET calls = calls + 1 WHERE tenant = '` + everybody + `'`, "calls", func(id tenant.UUID) bool { return id == everybody }},
			"a lost row": {`DELETE FROM llm_usage_windows WHERE window_unit = 'day' AND tenant IN (SELECT id FROM llm_tenants WHERE tenant_id = 'globex')`, "calls", nil},
		} {
			require.NoError(t, db.Exec(c.change).Error, name)
			found := verify()
			require.NotEmpty(t, found, name)
			named := false
			for _, d := range found {
				named = named || d.Column == c.column
				if c.uuid != nil {
					require.True(t, c.uuid(d.UUID), "%s: %v", name, d)
				} else {
					require.NotEqual(t, tenant.UUID(everybody), d.UUID)
				}
			}
			require.True(t, named, "%s: %v", name, found)

			mended, err := ledger.Repair(t.Context())
			require.NoError(t, err)
			require.Equal(t, found, mended, name)
			require.Empty(t, verify(), "%s: it is read by its hours until it is rolled up", name)
			require.NoError(t, ledger.RollUp(t.Context()))
			require.Empty(t, verify(), name)
		}

		// A day of which an hour has changed is read by its hours.
		require.NoError(t, db.Exec(`UPDATE llm_usage_windows SET cost = cost + 7 WHERE time_zone = 'UTC'`).Error)
		require.NoError(t, db.Exec(`INSERT INTO llm_usage_late (tenant, hour) SELECT DISTINCT tenant, hour FROM llm_usage`).Error)
		require.Empty(t, verify())
	})
}
