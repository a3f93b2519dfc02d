#!/bin/sh
# gorm 1.31.2: DB.Connection, which is to run everything in its function on one connection.
#
# A program sets something that belongs to a session (a temporary table here, a search_path or a role elsewhere), and then writes.
# Expected: each statement on the handle that the function is given runs on the same connection.
# Seen: the first Create, Update or Delete has a transaction of gorm's own on that connection, and when it is committed the handle goes
# back to the pool: the temporary table is not there any more. With tx.Session(&gorm.Session{}) at the beginning it stays.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOFLAGS=-mod=mod GOWORK=off
cat >go.mod <<'MOD'
module finding

go 1.24

require (
	github.com/glebarez/sqlite v1.11.0
	gorm.io/gorm v1.31.2
)
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

type item struct {
	ID   uint
	Name string
}

func main() {
	db, err := gorm.Open(sqlite.Open("main.db"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		panic(err)
	}
	if err := db.Exec("CREATE TABLE items (id integer PRIMARY KEY, name text)").Error; err != nil {
		panic(err)
	}
	steps := func(tx *gorm.DB) error {
		if err := tx.Exec("CREATE TEMP TABLE IF NOT EXISTS mine (n integer)").Error; err != nil {
			return err
		}
		if err := tx.Exec("INSERT INTO mine VALUES (1)").Error; err != nil {
			return fmt.Errorf("before: %w", err)
		}
		if err := tx.Create(&item{Name: "a"}).Error; err != nil {
			return fmt.Errorf("create: %w", err)
		}
		return tx.Exec("INSERT INTO mine VALUES (2)").Error
	}
	// Connections of the pool that are idle have no such table.
	pool, err := db.DB()
	if err != nil {
		panic(err)
	}
	pool.SetMaxIdleConns(0)
	fmt.Println("as given:", db.Connection(steps))
	fmt.Println("a session:", db.Connection(func(tx *gorm.DB) error { return steps(tx.Session(&gorm.Session{})) }))
}
GO
seen=$(go run . 2>log) || { cat log >&2; exit 1; }
echo "$seen"
if [ "$seen" != "as given: SQL logic error: no such table: mine (1)
a session: <nil>" ]; then
	echo "changed: the connection is kept" >&2
	exit 1
fi
