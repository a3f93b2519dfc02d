// Package citus asks a PostgreSQL database what Citus knows of it: whether it is there at all, which node a connection is to, which
// node has a schema, and whether a table is one of its own. It asks the catalogue, so that a role needs no more rights than to
// connect. On a database without Citus nothing fails.
package citus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Role is what a server is in a Citus cluster.
type Role int

// The roles.
const (
	None        Role = iota // the database has no Citus
	Coordinator             // the node that the cluster is changed through
	Worker                  // any other node
)

// RoleOf returns the role of the server that a connection is to.
func RoleOf(ctx context.Context, c sqldb.Conn) (Role, error) {
	there, err := installed(ctx, c)
	if err != nil || !there {
		return None, err
	}
	var group int
	if err := sqldb.One(ctx, c, `SELECT groupid FROM pg_catalog.pg_dist_local_group`, &group); err != nil {
		return None, fmt.Errorf("ask Citus which node this is: %w", err)
	}
	if group == 0 {
		return Coordinator, nil
	}
	return Worker, nil
}

// installed reports whether a database has Citus. Its tables can be named only where it has.
func installed(ctx context.Context, c sqldb.Conn) (there bool, err error) {
	err = sqldb.One(ctx, c, `SELECT to_regclass('pg_catalog.pg_dist_local_group') IS NOT NULL`, &there)
	return there, err
}

// Node is a server of a Citus cluster.
type Node struct {
	Host string
	Port int
}

// String is the node's address.
func (n *Node) String() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// NodeOf returns the node that has the tables of a schema, by the copy of the catalogue on the server that is asked. It is nil where
// the schema is not one that Citus keeps on one node, where it has no table yet, and where there is no Citus.
func NodeOf(ctx context.Context, c sqldb.Conn, schema string) (*Node, error) {
	there, err := installed(ctx, c)
	if err != nil || !there {
		return nil, err
	}
	var node *Node
	err = sqldb.EachRow(ctx, c, `SELECT n.nodename, n.nodeport FROM pg_catalog.pg_dist_schema s
		JOIN pg_catalog.pg_namespace ns ON ns.oid = s.schemaid
		JOIN pg_catalog.pg_dist_partition d ON d.colocationid = s.colocationid
		JOIN pg_catalog.pg_dist_shard h ON h.logicalrelid = d.logicalrelid
		JOIN pg_catalog.pg_dist_placement p ON p.shardid = h.shardid
		JOIN pg_catalog.pg_dist_node n ON n.groupid = p.groupid AND n.noderole = 'primary'
		WHERE ns.nspname = $1 LIMIT 1`, []any{schema}, func(row sqldb.Row) error {
		node = &Node{}
		return row.Scan(&node.Host, &node.Port)
	})
	if err != nil {
		return nil, fmt.Errorf("ask Citus for the node of the schema %s: %w", schema, err)
	}
	return node, nil
}

// Has reports whether a table, which is found by the search_path, is one of Citus's.
func Has(ctx context.Context, c sqldb.Conn, table string) (has bool, err error) {
	there, err := installed(ctx, c)
	if err == nil && there {
		err = sqldb.One(ctx, c, `SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('`+table+`'))`, &has)
	}
	return has, err
}

// Secured returns one of some tables that has row-level security, which keeps Citus from copying it to every node; or empty.
func Secured(ctx context.Context, c sqldb.Conn, tables []string) (table string, err error) {
	there, err := installed(ctx, c)
	if err != nil || !there {
		return "", err
	}
	err = sqldb.EachRow(ctx, c, `SELECT relname FROM pg_catalog.pg_class WHERE relrowsecurity AND oid = ANY (CAST(string_to_array($1::text, ' ') AS regclass[]))`,
		[]any{strings.Join(tables, " ")}, func(row sqldb.Row) error { return row.Scan(&table) })
	return table, err
}

// LocalTableError says that a host's table commits apart from the places.
type LocalTableError struct {
	Table     string // with its schema
	Relatives bool   // foreign keys tie it to other tables, which are taken along
}

func (e *LocalTableError) Error() string {
	more := ""
	if e.Relatives {
		more = ", cascade_via_foreign_keys => true"
	}
	return fmt.Sprintf("the table %s is no Citus table, while the ledger's places are schemas of Citus: it is committed by itself, after them, so that a "+
		"failure there leaves a budget without its record; run SELECT citus_add_local_table_to_metadata('%s'%s) on the coordinator once: "+
		"the table stays where it is", e.Table, strings.ReplaceAll(e.Table, "'", "''"), more)
}

// CommitsWith returns a [LocalTableError] where the changes of a host's table are not committed together with those of the ledger's
// schemas: Citus keeps one of these, and the table is none of its own. A table is given as SQL names it, with its schema or by
// the connection's search_path. One that is not there, and a view, are for others to
// judge.
func CommitsWith(ctx context.Context, c sqldb.Conn, table string, schemas ...string) error {
	there, err := installed(ctx, c)
	if err != nil || !there {
		return err
	}
	var apart *LocalTableError
	err = sqldb.EachRow(ctx, c, `SELECT format('%I.%I', n.nspname, t.relname),
			EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND t.oid IN (k.conrelid, k.confrelid))
		FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
		WHERE t.oid = to_regclass($1) AND t.relkind IN ('r', 'p')
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition d WHERE d.logicalrelid = t.oid)
			AND EXISTS (SELECT FROM pg_catalog.pg_dist_schema s JOIN pg_catalog.pg_namespace p ON p.oid = s.schemaid
				WHERE p.nspname = ANY (string_to_array($2::text, chr(10))))`, []any{table, strings.Join(schemas, "\n")}, func(row sqldb.Row) error {
		apart = &LocalTableError{}
		return row.Scan(&apart.Table, &apart.Relatives)
	})
	switch {
	case err != nil:
		return fmt.Errorf("ask Citus for the table %s: %w", table, err)
	case apart != nil:
		return apart
	}
	return nil
}

// prepareLock is the advisory lock that Prepare holds: "llmplace" in ASCII.
const prepareLock = 0x6c6c6d706c616365

// Prepare makes schemas that Citus keeps on one node each, where the database has Citus and they are not there yet. Everywhere are tables of
// which each node gets a copy, so that what is in a schema can be read together with them. They are found by the search_path. Whatever is
// written together with one of them is committed in two phases. It may be called by several at once.
func Prepare(ctx context.Context, db *sql.DB, schemas, everywhere []string) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	role, err := RoleOf(ctx, conn)
	switch {
	case err != nil || role == None:
		return err
	case role == Worker:
		return errors.New("this is a worker node of Citus; tables are made through the coordinator")
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(prepareLock)); err != nil {
		return err
	}
	defer func() {
		_, e := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(prepareLock))
		err = errors.Join(err, e)
	}()
	for _, table := range everywhere {
		if _, err := conn.ExecContext(ctx, `SELECT create_reference_table(t.oid) FROM pg_catalog.pg_class t WHERE t.oid = to_regclass($1)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition d WHERE d.logicalrelid = t.oid)`, table); err != nil {
			return fmt.Errorf("copy the table %s to every node: %w", table, err)
		}
	}
	for _, schema := range schemas {
		if err := keep(ctx, conn, schema); err != nil {
			return fmt.Errorf("make the schema %s: %w", schema, err)
		}
	}
	return nil
}

// keep makes a schema that Citus keeps. It is a transaction of its own, so that the setting ends with it.
func keep(ctx context.Context, conn *sql.Conn, schema string) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, statement := range []string{`SET LOCAL citus.enable_schema_based_sharding = on`, `CREATE SCHEMA IF NOT EXISTS ` + schema} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}
