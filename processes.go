package tenant

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Process is a process that has made calls on a ledger's database, and has not closed its ledger.
type Process struct {
	ID        string
	Own       bool // it is the one that asks
	StartedAt time.Time
	BeatAt    time.Time     // when its last heartbeat was, by the database's clock
	Lease     time.Duration // see WithLease
	Alive     bool          // its last heartbeat is no older than its lease; its calls are ended by others otherwise

	// OtherTimeZones are those that this process and the one that asks both use, and in which they have other days, because
	// their zone data are of different versions. See [TimeZoneDiffersEvent].
	OtherTimeZones []string
}

// Processes returns the processes that have the ledger of db open, and those that were killed and are not forgotten yet, the
// oldest first: for status pages. It writes nothing, and reads where [Cost] reads.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func Processes(ctx context.Context, db *gorm.DB) ([]Process, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	processes, err := q.processes(ctx)
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	return processes, nil
}

func (q *question) processes(ctx context.Context) ([]Process, error) {
	rows, err := q.books.Conn.QueryContext(ctx, `SELECT CAST(p.id AS text), p.started_at, p.beat_at, p.lease_ms, p.zones, `+q.dialect.Clock+`
		FROM llm_processes p ORDER BY p.started_at, p.id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	own := q.zones.seen(time.Now())
	var all []Process
	for rows.Next() {
		var (
			p     Process
			row   book.Process
			lease int64
			now   time.Time
		)
		if err := rows.Scan(&p.ID, sqldb.Instant(&p.StartedAt), sqldb.Instant(&p.BeatAt), &lease, &row.Zones, sqldb.Instant(&now)); err != nil {
			return nil, err
		}
		if row.ID, err = uuid.Parse(p.ID); err != nil {
			return nil, fmt.Errorf("the id of a process: %w", err)
		}
		p.Own, p.Lease = row.ID == q.lanes.ID, time.Duration(lease)*time.Millisecond
		p.Alive = now.Sub(p.BeatAt) < p.Lease
		p.OtherTimeZones = sortedKeys(own.differences(seenBy(row)))
		all = append(all, p)
	}
	return all, rows.Err()
}
