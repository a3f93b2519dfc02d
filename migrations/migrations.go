// Package migrations holds the schema of the ledger as SQL files, one folder for each database. Ledger.Migrate applies
// them; whoever runs migrations with another tool applies the files of the folder in the order of their names.
package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/llmtenant/tenant/internal/sqldb"
)

//go:embed postgres/*.sql sqlite/*.sql places/*.sql
var files embed.FS

// Table is where the applied versions are kept. It is not goose's default table, so that a host that uses goose for its
// own schema is not in the way.
const Table = "llm_migrations"

// lockID is the advisory lock that migrations of PostgreSQL hold: "llmtenan" in ASCII. It is not goose's default either,
// which a host's own goose run holds while one of its migrations calls Ledger.Migrate.
const lockID = 0x6c6c6d74656e616e

// FS returns the files of a dialect, "postgres" or "sqlite", at the root of a file system.
func FS(dialect string) (fs.FS, error) {
	if dialect != "postgres" && dialect != "sqlite" {
		return nil, fmt.Errorf("tenant: no migrations for the database %q: it must be postgres or sqlite", dialect)
	}
	return fs.Sub(files, dialect)
}

// Up applies what is missing. It may be called by several processes at once.
func Up(ctx context.Context, db *sql.DB, dialect string) error {
	dir, err := FS(dialect)
	if err != nil {
		return err
	}
	if dialect == "postgres" {
		if err := once(ctx, db); err != nil {
			return err
		}
	}
	return apply(ctx, db, dialect, Table, dir)
}

// once refuses to make a second set of tables. Tables are made in the first schema of the search_path, where goose also looks for its
// versions; those of a later schema would be hidden by new ones, which are empty.
func once(ctx context.Context, db *sql.DB) error {
	var has, first string
	err := db.QueryRowContext(ctx, `SELECT n.nspname, current_schema() FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass('llm_tenants') AND n.nspname <> current_schema()`).Scan(&has, &first)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("tenant: migrate: %w", err)
	}
	return fmt.Errorf("tenant: migrate: the ledger's tables are in the schema %q, and the search_path has %q first, where a second set of them would be made, "+
		"without limits and without calls: let the search_path begin with %[1]q", has, first)
}

// UpPlace applies what is missing of a place of the books, a schema of PostgreSQL, which it makes where it is not there. The tables
// that say who is who are there already. The name is one that needs no quotes.
func UpPlace(ctx context.Context, db *sql.DB, place string) error {
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+place); err != nil {
		return fmt.Errorf("tenant: migrate: %w", err)
	}
	dir, err := FS("postgres")
	if err != nil {
		return err
	}
	return apply(ctx, db, "postgres", place+"."+Table, ofPlace{dir, place})
}

// ofPlace is the files of a place: those of PostgreSQL, whose tables are made in its schema, and for those of the tables that say who
// is who, the ones that stand in the folder places.
type ofPlace struct {
	fs.FS
	name string
}

// Open implements fs.FS.
func (p ofPlace) Open(name string) (fs.File, error) {
	file, err := p.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	content, err := files.ReadFile("places/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		const begins = "-- +goose Up\n"
		content, err = io.ReadAll(file)
		content = bytes.Replace(content, []byte(begins), []byte(begins+"SET LOCAL search_path = @place;\n"), 1)
	}
	return placeFile{bytes.NewReader(bytes.ReplaceAll(content, []byte("@place"), []byte(p.name))), info}, err
}

// placeFile is a file of a place.
type placeFile struct {
	*bytes.Reader
	info fs.FileInfo
}

// Stat implements fs.File.
func (f placeFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (f placeFile) Close() error { return nil }

// apply applies the files of a folder that are missing, by a table of versions.
func apply(ctx context.Context, db *sql.DB, dialect, table string, dir fs.FS) error {
	goDialect, options := database.DialectSQLite3, []goose.ProviderOption(nil)
	if dialect == "postgres" {
		goDialect = database.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	store, err := database.NewStore(goDialect, table)
	if err != nil {
		return err
	}
	options = append(options, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	provider, err := goose.NewProvider("", db, dir, options...)
	if err != nil {
		return err
	}
	if err := up(ctx, provider, dialect); err != nil {
		if partial := (*goose.PartialError)(nil); errors.As(err, &partial) {
			return fmt.Errorf("tenant: migration %s: %w", partial.Failed.Source.Path, partial.Err)
		}
		return fmt.Errorf("tenant: migrate: %w", err)
	}
	return nil
}

// Version returns which migrations a database has, by the number of the last one, and which this version of the module has. It writes
// nothing. It is 0 where none was applied, or where another tool has applied them.
func Version(ctx context.Context, db *sql.DB, dialect string) (applied, latest int64, err error) {
	return version(ctx, db, dialect, Table)
}

// PlaceVersion is Version of a place; 0 where there is none.
func PlaceVersion(ctx context.Context, db *sql.DB, place string) (applied int64, err error) {
	applied, _, err = version(ctx, db, "postgres", place+"."+Table)
	return applied, err
}

func version(ctx context.Context, db *sql.DB, dialect, table string) (applied, latest int64, err error) {
	dir, err := FS(dialect)
	if err != nil {
		return 0, 0, err
	}
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		number, err := goose.NumericComponent(name)
		if err != nil {
			return 0, 0, err
		}
		latest = max(latest, number)
	}
	there := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '` + table + `'`
	if dialect == "postgres" {
		there = `SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('` + table + `')`
	}
	var n int
	if err := db.QueryRowContext(ctx, there).Scan(&n); err != nil || n == 0 {
		return 0, latest, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+table+` WHERE is_applied`).Scan(&applied)
	return applied, latest, err
}

// maxLost is how often others may be first, each time with something else.
const maxLost = 100

// up applies what is missing. SQLite has no lock that a session could hold for all of it, so that two processes can begin the same
// migration: one of them fails, changes nothing, and finds it applied when it looks again.
func up(ctx context.Context, provider *goose.Provider, dialect string) error {
	for lost := 1; ; lost++ {
		_, err := provider.Up(ctx)
		if err == nil || dialect != "sqlite" || lost == maxLost {
			return err
		}
		if partial := (*goose.PartialError)(nil); errors.As(err, &partial) {
			if version, asked := provider.GetDBVersion(ctx); asked == nil && version >= partial.Failed.Source.Version {
				continue
			}
		} else if strings.Contains(err.Error(), "already exists") { // the table of the versions
			continue
		}
		// Without a busy timeout, nobody waits for the one that writes.
		if !strings.Contains(err.Error(), "locked") || sqldb.Pause(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
}
