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
		var tags int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_usage_windows WHERE tag <> ''`).Scan(&tags).Error)
		require.Positive(t, tags, "those of a tag are there too, and are not taken for others")
		verify := func() []tenant.Difference {
			t.Helper()
			found, err := ledger.Verify(t.Context())
			require.NoError(t, err)
			return found
		}
		require.Empty(t, verify())

		const everybody, eachTenant = "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000003"
		of := func(key string) string {
			return "tenant IN (SELECT id FROM llm_tenants WHERE tenant_id = '" + key + "')"
		}
		// What is folded of another day or month, in the place of each.
		instead := func(unit, whose string) string {
			return `UPDATE llm_usage_windows SET sums = (SELECT x.sums FROM llm_usage_windows x WHERE x.window_unit = '` + unit + `' AND x.tag = '' AND x.` + whose + ` ORDER BY x.window_start LIMIT 1)
				WHERE window_unit = '` + unit + `' AND tag = '' AND ` + whose
		}
		for name, c := range map[string]struct {
			change, column string
			uuid           func(tenant.UUID) bool
		}{
			"days":        {instead("day", of("acme")), "cost", nil},
			"months":      {instead("month", of("globex")), "unit pages", nil},
			"everybody":   {instead("month", "tenant = '"+everybody+"'"), "calls", func(id tenant.UUID) bool { return id == everybody }},
			"each tenant": {instead("day", "tenant = '"+eachTenant+"'"), "input_tokens", func(id tenant.UUID) bool { return id == eachTenant }},
			"a lost row":  {`DELETE FROM llm_usage_windows WHERE window_unit = 'day' AND ` + of("globex"), "calls", nil},
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
					require.NotContains(t, []tenant.UUID{everybody, eachTenant}, d.UUID)
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
		require.NoError(t, db.Exec(instead("day", of("acme"))).Error)
		require.NotEmpty(t, verify())
		require.NoError(t, db.Exec(`INSERT INTO llm_usage_late (tenant, hour) SELECT DISTINCT tenant, hour FROM llm_usage`).Error)
		require.Empty(t, verify())
	}, tenant.WithRollupTags("feature"))
}
