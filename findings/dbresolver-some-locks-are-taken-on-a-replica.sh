#!/bin/sh
# gorm.io/plugin/dbresolver 1.6.2 with gorm 1.31.2, PostgreSQL as PGlite 0.5.14: raw SQL that locks rows, where reads go to a replica.
#
# A worker takes the next job with db.Raw("SELECT … FOR UPDATE SKIP LOCKED").Scan(&job), as queues in PostgreSQL are read.
# Expected: what locks rows, or calls a function that writes, runs on the source, as "SELECT … FOR UPDATE" does.
# Seen: only a text that ends in "for update" does. With SKIP LOCKED or NOWAIT after it, a semicolon, or FOR NO KEY UPDATE the statement runs on the
# replica. A standby refuses it; one that takes writes (logical replication, several primaries) locks its own rows, and a worker that another
# replica serves does, and pays for, the same job. So does SELECT of a function that writes. gorm's own clause.Locking goes to the source.
set -eu
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17
cat >server.mjs <<'JS'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
const ports = []
for (const place of ['source', 'replica']) {
	const db = await PGlite.create()
	await db.exec(`CREATE TABLE jobs (id int, place text); INSERT INTO jobs VALUES (1, '${place}');
		CREATE FUNCTION taken() RETURNS text LANGUAGE sql AS 'UPDATE jobs SET id = id + 1 RETURNING place'`)
	const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 })
	const listening = new Promise((ok) => server.addEventListener('listening', (e) => ok(e.detail.port)))
	await server.start()
	ports.push(await listening)
}
console.log(ports.join(' '))
JS
node server.mjs >ports &
server=$!
tries=0
until [ -s ports ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 900 ] || { echo "the servers did not start" >&2; exit 1; }
	sleep 0.1
done
export GOFLAGS=-mod=mod GOWORK=off
cat >go.mod <<'MOD'
module finding

go 1.24

require (
	gorm.io/driver/postgres v1.6.0
	gorm.io/gorm v1.31.2
	gorm.io/plugin/dbresolver v1.6.2
)
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"
)

type Job struct {
	ID    int
	Place string
}

func at(port string) gorm.Dialector {
	return postgres.New(postgres.Config{PreferSimpleProtocol: true, DSN: "host=127.0.0.1 user=postgres password=x dbname=postgres sslmode=disable port=" + port})
}

func main() {
	db, err := gorm.Open(at(os.Args[1]))
	if err == nil {
		err = db.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{at(os.Args[2])}}).SetMaxOpenConns(1))
	}
	if err != nil {
		panic(err)
	}
	for _, end := range []string{"FOR UPDATE", "FOR UPDATE SKIP LOCKED", "FOR UPDATE NOWAIT", "FOR UPDATE;", "FOR NO KEY UPDATE"} {
		var j Job
		fmt.Println(end, "->", db.Raw("SELECT * FROM jobs "+end).Scan(&j).Error, j.Place)
	}
	var place string
	fmt.Println("taken() ->", db.Raw("SELECT taken()").Scan(&place).Error, place)
	var j Job
	fmt.Println("clause.Locking ->", db.Clauses(clause.Locking{Strength: "UPDATE", Options: "SKIP LOCKED"}).Take(&j).Error, j.Place)
}
GO
go build -o finding . >log 2>&1 || { cat log >&2; exit 1; }
# shellcheck disable=SC2046
seen=$(./finding $(cat ports))
echo "$seen"
want='FOR UPDATE -> <nil> source
FOR UPDATE SKIP LOCKED -> <nil> replica
FOR UPDATE NOWAIT -> <nil> replica
FOR UPDATE; -> <nil> replica
FOR NO KEY UPDATE -> <nil> replica
taken() -> <nil> replica
clause.Locking -> <nil> source'
if [ "$seen" != "$want" ]; then
	echo "changed: what locks rows goes to another database" >&2
	exit 1
fi
