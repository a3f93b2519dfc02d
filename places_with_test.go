package tenant_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// busyInPlaces has tenants of all places make calls while they are moved, and looks that the books agree.
func busyInPlaces(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
	t.Helper()
	const tenants, calls = 6, 8
	var wg sync.WaitGroup
	for i := range tenants {
		id := tenant.ID(fmt.Sprint("busy-", i))
		place(t, db, id, "", "1")
		wg.Go(func() {
			for range calls {
				hold, err := ledger.Reserve(context.Background(), id, tenant.Estimate{Model: "m", Cost: tenant.USD("0.2")}, patiently)
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				if _, err := ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.1")}); err != nil {
					t.Errorf("settle: %v", err)
				}
			}
		})
	}
	for n := range tenants {
		insist(t, ledger, tenant.ID(fmt.Sprint("busy-", n)), moves[n%3])
	}
	wg.Wait()
	for i := range tenants {
		id := tenant.ID(fmt.Sprint("busy-", i))
		require.Equal(t, "0.8", costToday(t, db, id))
		require.ErrorIs(t, call(t, ledger, id, "0.3"), tenant.ErrBudgetExceeded)
	}
	all, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.AllTime})
	require.NoError(t, err)
	require.Equal(t, "4.8", all.Total.Cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestPlaces_WithSeveralLanesEachAndAPoolOfTheirOwn(t *testing.T) {
	t.Parallel()
	dsn := placesDSN(t)
	db := openOverPlaces(t, dsn)
	const lanes, home = 3, 1
	hosts, err := db.DB()
	require.NoError(t, err)
	hosts.SetMaxOpenConns(4) // of which no lane has any
	pool, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	pool.SetMaxOpenConns(lanes * (len(eastAndWest) + home))
	options := []tenant.OpenOption{tenant.WithPlaces(eastAndWest...), tenant.WithLanes(lanes), tenant.WithLaneDB(pool)}
	_, err = tenant.Open(db, options...)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "9 lanes need 10")
	pool.SetMaxOpenConns(lanes*(len(eastAndWest)+home) + 1)
	ledger := openLedger(t, db, options...)
	busyInPlaces(t, db, ledger)
	require.Len(t, ledger.Lanes(), 9)
}

func TestPlaces_BehindPgBouncer(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"simple_protocol", "exec"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			config := postgres.Config{DSN: pgtest.Bouncer(t, placesDSN(t)), PreferSimpleProtocol: true}
			if protocol != "simple_protocol" {
				config.DSN += "&default_query_exec_mode=" + protocol
				config.PreferSimpleProtocol = false
			}
			db := openAt(t, postgres.New(config))
			busyInPlaces(t, db, openLedger(t, db, tenant.WithPlaces(eastAndWest...)))
		})
	}
}

func TestPlaces_AreReadOnAReplica(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	standby := pgtest.Replica(t, server)
	replica := openAt(t, postgres.Open(standby.URL()))
	ledger := openLedger(t, db, tenant.WithPlaces(eastAndWest...), tenant.WithReadDB(replica), tenant.WithMaxReadLag(time.Hour))
	require.NoError(t, ledger.Migrate(t.Context()))
	ids := []tenant.ID{acme, "globex", "initech", "umbrella"}
	for i, id := range ids {
		require.NoError(t, call(t, ledger, id, "0.25"))
		insist(t, ledger, id, moves[i%3])
	}
	follows(t, ledger)
	require.NoError(t, replica.Exec(`SELECT pg_wal_replay_pause()`).Error)
	require.Eventually(t, func() bool {
		var state string
		require.NoError(t, replica.Raw(`SELECT pg_get_wal_replay_pause_state()`).Scan(&state).Error)
		return state == "paused"
	}, isCalm, 10*time.Millisecond)
	// The replica knows neither of these calls nor of the moves: it answers by where the tenants were.
	for i, id := range ids {
		require.NoError(t, call(t, ledger, id, "0.25"))
		insist(t, ledger, id, moves[(i+1)%3])
	}
	usage := func(on *gorm.DB, q tenant.Query) string {
		q.Period = tenant.Today
		answer, err := tenant.QueryUsage(t.Context(), on, q)
		require.NoError(t, err)
		return answer.Total.Cost.String()
	}
	everybody := tenant.Query{Everybody: true, By: []tenant.Group{tenant.ByTenant}}
	require.Equal(t, []string{"1", "2"}, []string{usage(replica, everybody), usage(db, everybody)})
	rows := func(on *gorm.DB, what tenant.Exportable) int {
		var out bytes.Buffer
		_, err := tenant.Export(t.Context(), on, &out, tenant.CSV(), what)
		require.NoError(t, err)
		return strings.Count(out.String(), "\n") - 1
	}
	for _, id := range ids {
		q := tenant.Query{Tenant: id}
		require.Equal(t, []string{"0.25", "0.5"}, []string{usage(replica, q), usage(db, q)})
		require.Equal(t, []string{"0.5", "0.5"}, []string{costToday(t, replica, id), costToday(t, db, id)}, "money is read on the primary")
		require.Equal(t, []int{1, 2}, []int{rows(replica, tenant.ExecutionQuery{Tenant: id}), rows(db, tenant.ExecutionQuery{Tenant: id})})
		page, err := tenant.ExecutionsPage(t.Context(), replica, tenant.ExecutionQuery{Tenant: id}, 10)
		require.NoError(t, err)
		require.Len(t, page.Executions, 1)
		var n int64
		require.NoError(t, tenant.Executions(t.Context(), replica, id).Count(&n).Error)
		require.EqualValues(t, 1, n)
		status, err := tenant.BudgetStatus(t.Context(), replica, id)
		require.NoError(t, err)
		require.Equal(t, string(id), status.TenantID)
	}
	require.Equal(t, []int{4, 8}, []int{rows(replica, tenant.ExecutionQuery{Everybody: true}), rows(db, tenant.ExecutionQuery{Everybody: true})})
	list, err := tenant.ListTenants(t.Context(), replica, tenant.TenantList{})
	require.NoError(t, err)
	require.Len(t, list, len(ids))
	require.Equal(t, "0.5", list[0].Today.String(), "money is read on the primary")
	require.NoError(t, replica.Exec(`SELECT pg_wal_replay_resume()`).Error)
	require.Eventually(t, func() bool { return usage(replica, everybody) == "2" }, isCalm, 10*time.Millisecond)
	require.Equal(t, 8, rows(replica, tenant.ExecutionQuery{Everybody: true}))
}

// asRole opens a database as a role that is made for it, and may what it is granted.
func asRole(t *testing.T, owner *gorm.DB, dsn string, grants ...string) *gorm.DB {
	t.Helper()
	role := "role_" + strings.ToLower(rand.Text())
	for _, statement := range append([]string{"CREATE ROLE @ LOGIN PASSWORD 'role'"}, grants...) {
		require.NoError(t, owner.Exec(strings.ReplaceAll(statement, "@", role)).Error)
	}
	t.Cleanup(func() {
		require.NoError(t, owner.Exec("DROP OWNED BY "+role).Error)
		require.NoError(t, owner.Exec("DROP ROLE "+role).Error)
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "role")
	return openAt(t, postgres.Open(u.String()))
}

func TestMove_ByARoleThatMayNotNamesWhatToGrant(t *testing.T) {
	t.Parallel()
	dsn := placesDSN(t)
	db := openOverPlaces(t, dsn)
	books := openLedger(t, db)
	var org tenant.ID // that is put into east: the role is looked for nowhere else
	for n := 0; org == "" || placeOf(t, db, string(org)) != "east"; n++ {
		org = tenant.ID(fmt.Sprint("org-", n))
		require.NoError(t, call(t, books, org, "0.5"))
	}
	rights := func(schemas ...string) (grants []string) {
		for _, schema := range schemas {
			grants = append(grants, "GRANT USAGE ON SCHEMA "+schema+" TO @", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "+schema+" TO @",
				"GRANT USAGE ON ALL SEQUENCES IN SCHEMA "+schema+" TO @")
		}
		return grants
	}
	// Who may not even look whether a place is there is told so at once.
	shut := openLedger(t, asRole(t, openAt(t, postgres.Open(dsn)), dsn, rights("public", "east")...), tenant.WithPlaces(eastAndWest...))
	require.ErrorContains(t, call(t, shut, org, "0.125"), "permission denied for schema west")
	_, err := shut.MigrationStatus(t.Context())
	require.ErrorContains(t, err, "permission denied for schema west")

	// This one comes as far as to the copying.
	more := []string{"GRANT USAGE ON SCHEMA west TO @", "GRANT SELECT, INSERT, UPDATE ON west.llm_processes TO @"}
	limited := openLedger(t, asRole(t, openAt(t, postgres.Open(dsn)), dsn, append(rights("public", "east"), more...)...), tenant.WithPlaces(eastAndWest...))
	require.NoError(t, call(t, limited, org, "0.125"), "its own place is enough for calls")
	_, err = limited.Move(t.Context(), org, "west")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `Move: the role that the ledger connects as lacks a right`)
	require.ErrorContains(t, err, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA west`)
	require.ErrorContains(t, err, "permission denied")
	require.Equal(t, "east", placeOf(t, db, string(org)))
	require.Equal(t, "0.625", costToday(t, db, org))
	requireConservation(t, db)

	// It may not make places, and does not say that one is behind because it may not look.
	require.ErrorContains(t, limited.Migrate(t.Context()), "permission denied")
	_, err = limited.MigrationStatus(t.Context())
	require.ErrorContains(t, err, "permission denied for table llm_migrations")
	require.NoError(t, call(t, limited, org, "0.125"))
	insist(t, books, org, "west")
	require.Equal(t, "0.75", costToday(t, db, org))
}
