package main

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/examples/internal/database"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// databases runs a test on both.
func databases(t *testing.T, test func(t *testing.T, db string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, filepath.Join(t.TempDir(), "saas.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.Empty(t))
	})
}

func TestSaas_TwoInstancesOfWhichOneIsKilledKeepTheBooksRight(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, where string) {
		var (
			both  [2]*instance
			begun sync.WaitGroup
		)
		for n := range both {
			begun.Go(func() { both[n] = start(t, where) })
		}
		begun.Wait()
		a, b := both[0], both[1]
		require.NotNil(t, a)
		require.NotNil(t, b)
		var customers []customer
		for _, name := range []string{"Acme", "Globex", "Initech", "Umbrella Health", "Hooli"} {
			customers = append(customers, signUp(t, a, name))
		}
		for _, c := range customers[:3] {
			b.takePlan(t, c, "pro")
		}

		l := newLoad(t, both[:], customers)
		l.until(t, 60)
		a.kill(t)
		l.use(b)
		l.until(t, 60)
		a = start(t, where)
		l.use(a, b)
		l.until(t, 60)
		l.stop()
		require.Positive(t, l.refused["hooli"], "who is on the free plan meets its limit")
		db, ledger := openBooks(t, where)
		require.Eventually(t, func() bool {
			running, err := tenant.Running(t.Context(), db)
			return err == nil && running.Calls == 0
		}, 2*time.Minute, 50*time.Millisecond, "the others charge what the killed one held, when its lease has ended")
		a.stop(t)
		b.stop(t)
		checkBooks(t, db, ledger, customers, l)
	})
}

// checkBooks finds everything on the books that a client was told, and nothing that is over a limit.
func checkBooks(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, customers []customer, l *load) {
	t.Helper()
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)

	booked := 0
	for _, c := range customers {
		var charged decimal.Decimal
		for e, err := range tenant.ListExecutions(t.Context(), db, tenant.ExecutionQuery{Tenant: tenant.ID(c.Organization)}) {
			require.NoError(t, err)
			charged = charged.Add(e.Charge())
			told, ok := l.answers[e.ID]
			if !ok {
				continue
			}
			booked++
			require.Equal(t, c.Organization, l.owners[e.ID])
			require.Equal(t, "succeeded", e.Status)
			require.True(t, told.Charge.Equal(e.Charge()), "told %s, booked %s", told.Charge, e.Charge())
		}
		total, err := tenant.Charge(t.Context(), db, tenant.ID(c.Organization), tenant.AllTime)
		require.NoError(t, err)
		require.True(t, total.Equal(charged), "%s: %s, and its executions are %s", c.Organization, total, charged)
	}
	require.Len(t, l.answers, booked, "every answer is on the books, once")
	for _, c := range customers[3:] {
		total, err := tenant.Charge(t.Context(), db, tenant.ID(c.Organization), tenant.AllTime)
		require.NoError(t, err)
		days := int64(1)
		if !l.oneDay {
			days = 2 // midnight came in between
		}
		require.True(t, total.LessThanOrEqual(decimal.RequireFromString("0.002").Mul(decimal.NewFromInt(days))), "%s has spent %s", c.Organization, total)
	}
}

func openBooks(t *testing.T, where string) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	db, _, err := database.Open(where)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close(db)) })
	ledger, err := tenant.Open(db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close(context.Background())) })
	return db, ledger
}

func TestSaas_ALargerPlanLetsCallsPass(t *testing.T) {
	t.Parallel()
	i := start(t, filepath.Join(t.TempDir(), "saas.db"), "-pace", "0s")
	c := signUp(t, i, "Acme")
	ask := func() got { return i.post(t.Context(), t, c.Key, "/api/chat", asJSON, whyText) }
	g := ask()
	for g.status == http.StatusOK {
		g = ask()
	}
	require.Equal(t, http.StatusPaymentRequired, g.status, g.body)
	require.Contains(t, g.body, `"resets_at"`)
	i.takePlan(t, c, "pro")
	g = ask()
	require.Equal(t, http.StatusOK, g.status, g.body)
	i.stop(t)
}

func TestSaas_ShowsEachOneHisOwn(t *testing.T) {
	t.Parallel()
	i := start(t, filepath.Join(t.TempDir(), "saas.db"), "-pace", "0s")
	acme, globex := signUp(t, i, "Acme"), signUp(t, i, "Globex")
	require.Equal(t, http.StatusOK, i.post(t.Context(), t, acme.Key, "/api/chat", asJSON, whyText).status)

	g := i.get(t, "/", "", "")
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, "Sign up")
	g = i.get(t, "/", sessionCookie, acme.Key)
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, "Acme")
	g = i.get(t, "/usage/", sessionCookie, acme.Key)
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, "Acme")
	require.NotContains(t, g.body, "Globex")
	require.NotContains(t, i.get(t, "/usage/", sessionCookie, globex.Key).body, "Acme")
	for _, key := range []string{"", "nobody's"} {
		require.Equal(t, http.StatusForbidden, i.get(t, "/usage/", sessionCookie, key).status)
	}

	g = i.get(t, "/admin/", sessionCookie, acme.Key)
	require.Equal(t, http.StatusSeeOther, g.status, "a customer is no operator")
	g = i.get(t, "/admin/tenants", adminCookie, adminKey)
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, "Globex")
	g = i.get(t, "/healthz", "", "")
	require.Equal(t, http.StatusOK, g.status)
	require.JSONEq(t, `{"status":"ok","pending":0}`, g.body)
	i.stop(t)
}

func TestSaas_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	i := start(t, filepath.Join(t.TempDir(), "saas.db"), "-pace", "0s")
	c := signUp(t, i, "Acme")
	for _, bad := range []struct {
		name, key, path, contentType, body string
		status                             int
		says                               string
	}{
		{"a name that is taken", "", "/signup", form, "name=acme", http.StatusUnprocessableEntity, "taken"},
		{"a name of markup", "", "/signup", form, "name=%3Cb%3E", http.StatusUnprocessableEntity, "letters"},
		{"a key of nobody's", "", "/signin", form, "key=x", http.StatusForbidden, "nobody"},
		{"nobody who asks", "", "/api/chat", asJSON, `{"question":"Why?"}`, http.StatusForbidden, "Forbidden"},
		{"no question", c.Key, "/api/chat", asJSON, `{}`, http.StatusBadRequest, "question"},
		{"no JSON", c.Key, "/api/chat/stream", asJSON, `why`, http.StatusBadRequest, "question"},
		{"a plan that is none", c.Key, "/plan", form, "plan=gold", http.StatusBadRequest, "no such plan"},
		{"the wrong key of operators", "", "/admin/signin", form, "key=x", http.StatusForbidden, "not the key"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			g := i.post(t.Context(), t, bad.key, bad.path, bad.contentType, bad.body)
			require.Equal(t, bad.status, g.status, g.body)
			require.Contains(t, g.body, bad.says)
		})
	}
	i.stop(t)
}

func TestSaas_SaysInOneLineWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct {
		name string
		args []string
		says string
	}{
		{"a database that is none", []string{"-db", "mysql://x"}, "mysql://"},
		{"an argument too many", []string{"now"}, `unexpected argument "now"`},
		{"an address that is none", []string{"-db", filepath.Join(t.TempDir(), "saas.db"), "-addr", "127.0.0.1:99999"}, "-addr"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			code, said := startFails(t, bad.args...)
			require.Equal(t, 1, code)
			require.Equal(t, 1, strings.Count(said, "\n"), said)
			require.True(t, strings.HasPrefix(said, "saas: "), said)
			require.Contains(t, said, bad.says)
		})
	}
}

func startFails(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := program(t, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	err := cmd.Run()
	var exited *exec.ExitError
	require.ErrorAs(t, err, &exited)
	return exited.ExitCode(), errs.String()
}
