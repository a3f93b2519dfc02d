// Package citus asks a PostgreSQL database what Citus knows of it: whether it is there at all, which node a connection is to, which
// node has a schema, and whether a table is one of its own. It asks the catalogue, so that a role needs no more rights than to
// connect. On a database without Citus nothing fails.
package citus

import (
	"context"
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
