package postgres

import (
	"context"
	"database/sql"
	"slices"

	"github.com/llmtenant/tenant/internal/citus"
)

// mannerKey is where a connection of pgx keeps how it is spoken to.
const mannerKey = "llmtenant:manner"

// manner is how a connection is spoken to.
type manner struct {
	preamble []string // the statements that transactions begin with
	most     int      // how many rows one statement writes
	apart    bool     // what is there, and what is new, is written by statements of their own
}

// What transactions begin with. A process that is stopped between its lock and its commit must not keep others out; nor may a
// host's default make a commit less than durable. Every lookup is of a few rows by their keys, so there is one right plan, which
// need not be made anew each time, nor compiled. The highest generation is found in the order of the index: to collect all
// and sort them would be to look at the older ones too, and once a table has statistics a planner may think it cheaper.
//
// Citus plans an INSERT of what is selected by the values of its arguments, and refuses a generic plan of it. For the others it has
// one, of which the shard's part is planned anew each time. To have some of either the choice is left to the server, which
// takes the generic one where there is one, since planning is what most of a statement's time goes to. What is there already is changed by
// statements that insert nothing.
var (
	plainPreamble = []string{settings("force_generic_plan")}
	citusPreamble = []string{settings("auto")}

	// A coordinator runs the statements on other nodes, where its settings do not hold, but for those of its transaction that it is
	// told to hand on. They have to be statements of their own. They reach a node together with the beginning of its transaction.
	coordinatorPreamble = slices.Concat(citusPreamble, []string{
		`SET LOCAL citus.propagate_set_commands = 'local'`,
		`SET LOCAL lock_timeout = 100`, `SET LOCAL statement_timeout = 5000`,
		`SET LOCAL enable_seqscan = off`, `SET LOCAL enable_sort = off`, `SET LOCAL enable_bitmapscan = off`, `SET LOCAL jit = off`,
	})
)

// durable is handed on where the host's default is not.
const durable = `SET LOCAL synchronous_commit = on`

func settings(plans string) string {
	return `SELECT set_config('idle_in_transaction_session_timeout', '2000', true), set_config('lock_timeout', '100', true),
		set_config('statement_timeout', '5000', true), set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
		set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
		set_config('plan_cache_mode', '` + plans + `', true), set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`
}

// greet finds out which preamble a new connection needs, and writes that down on it.
func (s *session) greet(ctx context.Context, conn *sql.Conn) error {
	role, err := citus.RoleOf(ctx, conn)
	if err != nil {
		return err
	}
	m := &manner{preamble: plainPreamble, most: most}
	switch role {
	case citus.Coordinator:
		m.preamble, m.most, m.apart = coordinatorPreamble, citusMost, true
		var commit string
		if err := conn.QueryRowContext(ctx, `SHOW synchronous_commit`).Scan(&commit); err != nil {
			return err
		}
		if commit == "off" {
			m.preamble = slices.Concat(coordinatorPreamble, []string{durable})
		}
	case citus.Worker:
		m.preamble, m.most, m.apart = citusPreamble, citusMost, true
	}
	s.manner = m
	return conn.Raw(func(raw any) error {
		conn, err := pgxOf(raw)
		if err == nil {
			conn.PgConn().CustomData()[mannerKey] = m
		}
		return err
	})
}
