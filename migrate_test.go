package tenant_test

import (
	"context"
	"database/sql"
	"testing"
	"testing/fstest"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"

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
