package books

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Server is where a connection of PostgreSQL leads to.
type Server struct {
	Database string // which one, and of which cluster; a replica has that of its primary
	Process  string // the same for two connections to one server
	Follows  bool   // it is a replica

	Log      string    // how far the log of the primary is written, or replayed by a replica
	Now      time.Time // of a primary: its clock
	Replayed time.Time // of a replica: when the last commit was made that it has; zero for none yet
}

// Server looks where the connection leads to.
func (b Books) Server(ctx context.Context) (s Server, err error) {
	migrated := false
	err = b.query(ctx)(`SELECT c.system_identifier || '/' || d.oid, CAST(pg_postmaster_start_time() AS text), r.follows,
			coalesce(CAST(CASE WHEN r.follows THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS text), ''),
			clock_timestamp(), CASE WHEN r.follows THEN pg_last_xact_replay_timestamp() END, to_regclass('llm_executions') IS NOT NULL
		FROM pg_control_system() c CROSS JOIN pg_database d CROSS JOIN (SELECT pg_is_in_recovery() AS follows) r WHERE d.datname = current_database()`, nil,
		func(row sqldb.Row) error {
			return row.Scan(&s.Database, &s.Process, &s.Follows, &s.Log, sqldb.Instant(&s.Now), sqldb.Instant(&s.Replayed), &migrated)
		})
	if err == nil && !migrated {
		err = errors.New("the ledger's tables are not found there")
	}
	return s, err
}

// Behind is how far a server is behind the primary, which was looked at before it.
func (b Books) Behind(ctx context.Context, s, primary Server) (time.Duration, error) {
	switch {
	case s.Database != primary.Database:
		return 0, errors.New("it is no copy of the ledger's database, but another one")
	case primary.Follows:
		return 0, errors.New("the ledger's own database is a replica")
	case s.Process == primary.Process && !s.Follows:
		return 0, nil
	case !s.Follows:
		return 0, errors.New("it follows no primary: it may have been promoted")
	case s.Log == "":
		return 0, errors.New("it does not say how far it has replayed the log")
	}
	behind := false
	err := b.query(ctx)(b.Bind(`SELECT CAST(CAST(? AS text) AS pg_lsn) < CAST(CAST(? AS text) AS pg_lsn)`), []any{s.Log, primary.Log},
		func(row sqldb.Row) error { return row.Scan(&behind) })
	switch {
	case err != nil || !behind:
		return 0, err
	case s.Replayed.IsZero():
		return 0, fmt.Errorf("it is behind, and has replayed no commit yet")
	}
	// What was committed until then is there.
	return max(primary.Now.Sub(s.Replayed), 0), nil
}
