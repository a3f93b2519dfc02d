package tenant_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// A host's goose run holds goose's default lock while one of its migrations, written in Go, makes the ledger's tables.
func TestMigrate_InsideAGooseRunOfTheHosts(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			gooseDialect, options := database.DialectSQLite3, []goose.ProviderOption(nil)
			dialector := sqlite.Open(sqliteDSN(t))
			if dialect == "postgres" {
				dialector = postgres.Open(pgtest.Empty(t))
				locker, err := lock.NewPostgresSessionLocker()
				require.NoError(t, err)
				gooseDialect, options = database.DialectPostgres, append(options, goose.WithSessionLocker(locker))
			}
			db := openAt(t, dialector)
			ledger := openLedger(t, db)
			pool, err := db.DB()
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ran := 0
			options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(
				goose.NewGoMigration(2, &goose.GoFunc{RunDB: func(ctx context.Context, _ *sql.DB) error {
					ran++
					return ledger.Migrate(ctx)
				}}, nil)))
			host, err := goose.NewProvider(gooseDialect, pool, fstest.MapFS{
				"00001_orgs.sql": {Data: []byte("-- +goose Up\nCREATE TABLE orgs (id bigint PRIMARY KEY);\n")},
			}, options...)
			require.NoError(t, err)
			results, err := host.Up(ctx)
			require.NoError(t, err)
			require.Len(t, results, 2)
			require.Equal(t, 1, ran)
			require.NoError(t, ledger.Migrate(ctx), "and again, when there is nothing left to do")
			require.NoError(t, db.Exec(`SELECT count(*) FROM llm_tenants`).Error)
		})
	}
}

// Each process has a pool of its own, and none waits for another: with a busy timeout of zero they meet in every place.
func TestMigrate_ManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	for _, timeout := range []string{"0", "5000"} {
		t.Run("SQLite, busy timeout "+timeout, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				migrateAtOnce(t, sqlite.Open("file:"+filepath.Join(t.TempDir(), "books.db")+"?_pragma=busy_timeout("+timeout+")&_pragma=journal_mode(WAL)"))
			}
		})
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		migrateAtOnce(t, postgres.Open(pgtest.Empty(t)))
	})
}

func migrateAtOnce(t *testing.T, dialector gorm.Dialector) {
	t.Helper()
	const processes = 6
	var (
		begin = make(chan struct{})
		ended = make(chan error, processes)
	)
	for range processes {
		ledger := openLedger(t, openAt(t, dialector))
		go func() {
			<-begin
			ended <- ledger.Migrate(context.Background())
		}()
	}
	close(begin)
	for range processes {
		require.NoError(t, <-ended)
	}
}

func TestMigrationStatus_CountsWithoutWriting(t *testing.T) {
	t.Parallel()
	for name, dialector := range map[string]gorm.Dialector{"postgres": postgres.Open(pgtest.Empty(t)), "sqlite": sqlite.Open(sqliteDSN(t))} {
		db := openAt(t, dialector)
		ledger := openLedger(t, db)
		s, err := ledger.MigrationStatus(t.Context())
		require.NoError(t, err, name)
		require.Zero(t, s.Applied, name)
		require.Positive(t, s.Latest, name)
		require.False(t, db.Migrator().HasTable("llm_migrations"), "%s: it has written", name)
		require.NoError(t, ledger.Migrate(t.Context()))
		s, err = ledger.MigrationStatus(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, s.Latest, s.Applied, name)
	}
}

func TestMigrationStatus_NamesThePlaceThatIsBehind(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "places")
	ledger := openLedger(t, db)
	s, err := ledger.MigrationStatus(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"east": s.Latest, "west": s.Latest}, s.Places)
	require.Empty(t, s.Behind())
	require.NoError(t, db.Exec(`DELETE FROM west.llm_migrations WHERE version_id = ?`, s.Latest).Error)
	more := openLedger(t, openAt(t, db.Dialector), tenant.WithPlaces("east", "north", "west"))
	s, err = more.MigrationStatus(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.Latest, s.Applied)
	require.Equal(t, map[string]int64{"east": s.Latest, "north": 0, "west": s.Latest - 1}, s.Places)
	require.Equal(t, []string{"north", "west"}, s.Behind())
}

// The search_path that PostgreSQL begins with is "$user", public: a schema with the user's name, made later for something else, comes
// before the one that the tables were made in.
func TestMigrate_MakesNoSecondSetOfTables(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	require.NoError(t, db.Exec("CREATE SCHEMA app").Error)
	both := openAt(t, postgres.Open(dsn+"&search_path=app,public"))
	ledger := openLedger(t, both)
	err := ledger.Migrate(t.Context())
	require.ErrorContains(t, err, `the ledger's tables are in the schema "public", and the search_path has "app" first`)
	require.ErrorContains(t, err, `let the search_path begin with "public"`)
	var n int
	require.NoError(t, db.Raw("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'").Scan(&n).Error)
	require.Zero(t, n)

	// A ledger of its own, in a schema of its own, is what somebody may want.
	alone := openAt(t, postgres.Open(dsn+"&search_path=app"))
	require.NoError(t, openLedger(t, alone).Migrate(t.Context()))
	require.NoError(t, ledger.Migrate(t.Context()), "those that are found first are migrated")
}
