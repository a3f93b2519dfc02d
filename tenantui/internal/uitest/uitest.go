// Package uitest has the books that tests of pages look at: some companies, two months of calls, and one whose name is hostile.
package uitest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/pricing"
)

// Hostile is the id, and a part of the name, of a tenant who would run a script. It does no more than leave a mark.
const (
	Hostile     = `"><img src=x onerror="window.marked=1">`
	HostileName = `<script>window.marked=1</script>=HYPERLINK("x") {{.}}`
)

// Days is how far back the calls go.
const Days = 75

// model is one that is called, and how much of it.
type model struct {
	provider, name string
	usage          tenant.Usage
	agent          string
}

var models = []model{
	{"openai", "gpt-5.6-luna", tenant.Usage{Input: 5200, CacheRead: 9400, Output: 900, Reasoning: 1400}, "support"},
	{"anthropic", "claude-opus-5", tenant.Usage{Input: 2100, CacheRead: 21000, CacheWrite5m: 3100, Output: 1300}, "research"},
	{"anthropic", "claude-haiku-4-5", tenant.Usage{Input: 1800, Output: 420}, "triage"},
	{"google", "gemini-3.5-flash", tenant.Usage{Input: 6400, Output: 700, InputImage: 2300}, "documents"},
}

type customer struct {
	id, name, parent string
	share            int // of a hundred calls a day
	daily, monthly   string
}

var customers = []customer{
	{"acme", "Acme Corporation", "", 18, "16", "260"}, {"acme-support", "Acme Support", "acme", 14, "9", "90"}, {"acme-research", "Acme Research", "acme", 9, "", "60"},
	{"globex", "Globex", "", 16, "8", "72"}, {"initech", "Initech", "", 11, "", "80"}, {"umbrella", "Umbrella Health", "", 9, "3", ""},
	{"hooli", "Hooli", "", 8, "", "80"}, {"stark", "Stark Logistics", "", 6, "2", "40"}, {Hostile, HostileName, "", 5, "2", "30"}, {"wayne", "Wayne Studios", "", 4, "", "29"},
}

// Open returns a database with a ledger on it and nothing in its books.
func Open(t testing.TB, options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	return at(t, filepath.Join(t.TempDir(), "books.db"), options...)
}

// at opens a ledger on a file.
func at(t testing.TB, path string, options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	db, err := gorm.Open(sqlite.Open(path+"?_pragma=busy_timeout(10000)"), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return db, On(t, db, options...)
}

// On opens a ledger on a database, with the shipped prices and terms of some customers.
func On(t testing.TB, db *gorm.DB, options ...tenant.OpenOption) *tenant.Ledger {
	t.Helper()
	prices, err := pricing.Default().With(
		pricing.TenantTerms("acme", pricing.Terms{Factor: "1.15"}), pricing.TenantTerms("acme-support", pricing.Terms{Factor: "1.15"}),
		pricing.TenantTerms("acme-research", pricing.Terms{Factor: "1.1"}), pricing.TenantTerms("initech", pricing.Terms{Factor: "1.2"}),
	)
	require.NoError(t, err)
	ledger, err := tenant.Open(db, append([]tenant.OpenOption{
		tenant.WithLogger(slog.New(slog.DiscardHandler)), tenant.WithPrices(prices), tenant.WithDefaultTimeZone("Europe/Berlin"),
	}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, ledger.Close(ctx))
	})
	require.NoError(t, ledger.Migrate(t.Context()))
	return ledger
}

// Shelf keeps books that were filled once, for tests that each want a copy.
type Shelf struct {
	once  sync.Once
	books []byte
}

// Books returns a database with a ledger on it and two months in its books: a copy of the test's own.
func (s *Shelf) Books(t testing.TB) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	s.once.Do(func() {
		path := filepath.Join(t.TempDir(), "filled.db")
		db, ledger := at(t, path)
		Fill(t, db, ledger)
		require.NoError(t, ledger.Close(t.Context()))
		require.NoError(t, db.Exec("PRAGMA wal_checkpoint(TRUNCATE)").Error)
		var err error
		s.books, err = os.ReadFile(path)
		require.NoError(t, err)
	})
	path := filepath.Join(t.TempDir(), "books.db")
	require.NoError(t, os.WriteFile(path, s.books, 0o600))
	return at(t, path)
}

// Fill gives the books two months of calls. The same figures come out for the same day.
func Fill(t testing.TB, db *gorm.DB, ledger *tenant.Ledger) {
	ctx := context.Background()
	for _, c := range customers {
		require.NoError(t, tenant.ConfigureBudget(tenant.ContextWithReason(tenant.ContextWithActor(ctx, "sales@example.com"), "signed the contract"), db, tenant.ID(c.id), func(b *tenant.Budget) error {
			b.Name, b.ParentID, b.Enforcement = c.name, c.parent, tenant.Hard
			if c.daily != "" {
				b.Limits.DailyCost = tenant.USD(c.daily)
			}
			if c.monthly != "" {
				b.Limits.MonthlyCost = tenant.USD(c.monthly)
			}
			b.Limits.DailyTokens = tenant.Count(6_000_000)
			return nil
		}))
	}
	book(t, ledger)
	spread(t, db)
	_, err := ledger.Repair(ctx)
	require.NoError(t, err)
	staff := tenant.ContextWithActor(ctx, "finance@example.com")
	_, err = ledger.Credit(staff, tenant.ID("acme"), tenant.USD("4.5"), "outage of Tuesday")
	require.NoError(t, err)
	require.NoError(t, ledger.TopUp(staff, tenant.ID("globex"), tenant.TopUp{Limit: tenant.Limit{Window: tenant.Month, Cost: tenant.USD("25")}, Reason: "bought credits"}))
	require.NoError(t, tenant.ConfigureBudget(tenant.ContextWithReason(staff, "invoice is overdue"), db, tenant.ID("wayne"), func(b *tenant.Budget) error {
		b.Suspended = true
		return nil
	}))
}

// book records the calls.
func book(t testing.TB, ledger *tenant.Ledger) {
	random := rand.New(rand.NewPCG(7, 11))
	type call struct {
		who     tenant.Tenant
		actual  tenant.Actual
		options []tenant.RecordOption
	}
	calls := make(chan call)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for c := range calls {
				_, err := ledger.Record(context.Background(), c.who, c.actual, c.options...)
				require.NoError(t, err)
			}
		})
	}
	for day := Days; day >= 0; day-- {
		for n := range 22 + random.IntN(18) + (Days-day)/5 {
			var who tenant.Tenant
			at := random.IntN(104)
			for _, c := range customers {
				if at -= c.share; at < 0 {
					who = tenant.ID(c.id)
					break
				}
			}
			m := models[random.IntN(len(models))]
			by := int64(2 + random.IntN(9))
			a := tenant.Actual{Provider: m.provider, Model: m.name, RequestID: fmt.Sprintf("seed-%03d-%03d", day, n), Usage: times(m.usage, by)}
			if who == nil {
				a.Usage = times(a.Usage, 1)
			}
			switch random.IntN(60) {
			case 0:
				a.ErrorCode = "http_529"
			case 1:
				a.Estimated = true
			case 2:
				a.Provider, a.Model = "openai", "gpt-next-preview"
			}
			options := []tenant.RecordOption{tenant.WithAgent(m.agent), tenant.WithTag("feature", []string{"chat", "search", "export"}[random.IntN(3)])}
			calls <- call{who, a, options}
		}
	}
	close(calls)
	wg.Wait()
}

func times(u tenant.Usage, by int64) tenant.Usage {
	for _, n := range []*int64{&u.Input, &u.CacheRead, &u.CacheWrite5m, &u.Output, &u.Reasoning, &u.InputImage} {
		*n *= by * 3
	}
	return u
}

// spread moves the calls to the days that they are to be of: a ledger books them where it is asked to, which is now.
func spread(t testing.TB, db *gorm.DB) {
	var rows []struct{ Tenant, ID, RequestID string }
	require.NoError(t, db.Model(&tenant.Execution{}).Select("tenant, id, request_id").Where("request_id LIKE 'seed-%'").Order("request_id").Find(&rows).Error)
	now := time.Now().UTC().Truncate(time.Microsecond)
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		for _, r := range rows {
			var day, n int
			if _, err := fmt.Sscanf(r.RequestID, "seed-%d-%d", &day, &n); err != nil {
				return err
			}
			at := now.AddDate(0, 0, -day).Add(-time.Duration(n*7+2) * time.Minute)
			if day == 0 { // within today, however early it is
				at = now.Add(-time.Duration(n+1) * time.Second)
			}
			ended := at.Add(time.Duration(900+n*37) * time.Millisecond)
			if err := tx.Exec("UPDATE llm_executions SET admitted_at = ?, deadline_at = ?, finished_at = ?, settled_at = ? WHERE tenant = ? AND id = ?",
				sqldb.Text(at), sqldb.Text(at.Add(time.Hour)), sqldb.Text(ended), sqldb.Text(ended), r.Tenant, r.ID).Error; err != nil {
				return err
			}
		}
		return nil
	}))
}
