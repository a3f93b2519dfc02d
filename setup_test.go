package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// openDatabase opens a new database, with the ledger's tables in it.
func openDatabase(t testing.TB, dialect string) *gorm.DB {
	t.Helper()
	switch dialect {
	case "postgres":
		return openAt(t, postgres.Open(pgtest.DSN(t)))
	case "places":
		db := openOverPlaces(t, placesDSN(t))
		mixPlaces(t, db)
		return db
	case "citus":
		dsn, names := citusHome(t)
		return openOverPlaces(t, dsn, names...)
	}
	db := openAt(t, sqlite.Open(sqliteDSN(t)))
	ledger, err := tenant.Open(db)
	require.NoError(t, err)
	require.NoError(t, ledger.Migrate(t.Context()))
	require.NoError(t, ledger.Close(t.Context()))
	return db
}

func sqliteDSN(t testing.TB) string {
	return filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(60000)" // as long as a busy machine takes
}

func openAt(t testing.TB, dialector gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return db
}

// openLedger opens a ledger that is closed at the end of the test, which fails if calls are left unsettled. Where the test does
// not say otherwise, its log is the test's, and no settle is Pending because the machine is busy.
func openLedger(t testing.TB, db *gorm.DB, options ...tenant.OpenOption) *tenant.Ledger {
	t.Helper()
	log := slog.New(slog.NewTextHandler(newOutput(t), nil))
	always := []tenant.OpenOption{tenant.WithLogger(log), tenant.WithSettleWait(time.Minute)}
	always = append(always, inItsPlaces(db)...)
	ledger, err := tenant.Open(db, append(always, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, ledger.Close(ctx))
	})
	return ledger
}

// output is what a test writes: shown if it fails. It takes nothing more once the test is over, when a ledger that could not be
// closed may still write.
type output struct {
	mu sync.Mutex
	to io.Writer
}

func newOutput(t testing.TB) *output {
	o := &output{to: t.Output()}
	if os.Getenv(helperTask) != "" { // whose output the test reads
		o.to = io.Discard
	}
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.to = io.Discard
	})
	return o
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(b)
}

// eachDatabase runs a test on every database, each time with a new one and a ledger on it.
func eachDatabase(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger), options ...tenant.OpenOption) {
	eachDialect(t, func(t *testing.T, db *gorm.DB) { test(t, db, openLedger(t, db, options...)) })
}

// onOneSet is eachDatabase without places, for the root, which there cannot be with them, and for what is of one place.
func onOneSet(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger), options ...tenant.OpenOption) {
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			test(t, db, openLedger(t, db, options...))
		})
	}
}

// everyDatabase is what openDatabase opens: with the books in one place, and on PostgreSQL also in several, the home among them.
var everyDatabase = []string{"postgres", "sqlite", "places"}

// eachDialect runs a test on every database.
func eachDialect(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			test(t, openDatabase(t, dialect))
		})
	}
}

// everywhere is [eachDatabase], and over the places of Citus too.
func everywhere(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger), options ...tenant.OpenOption) {
	eachDatabase(t, test, options...)
	t.Run("citus", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t, "citus")
		test(t, db, openLedger(t, db, options...))
	})
}

// overOneAndPlaces runs a test of several processes on a database of PostgreSQL, and on one with places, also those of Citus.
func overOneAndPlaces(t *testing.T, test func(t *testing.T, dsn string, db *gorm.DB)) {
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.DSN(t)
		test(t, dsn, openAt(t, postgres.Open(dsn)))
	})
	t.Run("places", func(t *testing.T) {
		t.Parallel()
		dsn := placesDSN(t)
		test(t, dsn, openOverPlaces(t, dsn))
	})
	t.Run("citus", func(t *testing.T) {
		t.Parallel()
		dsn, names := citusHome(t)
		test(t, dsn, openOverPlaces(t, dsn, names...))
	})
}

// Organization is a model of a host, declared by its method and by its field alike.
type Organization struct {
	ID   uint
	Slug string `gorm:"uniqueIndex"`
	Name string
}

func (o *Organization) LLMTenantID() string { return o.Slug }

// newOrganization declares Organization with some options and creates one.
func newOrganization(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, slug string, options ...tenant.RegisterOption) *Organization {
	t.Helper()
	makeTable(t, db, &Organization{}, "organizations")
	require.NoError(t, ledger.Register(&Organization{}, append([]tenant.RegisterOption{tenant.WithKey("Slug")}, options...)...))
	org := &Organization{Slug: slug, Name: "Organization " + slug}
	require.NoError(t, db.Create(org).Error)
	return org
}

func TestMain(m *testing.M) {
	// A gorm handle with prepared statements keeps a goroutine for its cache, which nothing can end.
	cache := goleak.IgnoreTopFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")
	// A helper process that has ended by itself still waits for what the test might tell it.
	told := goleak.IgnoreAnyFunction("github.com/llmtenant/tenant_test.commands.func1")
	pgtest.Main(m, cache, told)
}

// Project has a soft delete, and columns that are none of the ledger's business.
type Project struct {
	ID        uint
	Slug      string `gorm:"uniqueIndex" tenant:"key"`
	Name      string
	Notes     string
	DeletedAt gorm.DeletedAt
}

// Client owns projects: they are written through it.
type Client struct {
	ID       uint
	Projects []Assignment
}

// Assignment is a project as an association.
type Assignment struct {
	ID       uint
	ClientID uint
	Slug     string `gorm:"uniqueIndex"`
}

// openWith opens a new migrated database with a configuration of gorm, and a ledger on it.
func openWith(t testing.TB, dialect string, config gorm.Config) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	config.Logger = logger.Discard
	dialector := sqlite.Open(sqliteDSN(t))
	if dialect == "postgres" {
		dialector = postgres.Open(pgtest.DSN(t))
	}
	db, err := gorm.Open(dialector, &config)
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Migrate(t.Context()))
	return db, ledger
}

// spendCent books a call of a cent.
func spendCent(t testing.TB, ledger *tenant.Ledger, who tenant.Tenant) {
	t.Helper()
	_, err := ledger.Record(t.Context(), who, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
}

// configurations are those of gorm under which the hooks have to work.
func configurations() map[string]gorm.Config {
	return map[string]gorm.Config{
		"plain":                   {},
		"no default transaction":  {SkipDefaultTransaction: true},
		"prepared, with a prefix": {PrepareStmt: true, NamingStrategy: schema.NamingStrategy{TablePrefix: "app_"}},
		"no nested transaction":   {DisableNestedTransaction: true},
		"global updates":          {AllowGlobalUpdate: true},
	}
}

// eachConfiguration runs a test on every database under every configuration of gorm.
func eachConfiguration(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger)) {
	for name, config := range configurations() {
		for _, dialect := range []string{"postgres", "sqlite"} {
			t.Run(name+" on "+dialect, func(t *testing.T) {
				t.Parallel()
				db, ledger := openWith(t, dialect, config)
				test(t, db, ledger)
			})
		}
	}
}

const acme = tenant.ID("acme")

var dollar = tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1")})

// cluster is a database on a server that the test may stop.
func cluster(t *testing.T) (*pgtest.Server, *gorm.DB) {
	server := pgtest.Cluster(t)
	return server, openAt(t, postgres.Open(server.URL()))
}

var cent = tenant.Estimate{Cost: tenant.USD("0.01")}

// patiently is for calls that are to be made however busy the machine is.
var patiently = tenant.WithWait(10 * time.Minute)

// place makes a tenant with a limit on its daily cost, below another one.
func place(t testing.TB, db *gorm.DB, id, parent tenant.ID, daily string) {
	t.Helper()
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, id, func(b *tenant.Budget) error {
		b.ParentID, b.Enforcement = string(parent), tenant.Hard
		if daily != "" {
			b.Limits.DailyCost = tenant.USD(daily)
		}
		return nil
	}))
}

func costToday(t testing.TB, db *gorm.DB, who tenant.Tenant, options ...tenant.QueryOption) string {
	t.Helper()
	cost, err := tenant.CostToday(t.Context(), db, who, options...)
	require.NoError(t, err)
	return cost.String()
}

func chargeToday(t testing.TB, db *gorm.DB, who tenant.Tenant, options ...tenant.QueryOption) string {
	t.Helper()
	charge, err := tenant.ChargeToday(t.Context(), db, who, options...)
	require.NoError(t, err)
	return charge.String()
}

func call(t testing.TB, ledger *tenant.Ledger, who tenant.Tenant, cost string, options ...tenant.ReserveOption) error {
	t.Helper()
	reserve := func() (*tenant.Hold, error) {
		return ledger.Reserve(t.Context(), who, tenant.Estimate{Provider: "openai", Model: "gpt-4.1", Cost: tenant.USD(cost)},
			append(options, tenant.WithWait(0))...)
	}
	hold, err := reserve()
	for tries := 0; err != nil && strings.Contains(err.Error(), "no answer in") && tries < 20; tries++ { // the machine is busy
		hold, err = reserve()
	}
	if err != nil {
		return err
	}
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD(cost)})
	return err
}

// witness keeps what it hears.
type witness struct {
	mu     sync.Mutex
	events []tenant.Event
}

func (w *witness) Observe(_ context.Context, e tenant.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// thresholds are those that were heard of, as "tenant window percent spent".
func (w *witness) thresholds() (heard []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if t, ok := e.(*tenant.ThresholdEvent); ok {
			heard = append(heard, fmt.Sprintf("%s %s %d %s", t.TenantID, t.Limit.Window, t.Percent, t.Limit.Spent))
		}
	}
	return heard
}

func of[T tenant.Event](w *witness) (events []T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e, ok := e.(T); ok {
			events = append(events, e)
		}
	}
	return events
}

type company struct {
	ID    uint
	Slug  string
	Teams []team
}

type team struct {
	ID        uint
	Slug      string
	CompanyID *uint
}

func (company) TableName() string { return "companies" }

func (team) TableName() string { return "teams" }

func eachHierarchy(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger)) {
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&company{}, &team{}))
		require.NoError(t, ledger.Register(&team{}, tenant.WithKey("Slug"), tenant.WithBudget(), tenant.WithParent("CompanyID", &company{})))
		require.NoError(t, ledger.Register(&company{}, tenant.WithKey("Slug"), tenant.WithEnforcement(tenant.Hard),
			tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("10")}), tenant.WithTimeZone("Asia/Kathmandu")))
		test(t, db, ledger)
	})
}

func parentOf(t testing.TB, db *gorm.DB, id tenant.ID) string {
	t.Helper()
	b, err := tenant.BudgetFor(t.Context(), db, id)
	require.NoError(t, err)
	return b.ParentID
}

type unit struct {
	ID       uint
	Slug     string
	ParentID *uint
}

func (unit) TableName() string { return "units" }

// execution is a row of the books, as far as these tests look at it.
type execution struct {
	TenantID, Status, Agent, Provider, Model, BilledModel, RequestID, ErrorCode string
	HeldCost, HeldTokens, Cost, Tokens, Calls                                   int64
	Estimated, Unpriced                                                         bool
	ReportedCost                                                                *int64
}

func executions(t *testing.T, db *gorm.DB) []execution {
	t.Helper()
	var rows []execution
	require.NoError(t, db.Raw("SELECT * FROM llm_executions ORDER BY id").Scan(&rows).Error)
	return rows
}

func newAgent(t *testing.T, ledger *tenant.Ledger, model tenant.Model, options ...tenant.AgentOption) *tenant.Agent {
	t.Helper()
	agent, err := tenant.NewAgent(ledger, model, options...)
	require.NoError(t, err)
	return agent
}

func hardDaily(dollars string) []tenant.OpenOption {
	return []tenant.OpenOption{
		tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD(dollars)}),
		tenant.WithDefaultEnforcement(tenant.Hard),
	}
}

// logged is a logger's output that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func (l *logged) option() tenant.OpenOption {
	return tenant.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}

// shortly is the option of the tests below: a settle that waits does not take up their time.
var shortly = tenant.WithSettleWait(20 * time.Millisecond)

// makeCall makes a call of a cent, and returns when it is on the books.
func makeCall(t testing.TB, l *tenant.Ledger, org tenant.Tenant) {
	t.Helper()
	hold, err := l.Reserve(t.Context(), org, cent)
	require.NoError(t, err)
	require.False(t, hold.Unbooked)
	require.Eventually(t, func() bool {
		s, err := l.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		return s.Outcome != tenant.Pending
	}, time.Minute, time.Millisecond)
}
