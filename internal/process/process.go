// Package process is the processes that have the ledger open: their heartbeats, what one sees of the others', and the calls
// that those leave behind which are gone.
package process

import (
	"context"
	"database/sql"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Table keeps the heartbeats.
type Table struct {
	*sqldb.Dialect
	DB     *sql.DB
	Schema *sqldb.Schema

	// LockWriter waits for the right to write, where writers have to wait in line.
	LockWriter func(context.Context) (end func(), err error)
}

// Beat implements lane.Processes.
func (p Table) Beat(ctx context.Context, conn sqldb.Conn, own book.Process) (all []book.Process, now time.Time, err error) {
	conn = p.Schema.On(conn)
	_, err = conn.ExecContext(ctx, p.Bind(`INSERT INTO llm_processes (id, started_at, beat_at, lease_ms, zones)
		VALUES (?, `+p.Clock+`, `+p.Clock+`, ?, ?) ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, zones = excluded.zones`),
		own.ID.String(), own.Lease.Milliseconds(), own.Zones)
	if err != nil {
		return nil, now, err
	}
	rows, err := conn.QueryContext(ctx, `SELECT p.id, p.beat_at, p.lease_ms, p.zones, `+p.Clock+` FROM llm_processes p`)
	if err != nil {
		return nil, now, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			process book.Process
			lease   int64
		)
		if err := rows.Scan(&process.ID, sqldb.Instant(&process.BeatAt), &lease, &process.Zones, sqldb.Instant(&now)); err != nil {
			return nil, now, err
		}
		process.Lease = time.Duration(lease) * time.Millisecond
		all = append(all, process)
	}
	return all, now, rows.Err()
}

// Lapsed implements lane.Processes.
func (p Table) Lapsed(ctx context.Context, gone []book.Process, limit int) ([]book.Execution, error) {
	of, args := "", make([]any, 0, len(gone)+1)
	for _, process := range gone {
		of += "?, "
		args = append(args, process.ID.String())
	}
	rows, err := p.Schema.On(p.DB).QueryContext(ctx, p.Bind(`SELECT e.tenant, e.id, e.tenant_id, e.process, CAST(e.parents AS text)
		FROM llm_executions e LEFT JOIN llm_processes p ON p.id = e.process
		WHERE e.status = 'running' AND (e.deadline_at <= `+p.Clock+` OR p.id IS NULL OR p.id IN (`+of+`NULL)) LIMIT ?`),
		append(args, limit)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []book.Execution
	for rows.Next() {
		var (
			e       book.Execution
			parents string
		)
		if err := rows.Scan(&e.Tenant, &e.ID, &e.TenantKey, &e.Process, &parents); err != nil {
			return nil, err
		}
		if e.Ancestors, err = sqldb.ParseIDs(parents); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// Leave implements lane.Processes.
func (p Table) Leave(ctx context.Context, id book.ID) error {
	end, err := p.LockWriter(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = p.Schema.On(p.DB).ExecContext(ctx, p.Bind(`DELETE FROM llm_processes WHERE id = ?`), id.String())
	return err
}
