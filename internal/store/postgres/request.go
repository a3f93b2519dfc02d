package postgres

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// request is the statements of one round trip.
type request struct {
	pgx.Batch
	schema  *sqldb.Schema
	untyped bool
	most    int // how many rows one statement writes
	size    int // in bytes, at least
}

// untyped reports whether the host has chosen a protocol in which the server is not asked for the types of the
// arguments, as PgBouncer needs it in transaction mode. Each argument then has to have a form that any type can be read
// from.
func untyped(conn *pgx.Conn) bool {
	mode := conn.Config().DefaultQueryExecMode
	return mode == pgx.QueryExecModeSimpleProtocol || mode == pgx.QueryExecModeExec
}

// Queue adds a statement. The arguments belong to it from now on.
func (r *request) Queue(statement string, args ...any) *pgx.QueuedQuery {
	for i, arg := range args {
		if !r.untyped {
			args[i] = argument(arg)
			r.size += max(weight(arg), weight(args[i]))
		} else if ids, ok := arg.([][16]byte); ok {
			args[i] = texts(ids)
		}
	}
	return r.Batch.Queue(r.schema.Statement(statement), args...)
}

func (s *session) request() *request {
	return &request{schema: s.store.Schema, untyped: s.untyped, most: s.manner.most}
}

func texts(ids [][16]byte) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = uuid.UUID(id).String()
	}
	return out
}
