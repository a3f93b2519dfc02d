package main_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/pricing"
)

// hostile is a name that would drive a terminal: it clears the screen, twice, and turns the text around.
const hostile = "Evil\x1b[2J\u009b2J\u202egnp.exe"

// books are a database with books, and the environment with which the command finds them.
type books struct {
	testing.TB
	url string
	env []string
	db  *gorm.DB
	*tenant.Ledger
}

// each runs a test on both databases.
func each(t *testing.T, test func(t *testing.T, b *books)) {
	for _, name := range []string{"postgres", "sqlite"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, name, true))
		})
	}
}

// open opens an empty database of the test's own.
func open(t testing.TB, name string, migrated bool) *books {
	t.Helper()
	b := &books{TB: t}
	var dialector gorm.Dialector
	switch {
	case name == "sqlite":
		file := filepath.Join(t.TempDir(), "books.db")
		b.url = "sqlite:" + file
		dialector = sqlite.Open(file + "?_pragma=busy_timeout(10000)")
	case migrated:
		b.url = pgtest.DSN(t)
		dialector = postgres.Open(b.url)
	default:
		b.url = pgtest.Empty(t)
		dialector = postgres.Open(b.url)
	}
	b.env = []string{"TENANT_DATABASE_URL=" + b.url}
	if !migrated {
		return b
	}
	var err error
	b.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := b.db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	b.Ledger, err = tenant.Open(b.db, tenant.WithPrices(pricing.Default()), tenant.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, b.Close(ctx))
	})
	require.NoError(t, b.Migrate(t.Context()))
	return b
}

// filled has three tenants and some calls in the books: acme, its team below it, and one with a hostile name.
func filled(t *testing.T, test func(t *testing.T, b *books)) {
	each(t, func(t *testing.T, b *books) {
		b.fill(30)
		test(t, b)
	})
}

var march = time.Date(2026, time.March, 2, 10, 0, 0, 0, time.UTC)

func (b *books) fill(calls int) {
	b.Helper()
	ctx := tenant.ContextWithReason(tenant.ContextWithActor(b.Context(), "sales"), "signed")
	for _, t := range []struct{ id, name, parent string }{{"acme", "Acme", ""}, {"acme-support", "Acme Support", "acme"}, {"evil", "Evil", ""}} {
		require.NoError(b, tenant.ConfigureBudget(ctx, b.db, tenant.ID(t.id), func(budget *tenant.Budget) error {
			budget.Name, budget.ParentID, budget.Enforcement = t.name, t.parent, tenant.Hard
			budget.Limits.MonthlyCost = tenant.USD("1000")
			if t.id == "evil" {
				budget.TimeZone = "Europe/Berlin"
			}
			return nil
		}))
	}
	// As from another program, which checks nothing.
	require.NoError(b, b.db.Exec(`UPDATE llm_tenants SET name = ? WHERE tenant_id = 'evil'`, hostile).Error)
	_, err := b.Import(b.Context(), "fixture", marchCalls(calls))
	require.NoError(b, err)
}

// marchCalls are calls from March 2026 on, one every hour, or every minute where they are many, each of a thousandth of a dollar and a nano-dollar.
func marchCalls(n int) iter.Seq2[tenant.ImportedCall, error] {
	every := time.Hour
	if n > 500 {
		every = time.Minute
	}
	return func(yield func(tenant.ImportedCall, error) bool) {
		for i := range n {
			c := tenant.ImportedCall{
				ID: fmt.Sprint("call-", i), Tenant: tenant.ID([]string{"acme", "acme-support", "evil"}[i%3]), At: march.Add(time.Duration(i) * every),
				Agent: []string{"chat", "search"}[i%2], Tags: map[string]string{"feature": "f" + fmt.Sprint(i%2)},
				Actual: tenant.Actual{Provider: "openai", Model: "gpt-4.1-mini", Usage: tenant.Usage{Input: 1000, Output: 200}, Cost: tenant.USD("0.001000001")},
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Conditions are waited for, with a bound that a loaded machine does not meet.
const (
	patience = time.Minute
	tick     = 5 * time.Millisecond
)

// ok runs a command that has to be done, and returns what it has printed.
func (b *books) ok(args ...string) string {
	b.Helper()
	r := run(b, b.env, args...)
	require.Equal(b, 0, r.code, "%v: %s%s", args, r.out, r.problems)
	return r.out
}

// fails runs a command that has to end with a code, and returns what it has said.
func (b *books) fails(code int, args ...string) string {
	b.Helper()
	r := run(b, b.env, args...)
	require.Equal(b, code, r.code, "%v: %s%s", args, r.out, r.problems)
	require.NotEmpty(b, r.problems, "%v", args)
	return r.problems
}

// tables are all rows of the ledger's tables, for what is to write nothing.
func (b *books) tables() map[string][]map[string]any {
	b.Helper()
	var names []string
	if strings.HasPrefix(b.url, "sqlite") {
		require.NoError(b, b.db.Raw(`SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'llm\_%' ESCAPE '\' ORDER BY name`).Scan(&names).Error)
	} else {
		require.NoError(b, b.db.Raw(`SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename LIKE 'llm\_%' ORDER BY tablename`).Scan(&names).Error)
	}
	require.Greater(b, len(names), 8)
	all := map[string][]map[string]any{}
	for _, name := range names {
		if name == "llm_processes" { // heartbeats go on
			continue
		}
		var rows []map[string]any
		require.NoError(b, b.db.Table(name).Order("1, 2").Find(&rows).Error)
		all[name] = rows
	}
	return all
}

// writesNothing runs a command, and finds the books as they were.
func (b *books) writesNothing(args ...string) string {
	b.Helper()
	before := b.tables()
	out := b.ok(args...)
	require.Equal(b, before, b.tables(), "%v has written", args)
	return out
}
