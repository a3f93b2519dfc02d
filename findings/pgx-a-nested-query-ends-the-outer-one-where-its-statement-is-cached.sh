#!/bin/sh
# database/sql with pgx 5.12.0, PostgreSQL as PGlite 0.5.14: a query inside the loop over another one's rows, in one transaction.
#
# An invoice run reads its tenants, and asks inside the loop for each one's sum. One connection cannot answer two queries at once.
# Expected: the inner query is refused each time, and the loop over the outer one's rows goes on, since nothing of it has failed.
# Seen: it depends on what the connection has run before. Where the inner statement is new to it, the inner query is refused as "driver: bad
# connection", the loop sees all 1,000 tenants, and the transaction commits. Where the same statement was run on the connection before, the
# inner query fails with "conn busy" and takes the outer one with it: the loop ends after 1 tenant of 1,000, which only rows.Err tells.
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

require github.com/jackc/pgx/v5 v5.12.0
MOD
cat >main.go <<'GO'
package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib"
)

const sum = "SELECT count(*) FROM generate_series(1, $1::int)"

func main() {
	port, err := os.ReadFile("port")
	check(err)
	db, err := sql.Open("pgx", "postgres://postgres:postgres@127.0.0.1:"+strings.TrimSpace(string(port))+"/postgres?sslmode=disable")
	check(err)
	db.SetMaxOpenConns(1)
	seen := ""
	for _, before := range []bool{false, true} {
		tx, err := db.Begin()
		check(err)
		var n int
		if before {
			check(tx.QueryRow(sum, 1).Scan(&n))
		}
		tenants, err := tx.Query("SELECT g FROM generate_series(1, 1000) g")
		check(err)
		met, refused := 0, ""
		for tenants.Next() {
			met++
			if err := tx.QueryRow(sum, 1).Scan(&n); err != nil {
				refused = err.Error()
			}
		}
		seen += fmt.Sprintf("run before %v: tenants %d, rows.Err %v, inner %s; ", before, met, tenants.Err(), refused)
		_ = tx.Rollback() // what it says is not the matter here
	}
	fmt.Println("seen:", seen)
	if seen != "run before false: tenants 1000, rows.Err <nil>, inner driver: bad connection; "+
		"run before true: tenants 1, rows.Err conn busy, inner conn busy; " {
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
