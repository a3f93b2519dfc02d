// Package database opens the databases of the examples.
package database

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Open opens a database, a SQLite file or a postgres:// URL, and says where it is without telling its password.
func Open(where string) (*gorm.DB, string, error) {
	dialector, name, err := choose(where)
	if err != nil {
		return nil, "", err
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, "", fmt.Errorf("open %s: %w", name, err)
	}
	return db, name, nil
}

func choose(where string) (gorm.Dialector, string, error) {
	scheme, _, isURL := strings.Cut(where, "://")
	switch {
	case where == "":
		return nil, "", errors.New("-db is empty: give it a file or a postgres:// URL")
	case !isURL:
		file, err := filepath.Abs(where)
		if err != nil {
			return nil, "", fmt.Errorf("-db: %w", err)
		}
		if err := writable(file); err != nil {
			return nil, "", fmt.Errorf("-db: %w", err)
		}
		return sqlite.Open(file + "?_pragma=busy_timeout(5000)"), file + " (SQLite)", nil
	case scheme == "postgres" || scheme == "postgresql":
		u, err := url.Parse(where)
		if err != nil {
			return nil, "", errors.New("-db is no URL that can be read; a password's special characters are written %40 and so on")
		}
		name := u.Redacted()
		if query := u.Query(); !query.Has("connect_timeout") {
			query.Set("connect_timeout", "5") // seconds
			u.RawQuery = query.Encode()
		}
		return postgres.Open(u.String()), name, nil
	default:
		return nil, "", fmt.Errorf("-db is a SQLite file or a postgres:// URL, and %q is neither", scheme+"://")
	}
}

// writable creates the file if it is not there. Its errors say more than SQLite's, for which every reason is one.
func writable(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Close closes it.
func Close(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}
