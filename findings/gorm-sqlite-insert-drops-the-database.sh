#!/bin/sh
# gorm 1.31.2 with github.com/glebarez/sqlite 1.11.0: Table with the name of an attached database.
#
# A program keeps old accounts in an attached file: db.Table("archive.accounts").Create(&account).
# Expected: the row is in archive.accounts, as UPDATE, DELETE and SELECT on the same handle take it.
# Seen: the dialect's own builder of INSERT writes the table's last name only, so that the row is in main.accounts, without an error. The
# update that follows finds nothing in archive.accounts.
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
)

type account struct {
	ID   uint
	Name string
}

func main() {
	db, err := gorm.Open(sqlite.Open("main.db"), &gorm.Config{})
	if err != nil {
		panic(err)
	}
	pool, err := db.DB()
	if err != nil {
		panic(err)
	}
	pool.SetMaxOpenConns(1) // what is attached is attached to a connection
	for _, statement := range []string{
		"ATTACH DATABASE 'archive.db' AS archive",
		"CREATE TABLE main.accounts (id integer PRIMARY KEY, name text)",
		"CREATE TABLE archive.accounts (id integer PRIMARY KEY, name text)",
	} {
		if err := db.Exec(statement).Error; err != nil {
			panic(err)
		}
	}
	archive := func() *gorm.DB { return db.Table("archive.accounts") }
	created := archive().Create(&account{ID: 7, Name: "old"})
	updated := archive().Where("id = 7").Update("name", "older")
	var inMain, inArchive int64
	db.Table("main.accounts").Count(&inMain)
	archive().Count(&inArchive)
	fmt.Printf("created=%d %v updated=%d main=%d archive=%d\n", created.RowsAffected, created.Error, updated.RowsAffected, inMain, inArchive)
}
GO
seen=$(go run . 2>log) || { cat log >&2; exit 1; }
echo "$seen"
if [ "$seen" != "created=1 <nil> updated=0 main=1 archive=0" ]; then
	echo "changed: an INSERT goes elsewhere" >&2
	exit 1
fi
