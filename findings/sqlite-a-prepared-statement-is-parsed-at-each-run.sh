#!/bin/sh
# github.com/glebarez/go-sqlite 1.23.0, the driver of gorm's github.com/glebarez/sqlite: a prepared statement is compiled at each run.
#
# A program prepares a statement of 800 sums once and runs it 300 times, and gorm does so with PrepareStmt.
# Expected: Prepare compiles it, so that it names what is wrong with a statement, and a run takes a part of the time of an unprepared one.
# Seen: Prepare keeps the text and takes any; the error comes with the run. A run takes as long as an unprepared one: the ratio was
# 1.0. Whoever prepares in order to be faster has to send fewer statements.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOFLAGS=-mod=mod GOWORK=off
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/glebarez/go-sqlite v1.23.0
MOD
cat >main.go <<'GO'
package main

import (
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	_ "github.com/glebarez/go-sqlite"
)

func main() {
	db, err := sql.Open("sqlite", "main.db")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1)
	wrong, prepared := db.Prepare("SELEC 1")
	_, run := wrong.Query()
	fmt.Printf("Prepare says %v, the run fails: %v\n", prepared, run != nil)

	text := "SELECT " + strings.TrimSuffix(strings.Repeat("1 + 2 * 3, ", 800), ", ")
	statement, err := db.Prepare(text)
	if err != nil {
		panic(err)
	}
	ways := []func() (*sql.Rows, error){func() (*sql.Rows, error) { return statement.Query() }, func() (*sql.Rows, error) { return db.Query(text) }}
	var took [2][]time.Duration
	for range 300 {
		for i, query := range ways {
			start := time.Now()
			rows, err := query()
			if err != nil {
				panic(err)
			}
			rows.Close()
			took[i] = append(took[i], time.Since(start))
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	fmt.Fprintf(os.Stderr, "prepared %v, unprepared %v, the median of 300\n", took[0][150], took[1][150])
}
GO
seen=$(go run . 2>log) || { cat log >&2; exit 1; }
tail -n 1 log
echo "$seen"
if [ "$seen" != "Prepare says <nil>, the run fails: true" ]; then
	echo "changed: Prepare looks at the statement" >&2
	exit 1
fi
