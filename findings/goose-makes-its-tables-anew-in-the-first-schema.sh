#!/bin/sh
# goose 3.30.1 with pgx 5.10.0, PostgreSQL as PGlite 0.5.14: a search_path of two schemas.
#
# A program has made its tables with goose in the schema public. Later somebody makes a schema with the name of the role, for something
# else, and PostgreSQL's default search_path is "$user", public.
# Expected: the program's next start finds its versions where every statement of it finds them, and has nothing to do.
# Seen: goose looks for its table of versions in current_schema() only, finds none, and applies all migrations anew in the first schema. The new,
# empty tables hide the old ones, and every statement reads those, without an error: here the one account that there was is gone from sight.
set -eu
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17
cat >server.mjs <<'JS'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
const server = new PGLiteSocketServer({ db: await PGlite.create(), host: '127.0.0.1', port: 0 })
server.addEventListener('listening', (e) => console.log(e.detail.port))
await server.start()
JS
node server.mjs >port &
server=$!
tries=0
until [ -s port ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 600 ] || { echo "the server did not start" >&2; exit 1; }
	sleep 0.1
done
export GOFLAGS=-mod=mod GOWORK=off
cat >go.mod <<'MOD'
module finding

go 1.25

require (
	github.com/jackc/pgx/v5 v5.10.0
	github.com/pressly/goose/v3 v3.30.1
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing/fstest"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

func main() {
	port, err := os.ReadFile("port")
	check(err)
	db, err := sql.Open("pgx", "postgres://postgres:postgres@127.0.0.1:"+strings.TrimSpace(string(port))+"/postgres?sslmode=disable&default_query_exec_mode=simple_protocol")
	check(err)
	db.SetMaxOpenConns(1)
	start := func() int {
		provider, err := goose.NewProvider(goose.DialectPostgres, db, fstest.MapFS{
			"00001_accounts.sql": {Data: []byte("-- +goose Up\nCREATE TABLE accounts (name text);\n")},
		})
		check(err)
		applied, err := provider.Up(context.Background())
		check(err)
		return len(applied)
	}
	run := func(statement string) { _, err := db.Exec(statement); check(err) }
	count := func() (n int) { check(db.QueryRow("SELECT count(*) FROM accounts").Scan(&n)); return n }

	first := start()
	run("INSERT INTO accounts VALUES ('acme')")
	run("CREATE SCHEMA app")
	run("SET search_path = app, public")
	before := count()
	again, after := start(), count()
	seen := fmt.Sprintf("applied %d, then %d; accounts %d, then %d", first, again, before, after)
	fmt.Println("seen:", seen)
	if seen != "applied 1, then 1; accounts 1, then 0" {
		fmt.Println("it is so no longer")
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
GO
go run .
