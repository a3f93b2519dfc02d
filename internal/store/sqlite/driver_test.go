package sqlite_test

import _ "github.com/glebarez/go-sqlite"

const driverName = "sqlite"
