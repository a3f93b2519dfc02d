package tenant_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestRowSecurity_WithoutATenantThereIsNothing(t *testing.T) {
	t.Parallel()
	eachSecured(t, func(t *testing.T, s *secured) {
		s.rest(t)
		tables := s.tables(t)
		s.fill(t, tables, s.ids["acme"])
		names := s.views(t)
		for _, of := range tables {
			names = append(names, of.name)
		}
		require.NoError(t, s.db.Exec(`GRANT SELECT ON ALL TABLES IN SCHEMA `+s.schemas()+` TO `+s.role).Error)
		for name, dsn := range map[string]string{"directly": s.its, "through PgBouncer": pgtest.Bouncer(t, s.its)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conn, nobody := connectTo(t, dsn), uuid.NewString()
				nothing := func(state string) {
					t.Helper()
					for _, name := range names {
						var n int
						require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+name).Scan(&n), "%s: %s", state, name)
						require.Zero(t, n, "%s: %s", state, name)
					}
				}
				nothing("never set")
				require.NoError(t, tenant.WithRowSecurity(t.Context(), s.open(t, dsn), acme, func(tx *gorm.DB) error { return nil }))
				_, err := conn.Exec(t.Context(), `BEGIN; SELECT set_config('llmtenant.tenant', '`+s.ids["acme"]+`', true); COMMIT`)
				require.NoError(t, err)
				nothing("set before")
				for _, value := range []string{"", " ", "acme", "1", "'", s.ids["acme"] + " ", "{" + s.ids["acme"] + "}", strings.ToUpper(s.ids["acme"]), uuid.Nil.String(), uuid.Max.String(),
					"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000003", nobody} {
					tx, err := conn.Begin(t.Context())
					require.NoError(t, err)
					_, err = tx.Exec(t.Context(), `SELECT set_config('llmtenant.tenant', $1, true)`, value)
					require.NoError(t, err)
					for _, name := range names {
						var n int
						require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM "+name).Scan(&n), "%q: %s", value, name)
						if value != nobody || !strings.HasSuffix(name, "_tenants") && !strings.HasSuffix(name, "llm_usage_folds") { // which have rows for everybody
							require.Zero(t, n, "%q: %s", value, name)
						}
					}
					require.NoError(t, tx.Rollback(t.Context()))
				}
			})
		}
	})
}

// The library's own questions have the answers that they have elsewhere, for the tenant and those below it, and nothing of others.
func TestRowSecurity_QuestionsHaveTheirAnswersAndNothingElse(t *testing.T) {
	t.Parallel()
	eachSecured(t, func(t *testing.T, s *secured) {
		for name, dsn := range map[string]string{"directly": s.its, "through PgBouncer": pgtest.Bouncer(t, s.its)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				portal := s.open(t, dsn)
				for _, who := range []tenant.Tenant{acme, tenant.UUID(s.ids["acme"])} {
					undo := errors.New("undo") // of a transaction that an error has ended
					require.ErrorIs(t, tenant.WithRowSecurity(t.Context(), portal, who, func(tx *gorm.DB) error {
						for _, its := range []tenant.ID{"acme", "west"} {
							require.Equal(t, s.answers(t, s.db, its), s.answers(t, tx, its), "%s", its)
						}
						for _, other := range []tenant.Tenant{tenant.ID("globex"), tenant.ID("east"), nil, tenant.ID("nobody")} {
							cost, err := tenant.Cost(t.Context(), tx, other, tenant.AllTime)
							require.NoError(t, err)
							require.True(t, cost.IsZero(), "%v", other)
							for e, err := range tenant.ListExecutions(t.Context(), tx, tenant.ExecutionQuery{Tenant: other}) {
								t.Errorf("%v has %v, %v", other, e, err)
							}
						}
						_, err := tenant.BudgetFor(t.Context(), tx, tenant.ID("globex"))
						require.ErrorIs(t, err, tenant.ErrNoBudget)
						_, err = tenant.UUIDFor(t.Context(), tx, tenant.ID("globex"))
						require.ErrorIs(t, err, tenant.ErrNoBudget)
						_, err = tenant.Cost(t.Context(), tx, tenant.UUID(s.ids["globex"]), tenant.AllTime)
						require.ErrorIs(t, err, tenant.ErrUnknownTenant)

						all, err := tenant.QueryUsage(t.Context(), tx, tenant.Query{Everybody: true, Period: tenant.AllTime})
						require.NoError(t, err)
						require.Equal(t, "0.08", all.Total.Cost.String(), "of everybody who is seen: acme and west")
						page, err := tenant.ListTenants(t.Context(), tx, tenant.TenantList{})
						require.NoError(t, err)
						require.Len(t, page, 2)
						err = tenant.ConfigureBudget(t.Context(), tx, acme, func(*tenant.Budget) error { return nil })
						require.ErrorContains(t, err, "42501", "it only reads")
						return undo
					}), undo)
				}
			})
		}
	})
}

// answers are those of whatever is asked about a tenant.
func (s *secured) answers(t *testing.T, db *gorm.DB, who tenant.ID) map[string]any {
	t.Helper()
	found := map[string]any{}
	keep := func(name string, answer any, err error) {
		t.Helper()
		require.NoError(t, err, name)
		found[name] = answer
	}
	cost, err := tenant.CostToday(t.Context(), db, who)
	keep("cost today", cost.String(), err)
	cost, err = tenant.Cost(t.Context(), db, who, tenant.Between(time.Now().Add(-90*24*time.Hour), time.Now().Add(time.Hour)), tenant.WithDescendants())
	keep("cost with descendants", cost.String(), err)
	summary, err := tenant.UsageSummary(t.Context(), db, who, tenant.AllTime, tenant.WithDescendants())
	keep("summary", summary, err)
	n, err := tenant.ExecutionCount(t.Context(), db, who, tenant.ThisMonth)
	keep("count", n, err)
	budget, err := tenant.BudgetFor(t.Context(), db, who)
	keep("budget", budget, err)
	status, err := tenant.BudgetStatus(t.Context(), db, who)
	status.Limits = slices.DeleteFunc(status.Limits, func(l tenant.LimitStatus) bool { return l.TenantID != string(who) })
	for i := range status.Limits {
		require.NotNil(t, status.Limits[i].Forecast)
		status.Limits[i].Forecast = nil // by the clock
	}
	keep("status", status, err)
	for _, group := range []tenant.Group{tenant.ByTenant, tenant.ByAgent, tenant.ByModel, tenant.ByDay, tenant.ByActor, tenant.ByTag("of")} {
		for _, descendants := range []bool{false, true} {
			answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Tenant: who, Descendants: descendants, Period: tenant.ThisMonth, By: []tenant.Group{group}})
			keep(fmt.Sprintf("by %s, %t", group, descendants), answer, err)
		}
	}
	var ids []string
	for e, err := range tenant.ListExecutions(t.Context(), db, tenant.ExecutionQuery{Tenant: who, Descendants: true}) {
		require.NoError(t, err)
		ids = append(ids, e.ID)
	}
	keep("list", ids, nil)
	var out bytes.Buffer
	_, err = tenant.Export(t.Context(), db, &out, tenant.NDJSON(), tenant.ExecutionQuery{Tenant: who, Descendants: true})
	keep("export", out.String(), err)
	tenants, err := tenant.ListTenants(t.Context(), db, tenant.TenantList{Below: who})
	keep("tenants", tenants, err)
	near, err := tenant.NearLimits(t.Context(), db, tenant.LimitList{Below: who, Percent: 1})
	keep("near", near, err)
	var log []tenant.AuditEntry
	keep("audit", &log, tenant.AuditLog(t.Context(), db, who).Find(&log).Error)
	return found
}

func TestWithRowSecurity_RefusesWhatWouldKeepNobodyApart(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	enter := func(db *gorm.DB, who tenant.Tenant) error {
		return tenant.WithRowSecurity(t.Context(), db, who, func(*gorm.DB) error { t.Error("it ran"); return nil })
	}
	require.ErrorIs(t, enter(s.db, acme), tenant.ErrInvalidOption)
	require.ErrorContains(t, enter(s.db, acme), "sees all of llm_")
	_, others := roleIn(t, s.dsn, "")
	require.ErrorContains(t, enter(s.open(t, others), acme), "is not one that MigrateRowSecurity was called for")
	require.ErrorIs(t, enter(s.portal, nil), tenant.ErrInvalidTenant)
	require.ErrorIs(t, enter(s.portal, tenant.Root), tenant.ErrInvalidTenant)
	require.ErrorIs(t, enter(s.portal, tenant.UUID("00000000-0000-0000-0000-000000000001")), tenant.ErrInvalidTenant)
	require.ErrorIs(t, enter(s.portal, tenant.UUID(uuid.NewString())), tenant.ErrUnknownTenant)
	require.ErrorIs(t, tenant.WithRowSecurity(t.Context(), s.portal, acme, nil), tenant.ErrInvalidOption)

	// A table that somebody was let read past the policies.
	require.NoError(t, s.db.Exec(`ALTER TABLE llm_audit DISABLE ROW LEVEL SECURITY`).Error)
	require.ErrorContains(t, enter(s.portal, acme), "sees all of llm_audit")
	require.NoError(t, s.db.Exec(`ALTER VIEW llm_limits SET (security_invoker = false)`).Error)
	require.NoError(t, s.db.Exec(`ALTER TABLE llm_audit ENABLE ROW LEVEL SECURITY`).Error)
	require.ErrorContains(t, enter(s.portal, acme), "sees all of llm_limits")
	require.NoError(t, s.ledger.MigrateRowSecurity(t.Context(), s.role))

	within, undo := 0, errors.New("undo")
	require.ErrorIs(t, tenant.WithRowSecurity(t.Context(), s.portal, acme, func(tx *gorm.DB) error {
		for range 2 {
			require.NoError(t, tenant.WithRowSecurity(t.Context(), tx, tenant.ID("globex"), func(tx *gorm.DB) error {
				within++
				require.Equal(t, "0.04", costToday(t, tx, tenant.ID("globex")))
				require.Equal(t, "0", costToday(t, tx, acme))
				return nil
			}))
			require.ErrorIs(t, tenant.WithRowSecurity(t.Context(), tx, tenant.ID("globex"), func(tx *gorm.DB) error { return undo }), undo)
			require.Equal(t, "0", costToday(t, tx, tenant.ID("globex")), "the tenant of before is set again")
			require.NotEqual(t, "0", costToday(t, tx, acme))
		}
		return undo
	}), undo)
	require.Equal(t, 2, within)

	// A tenant that has no rows yet, but the defaults that will hold for it.
	require.NoError(t, tenant.WithRowSecurity(t.Context(), s.portal, tenant.ID("new"), func(tx *gorm.DB) error {
		require.Equal(t, "0", costToday(t, tx, tenant.ID("new")))
		require.Equal(t, "0", costToday(t, tx, acme))
		return nil
	}))
}

func TestMigrateRowSecurity_NamesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	sqlite := openDatabase(t, "sqlite")
	ledger := openLedger(t, sqlite)
	err := ledger.MigrateRowSecurity(t.Context(), "portal")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "SQLite has no row-level security")
	err = tenant.WithRowSecurity(t.Context(), sqlite, acme, func(*gorm.DB) error { return nil })
	require.ErrorContains(t, err, "SQLite has no row-level security")

	dsn := pgtest.Empty(t)
	db := openAt(t, postgres.Open(dsn))
	ledger = openLedger(t, db)
	role, its := roleIn(t, dsn, "")
	require.ErrorIs(t, ledger.MigrateRowSecurity(t.Context(), role), tenant.ErrNotMigrated)
	require.NoError(t, ledger.Migrate(t.Context()))
	portal := openAt(t, postgres.Open(its))
	require.NoError(t, ledger.Attach(portal))
	err = tenant.WithRowSecurity(t.Context(), portal, acme, func(*gorm.DB) error { return nil })
	require.ErrorContains(t, err, "MigrateRowSecurity does that")
	for options, want := range map[string]string{"SUPERUSER": "is a superuser", "BYPASSRLS": "has BYPASSRLS", "IN ROLE postgres": "owns the ledger's tables"} {
		bad, _ := roleIn(t, dsn, options)
		err := ledger.MigrateRowSecurity(t.Context(), bad)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
	for _, nobody := range []string{"nobody", "", `no"body`, "x'; DROP TABLE llm_tenants; --"} {
		err := ledger.MigrateRowSecurity(t.Context(), nobody)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, "%q", nobody)
		require.ErrorContains(t, err, "there is no role", "%q", nobody)
	}
	require.NoError(t, db.Exec(`CREATE ROLE "Odd ""name"""`).Error)
	require.NoError(t, ledger.MigrateRowSecurity(t.Context(), `Odd "name"`))
	require.NoError(t, ledger.MigrateRowSecurity(t.Context(), role))
	require.NoError(t, db.Exec(`DROP OWNED BY "Odd ""name"""; DROP ROLE "Odd ""name"""`).Error)

	// What is there already is not locked again.
	tx := db.Begin()
	require.NoError(t, tx.Exec(`LOCK TABLE llm_executions, llm_tenants, llm_audit IN ROW EXCLUSIVE MODE`).Error)
	require.NoError(t, ledger.MigrateRowSecurity(t.Context(), role))
	require.NoError(t, tx.Rollback().Error)
	require.NoError(t, tenant.WithRowSecurity(t.Context(), portal, acme, func(*gorm.DB) error { return nil }))
}

// Who has policies of his own keeps them.
func TestMigrateRowSecurity_LetsNobodyElseThrough(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	require.NoError(t, call(t, ledger, acme, "0.01"))
	held, theirs := roleIn(t, dsn, "")
	free, others := roleIn(t, dsn, "")
	require.NoError(t, db.Exec(`GRANT SELECT ON llm_executions, llm_balances TO `+held+`, `+free+`; ALTER TABLE llm_balances ENABLE ROW LEVEL SECURITY`).Error)
	role, _ := roleIn(t, dsn, "")
	require.NoError(t, ledger.MigrateRowSecurity(t.Context(), role))
	for _, dsn := range []string{theirs, others} {
		conn := connectTo(t, dsn)
		var calls, balances int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*), (SELECT count(*) FROM llm_balances) FROM llm_executions`).Scan(&calls, &balances))
		require.Equal(t, []int{1, 0}, []int{calls, balances})
	}
	require.NoError(t, call(t, ledger, acme, "0.01"), "the ledger's own role passes")
}

func TestRowSecurity_HoldsWhereExecutionsAreKeptByMonth(t *testing.T) {
	t.Parallel()
	eachSecured(t, func(t *testing.T, s *secured) {
		require.NoError(t, s.ledger.Partition(t.Context()))
		used(t, s.ledger, acme, tenant.Actual{Cost: tenant.USD("0.02")})
		require.NoError(t, tenant.WithRowSecurity(t.Context(), s.portal, acme, func(tx *gorm.DB) error {
			require.Equal(t, s.answers(t, s.db, acme), s.answers(t, tx, acme))
			require.Equal(t, "0", costToday(t, tx, tenant.ID("globex")))
			for _, table := range []string{"llm_executions", "llm_executions_past"} {
				var n int64
				require.NoError(t, tx.Raw(`SELECT count(*) FROM `+table+` WHERE tenant = ?`, s.ids["globex"]).Scan(&n).Error)
				require.Zero(t, n, table)
			}
			return nil
		}))
		// A partition that the role was let read by itself.
		require.NoError(t, s.db.Exec(`GRANT SELECT ON llm_executions_later TO `+s.role).Error)
		err := tenant.WithRowSecurity(t.Context(), s.portal, acme, func(*gorm.DB) error { return nil })
		require.ErrorContains(t, err, "sees all of llm_executions_later")
	})
}

// A list of one tenant is read from the index that begins with the tenant and the time, and whom the role may see is found out
// once, not for each row.
func TestRowSecurity_ListsLeadWithTenantAndTime(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	require.NoError(t, s.db.Exec(`INSERT INTO llm_executions (tenant, id, tenant_id, status, process, admitted_at, deadline_at, tags)
		SELECT t, gen_random_uuid(), 'x', 'succeeded', gen_random_uuid(), now() - n * interval '1 minute', now(), '{"a": "b"}'
		FROM generate_series(1, 4000) n CROSS JOIN unnest(ARRAY[?::uuid, ?::uuid, ?::uuid]) t`, s.ids["acme"], s.ids["west"], s.ids["globex"]).Error)
	require.NoError(t, s.db.Exec(`ANALYZE llm_executions`).Error)
	for name, where := range map[string]string{
		"first page": "",
		"later":      " AND admitted_at <= now() - interval '1 day'",
		"conditions": " AND agent IN ('', 'b') AND cost >= 0 AND NOT unpriced",
	} {
		require.NoError(t, tenant.WithRowSecurity(t.Context(), s.portal, acme, func(tx *gorm.DB) error {
			var plan []string
			require.NoError(t, tx.Raw(`EXPLAIN (ANALYZE, TIMING off, COSTS off) SELECT * FROM llm_executions WHERE tenant = ? AND status <> 'running'`+where+
				` ORDER BY admitted_at DESC, id DESC LIMIT 50`, s.ids["acme"]).Scan(&plan).Error)
			text := strings.Join(plan, "\n")
			require.Contains(t, text, "Index Scan Backward using llm_executions_admitted", "%s:\n%s", name, text)
			require.Contains(t, text, "InitPlan", text)
			require.NotContains(t, text, "SubPlan", text)
			require.NotContains(t, text, "Seq Scan", text)
			require.NotContains(t, text, "Bitmap", text)
			return nil
		}))
	}
}

// A place that was added later is named until the role's policies are there too.
func TestWithRowSecurity_NamesAPlaceWithoutPolicies(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	require.NoError(t, s.ledger.Close(t.Context()))
	s.ledger = openLedger(t, s.db, tenant.WithPlaces("east"))
	require.NoError(t, s.ledger.Migrate(t.Context()))
	require.NoError(t, s.ledger.Attach(s.portal))
	_, err := s.ledger.Move(t.Context(), acme, "east")
	require.NoError(t, err)
	require.NoError(t, s.db.Exec(`GRANT USAGE ON SCHEMA east TO `+s.role+`; GRANT SELECT ON ALL TABLES IN SCHEMA east TO `+s.role).Error)
	ask := func() error {
		return tenant.WithRowSecurity(t.Context(), s.portal, acme, func(tx *gorm.DB) error {
			require.Equal(t, s.answers(t, s.db, acme), s.answers(t, tx, acme))
			return nil
		})
	}
	require.ErrorContains(t, ask(), "sees all of east.llm_")
	require.NoError(t, s.ledger.MigrateRowSecurity(t.Context(), s.role))
	require.NoError(t, s.ledger.MigrateRowSecurity(t.Context(), s.role), "again")
	require.NoError(t, ask())
}
