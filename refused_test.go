package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// service is a ledger that has a role of its own on a database, and whoever administers that.
type service struct {
	admin  *gorm.DB // connected to another database of the server
	owner  *gorm.DB // connected to the ledger's database, as the owner of the tables
	db     *gorm.DB // the service's own
	ledger *tenant.Ledger
	*witness
	role, database string
}

func newService(t *testing.T, options ...tenant.OpenOption) *service {
	t.Helper()
	dsn := pgtest.DSN(t)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	s := &service{witness: &witness{}, role: "r" + strings.ReplaceAll(uuid.NewString(), "-", ""), database: strings.TrimPrefix(u.Path, "/")}
	s.owner = openAt(t, postgres.Open(dsn))
	elsewhere := *u
	elsewhere.Path = "/postgres"
	s.admin = openAt(t, postgres.Open(elsewhere.String()))
	s.do(t, s.admin, "CREATE ROLE @role LOGIN PASSWORD 'right'")
	t.Cleanup(func() {
		s.do(t, s.owner, "DROP OWNED BY @role")
		s.do(t, s.admin, "DROP ROLE @role")
	})
	s.do(t, s.owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO @role")
	u.User = url.UserPassword(s.role, "right")
	s.db = openAt(t, postgres.Open(u.String()))
	s.ledger = openLedger(t, s.db, append([]tenant.OpenOption{tenant.WithObserver(s.witness), tenant.WithSettleWait(50 * time.Millisecond)}, options...)...)
	return s
}

// do runs statements, with the role and the database in the places of @role and @database.
func (s *service) do(t *testing.T, db *gorm.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		require.NoError(t, db.Exec(strings.NewReplacer("@role", s.role, "@database", s.database).Replace(statement)).Error, statement)
	}
}

const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '@role'"

// raise has a trigger on a table refuse what is not a hold.
func (s *service) raise(t *testing.T, table string) {
	t.Helper()
	s.do(t, s.owner, `CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF to_jsonb(NEW) ->> 'status' IS DISTINCT FROM 'running' THEN RAISE EXCEPTION 'the host says no'; END IF;
			RETURN NEW;
		END $$`,
		`CREATE TRIGGER raising BEFORE INSERT OR UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION raising()`)
}

// Whatever stands in its way, a call that has ended is booked when it is gone, nothing is admitted that could not be booked,
// and the way out is told.
func TestSettle_IsNeverGivenUpWhateverTheServerSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin, end func(t *testing.T, s *service)
		says       string
		want       error
	}{
		"the password changed": {
			begin: func(t *testing.T, s *service) { s.do(t, s.admin, "ALTER ROLE @role PASSWORD 'changed'", endSessions) },
			end:   func(t *testing.T, s *service) { s.do(t, s.admin, "ALTER ROLE @role PASSWORD 'right'") },
			says:  "28P01", want: tenant.ErrUnavailable,
		},
		"NOLOGIN": {
			begin: func(t *testing.T, s *service) { s.do(t, s.admin, "ALTER ROLE @role NOLOGIN", endSessions) },
			end:   func(t *testing.T, s *service) { s.do(t, s.admin, "ALTER ROLE @role LOGIN") },
			says:  "28000", want: tenant.ErrUnavailable,
		},
		"closed to connections": {
			begin: func(t *testing.T, s *service) {
				s.do(t, s.admin, "ALTER DATABASE @database ALLOW_CONNECTIONS false", endSessions)
			},
			end:  func(t *testing.T, s *service) { s.do(t, s.admin, "ALTER DATABASE @database ALLOW_CONNECTIONS true") },
			says: "55000", want: tenant.ErrUnavailable,
		},
		"no such database": {
			begin: func(t *testing.T, s *service) {
				pool, err := s.owner.DB()
				require.NoError(t, err)
				pool.SetMaxIdleConns(0)
				s.do(t, s.admin, endSessions, `ALTER DATABASE "@database" RENAME TO "@database_moved"`)
			},
			end: func(t *testing.T, s *service) {
				s.do(t, s.admin, `ALTER DATABASE "@database_moved" RENAME TO "@database"`)
			},
			says: "3D000", want: tenant.ErrUnavailable,
		},
		"read-only": {
			begin: func(t *testing.T, s *service) {
				s.do(t, s.admin, "ALTER ROLE @role SET default_transaction_read_only = on", endSessions)
			},
			end: func(t *testing.T, s *service) {
				s.do(t, s.admin, "ALTER ROLE @role RESET default_transaction_read_only", endSessions)
			},
			says: "25006", want: tenant.ErrUnavailable,
		},
		"INSERT revoked of what a settle writes": {
			begin: func(t *testing.T, s *service) { s.do(t, s.owner, "REVOKE INSERT ON llm_usage FROM @role") },
			end:   func(t *testing.T, s *service) { s.do(t, s.owner, "GRANT INSERT ON llm_usage TO @role") },
			says:  "42501", want: tenant.ErrUnavailable,
		},
		"INSERT revoked of all": {
			begin: func(t *testing.T, s *service) {
				s.do(t, s.owner, "REVOKE INSERT ON ALL TABLES IN SCHEMA public FROM @role")
			},
			end: func(t *testing.T, s *service) {
				s.do(t, s.owner, "GRANT INSERT ON ALL TABLES IN SCHEMA public TO @role")
			},
			says: "42501", want: tenant.ErrUnavailable,
		},
		"a trigger on the roll-up": {
			begin: func(t *testing.T, s *service) { s.raise(t, "llm_usage") },
			end:   func(t *testing.T, s *service) { s.do(t, s.owner, "DROP TRIGGER raising ON llm_usage") },
			says:  "P0001", want: tenant.ErrUnavailable,
		},
		"a trigger on what is settled": {
			begin: func(t *testing.T, s *service) { s.raise(t, "llm_executions") },
			end:   func(t *testing.T, s *service) { s.do(t, s.owner, "DROP TRIGGER raising ON llm_executions") },
			says:  "P0001", want: tenant.ErrUnavailable,
		},
		"llm_executions renamed": {
			begin: func(t *testing.T, s *service) { s.do(t, s.owner, "ALTER TABLE llm_executions RENAME TO elsewhere") },
			end:   func(t *testing.T, s *service) { s.do(t, s.owner, "ALTER TABLE elsewhere RENAME TO llm_executions") },
			says:  "42P01", want: tenant.ErrNotMigrated,
		},
		"llm_usage renamed": {
			begin: func(t *testing.T, s *service) { s.do(t, s.owner, "ALTER TABLE llm_usage RENAME TO elsewhere") },
			end:   func(t *testing.T, s *service) { s.do(t, s.owner, "ALTER TABLE elsewhere RENAME TO llm_usage") },
			says:  "42P01", want: tenant.ErrNotMigrated,
		},
		"a column renamed": {
			begin: func(t *testing.T, s *service) {
				s.do(t, s.owner, "ALTER TABLE llm_usage RENAME COLUMN calls TO made")
			},
			end: func(t *testing.T, s *service) {
				s.do(t, s.owner, "ALTER TABLE llm_usage RENAME COLUMN made TO calls")
			},
			says: "42703", want: tenant.ErrNotMigrated,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			endsAnyway := sync.OnceFunc(func() { c.end(t, s) })
			t.Cleanup(endsAnyway)
			s.stands(t, func() { c.begin(t, s) }, endsAnyway, c.says, c.want)
		})
	}
}

// stands holds the ledger to what is said above, for trouble that begins and ends.
func (s *service) stands(t *testing.T, begin, end func(), says string, want error) {
	t.Helper()
	acme := tenant.ID("acme")
	const calls = 8
	holds := make([]*tenant.Hold, calls)
	for i := range holds {
		var err error
		holds[i], err = s.ledger.Reserve(t.Context(), acme, cent)
		require.NoError(t, err)
	}
	begin()
	outcomes := make([]tenant.Outcome, calls)
	var wg sync.WaitGroup
	for i, hold := range holds {
		wg.Go(func() {
			settlement, err := s.ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.02")})
			if err != nil {
				t.Errorf("settle: %v", err)
			}
			outcomes[i] = settlement.Outcome
		})
	}
	wg.Wait()
	for _, outcome := range outcomes {
		require.Equal(t, tenant.Pending, outcome)
	}
	require.Eventually(t, func() bool {
		p := s.ledger.Pending()
		return p.Bookings == calls && p.Err != nil && strings.Contains(p.Err.Error(), says) && !p.Since.IsZero()
	}, time.Minute, time.Millisecond, "%v", s.ledger.Pending())
	for range 3 {
		_, err := s.ledger.Reserve(t.Context(), acme, cent)
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, says)
	}

	end()
	require.Eventually(t, func() bool { return s.ledger.Pending() == tenant.PendingStatus{} }, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		hold, err := s.ledger.Reserve(t.Context(), acme, cent)
		if err == nil {
			_, err = s.ledger.Release(t.Context(), hold)
		}
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		return balanceOf(t, s.owner, "acme", "total") == balance{SpentCost: calls * 2e7, SpentCalls: calls}
	}, time.Minute, 5*time.Millisecond)
	requireConservation(t, s.owner)

	told := map[string][2]int{}
	require.Eventually(t, func() bool {
		clear(told)
		for _, e := range of[*tenant.PendingEvent](s.witness) {
			n := told[e.ExecutionID]
			if e.Booked {
				n[1]++
			} else {
				n[0]++
			}
			told[e.ExecutionID] = n
		}
		booked := 0
		for _, hold := range holds {
			booked += told[hold.ExecutionID][1]
		}
		return booked == calls
	}, time.Minute, time.Millisecond)
	for _, hold := range holds {
		require.Equal(t, [2]int{1, 1}, told[hold.ExecutionID], "once when it is pending, and once when it is booked")
	}
}

// A server may answer any statement with any error. What it says of one tenant's call does not touch the others.
func TestSettle_OfOneTenantThatTheServerRefusesLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"08006", "0A000", "21000", "22012", "22P02", "23503", "23505", "25006", "25P02", "25P03", "25P04", "26000", "28000", "28P01",
		"3D000", "3F000", "40001", "40P01", "42501", "42601", "42703", "42P01", "42P05", "53100", "53300", "54000", "55000", "55006",
		"55P03", "57014", "57P01", "57P03", "58030", "F0000", "P0001", "XX000", "XX001", "ZZ999",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, "postgres")
			ledger := openLedger(t, db, tenant.WithLanes(1), tenant.WithSettleWait(20*time.Millisecond))
			hold, err := ledger.Reserve(t.Context(), tenant.ID("stuck"), cent)
			require.NoError(t, err)
			require.NoError(t, db.Exec(fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
					IF NEW.status = 'succeeded' AND EXISTS (SELECT FROM llm_tenants t WHERE t.id = NEW.tenant AND t.tenant_id = 'stuck') THEN
						RAISE EXCEPTION 'no' USING ERRCODE = '%s';
					END IF;
					RETURN NEW;
				END $$`, code)).Error)
			require.NoError(t, db.Exec(`CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON llm_executions FOR EACH ROW EXECUTE FUNCTION refuse()`).Error)
			settlement, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
			require.NoError(t, err)
			require.Equal(t, tenant.Pending, settlement.Outcome)

			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					hold, err := ledger.Reserve(t.Context(), tenant.ID(fmt.Sprintf("free-%d", i%4)), cent)
					if err != nil {
						t.Errorf("another tenant's call: %v", err)
						return
					}
					if _, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
						t.Errorf("another tenant's settle: %v", err)
					}
				})
			}
			wg.Wait()
			require.Eventually(t, func() bool { return ledger.Pending().Bookings == 1 }, time.Minute, 5*time.Millisecond, "the others are booked")
			_, err = ledger.Reserve(t.Context(), tenant.ID("stuck"), cent, tenant.WithWait(100*time.Millisecond))
			require.Error(t, err, "its own next call could not be booked either")
			require.True(t, errors.Is(err, tenant.ErrUnavailable) || errors.Is(err, tenant.ErrNotMigrated), "%v", err)

			require.NoError(t, db.Exec(`DROP TRIGGER refuse ON llm_executions`).Error)
			require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
			require.EqualValues(t, 1e7, balanceOf(t, db, "stuck", "total").SpentCost)
			requireConservation(t, db)
		})
	}
}

func TestSQLite_WithoutItsRollUpBooksNothingAdmitsNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"llm_usage", "llm_executions", "llm_balances"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, "sqlite")
			s := &service{owner: db, db: db, witness: &witness{}}
			s.ledger = openLedger(t, db, tenant.WithObserver(s.witness), tenant.WithSettleWait(50*time.Millisecond))
			end := sync.OnceFunc(func() { s.do(t, db, "ALTER TABLE elsewhere RENAME TO "+table) })
			t.Cleanup(end)
			s.stands(t, func() { s.do(t, db, "ALTER TABLE "+table+" RENAME TO elsewhere") }, end, "no such table", tenant.ErrNotMigrated)
		})
	}
}

// A statement that is refused for good is no conflict.
func TestReserve_ThatTheServerRefusesForGoodFailsAtOnceWithItsWords(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
	require.NoError(t, err)
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err)
	require.NoError(t, db.Exec(`CREATE SEQUENCE tries`).Error)
	require.NoError(t, db.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'not on a foreign table' USING ERRCODE = '0A000'; END $$`).Error)
	require.NoError(t, db.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON llm_executions FOR EACH ROW EXECUTE FUNCTION refuse()`).Error)
	_, err = ledger.Reserve(context.Background(), tenant.ID("acme"), cent)
	require.ErrorIs(t, err, tenant.ErrUnavailable)
	require.ErrorContains(t, err, "not on a foreign table")
	var tries int64
	require.NoError(t, db.Raw(`SELECT last_value FROM tries`).Scan(&tries).Error)
	require.EqualValues(t, 1, tries)
	require.NoError(t, db.Exec(`DROP TRIGGER refuse ON llm_executions`).Error)
	require.Equal(t, balance{}, balanceOf(t, db, "acme", "total"))
}

// A refusal that no call of its tenant follows is on the books soon, and in any case once the ledger is closed.
func TestRefusals_AreOnTheBooksAlthoughNoCallFollows(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			ledger, err := tenant.Open(db, tenant.WithDefaultLimits(tenant.Limits{DailyCalls: tenant.Count(0)}), tenant.WithDefaultEnforcement(tenant.Hard))
			require.NoError(t, err)
			require.NoError(t, ledger.Migrate(t.Context()))
			for range 4 {
				require.ErrorIs(t, call(t, ledger, acme, "1"), tenant.ErrBudgetExceeded)
			}
			require.NoError(t, ledger.Close(t.Context()))
			again := openLedger(t, db)
			s, err := tenant.UsageSummary(t.Context(), db, acme, tenant.Today)
			require.NoError(t, err)
			require.EqualValues(t, 4, s.Refusals)
			found, err := again.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, found)
		})
	}
}
