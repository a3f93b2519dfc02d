package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

const rollbackTimeout = 2 * time.Second

// Who skips what is locked goes on to older generations, and need not.
var lockWait, lockNoWait = fmt.Sprintf(lock, "", ""), fmt.Sprintf(lock, " AND b.generation >= "+generation, " SKIP LOCKED")

const (
	begin = "BEGIN ISOLATION LEVEL READ COMMITTED"

	// Tenants are asked for by their ids, $1, and by their keys, $2. All that stand above them are wanted too.
	search = `WITH RECURSIVE wanted (id) AS (
			(SELECT unnest($1::uuid[]) UNION ALL SELECT t.id FROM llm_tenants t WHERE t.tenant_id = ANY($2::text[]))
			UNION SELECT t.parent FROM wanted w CROSS JOIN LATERAL (
				SELECT t.parent FROM llm_tenants t WHERE t.id = w.id` + apart + `) t WHERE t.parent IS NOT NULL
		) SELECT id FROM wanted`

	// In the statements that follow $1 is all that are wanted, the root, which need not be there, and the defaults, which have no
	// balances.
	wanted = `(SELECT unnest($1::uuid[])) w (id)`

	// The rows of each tenant are looked up in a subquery of its own, which OFFSET 0 keeps one: a planner that has no
	// statistics yet, or had few rows when it made the plan, would else read all of a table and join it to the few that
	// are wanted.
	apart = ` OFFSET 0`

	// The lock comes alone: what is read in the same statement is of a snapshot from before the wait for it. Anchors are
	// locked in the order of the ids, one after the other, as the outer rows come. The last row comes with the last lock, so
	// its clock is the time of the batch; now() stands still from the beginning of the transaction on. The locked row itself comes as
	// it is once it is locked, also where it was waited for, and an anchor that moves on to its next generation meanwhile stays
	// the same row.
	lock = `SELECT ` + store.AnchorColumns + `, b.written, b.others, b.at, clock_timestamp() FROM ` + wanted + `
		LEFT JOIN LATERAL (SELECT b.*, b.ctid AS at FROM llm_balances b
			WHERE b.tenant = w.id AND b.window_unit = 'total' AND b.agent = '' AND b.model = ''%s
			ORDER BY b.generation DESC LIMIT 1 FOR NO KEY UPDATE%s) b ON true`

	// The present generation of a tenant w is its highest. What was before it are versions that nobody needs but open snapshots:
	// they are never looked at.
	generation = `(SELECT g.generation FROM llm_balances g WHERE g.tenant = w.id ORDER BY g.generation DESC LIMIT 1)`

	tenants = `SELECT ` + store.TenantColumns + ` FROM ` + wanted + ` CROSS JOIN LATERAL (
		SELECT * FROM llm_tenants t WHERE t.id = w.id` + apart + `) t`
	busy = `SELECT w.id FROM ` + wanted + ` CROSS JOIN LATERAL (SELECT FROM llm_balances b WHERE b.tenant = w.id
		AND b.generation = ` + generation + ` AND b.window_unit = 'total' AND b.agent = '' AND b.model = ''` + apart + `) b`
	balances = `SELECT ` + store.BalanceColumns + ` FROM ` + wanted + ` CROSS JOIN LATERAL (
		SELECT * FROM llm_balances b WHERE b.tenant = w.id AND b.generation = ` + generation + `
			AND (b.window_unit, b.agent, b.model) <> ('total', '', '')` + apart + `) b`

	executions = `SELECT ` + store.ExecutionColumns + `, e.at FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant, id) CROSS JOIN LATERAL (
		SELECT e.*, e.ctid AS at FROM llm_executions e WHERE e.tenant = coalesce(k.tenant, ($1::uuid[])[1]) AND e.id = k.id LIMIT 1) e`
	taken = ` FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (id, tenant_id, key)
		CROSS JOIN LATERAL (SELECT coalesce((SELECT t.id FROM llm_tenants t WHERE t.tenant_id = u.tenant_id), u.id) AS id` + apart + `) w
		CROSS JOIN LATERAL (SELECT * FROM llm_idempotency k WHERE k.tenant = w.id AND k.key = u.key` + apart + `) k`
	idempotent = `SELECT ` + store.ExecutionColumns + `, e.at` + taken + `
		CROSS JOIN LATERAL (SELECT e.*, e.ctid AS at FROM llm_executions e WHERE e.tenant = k.tenant AND e.id = k.execution LIMIT 1) e`
	gone = `SELECT ` + store.GoneColumns + taken + `
		WHERE NOT EXISTS (SELECT 1 FROM llm_executions e WHERE e.tenant = k.tenant AND e.id = k.execution` + apart + `)`

	processes = `SELECT ` + store.ProcessColumns + ` FROM llm_processes p WHERE p.id = ANY($1::uuid[])`
)

// read locks and reads, in one round trip for tenants that the session has met and that still stand where they stood.
func (s *session) read(ctx context.Context, conn *pgx.Conn, want *book.Want) (*book.State, error) {
	if ids, ok := s.ancestry.of(want); ok {
		state, complete, err := s.locked(ctx, conn, want, s.begun(), ids)
		if err != nil || complete {
			return state, err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return nil, err
		}
	}
	var ids []book.ID
	keys := want.Keys
	if keys == nil {
		keys = []string{}
	}
	r := s.begun()
	r.Queue(search, uuids(want.Tenants), keys).Query(each(func(row sqldb.Row) error {
		var id book.ID
		err := row.Scan(idTarget{&id})
		ids = append(ids, id)
		return err
	}))
	if err := s.send(ctx, conn, r); err != nil {
		return nil, err
	}
	// Where something moved meanwhile, the decision has those wait who stand below somebody that is not locked.
	state, _, err := s.locked(ctx, conn, want, s.request(), ids)
	return state, err
}

// begun is a request that begins a transaction.
func (s *session) begun() *request {
	r := s.request()
	r.Queue(begin)
	for _, statement := range s.manner.preamble {
		r.Queue(statement)
	}
	return r
}

// reader reads a session's batches.
type reader struct {
	store.Reader

	// Of the anchor at hand, beside its balances.
	written, others number
	at              place

	met []relation // of the tenants of the batch at hand
}

func (s *session) reader() *reader {
	if s.reads == nil {
		s.reads = &reader{Reader: store.Reader{
			ID:     func(id *book.ID) any { return idTarget{id} },
			Time:   func(t *time.Time) any { return instant{t} },
			Text:   func(text *string) any { return word{text, &s.words} },
			Limits: &s.limits,
			Int:    func(n *int64) any { return (*number)(n) },
			Place:  func(p *book.Place) any { return (*place)(p) },
		}}
	}
	return s.reads
}

// locked locks tenants and reads, after what is in the request already. It reports whether they are all that are wanted, and all
// that stand above them.
func (s *session) locked(ctx context.Context, conn *pgx.Conn, want *book.Want, batch *request, tenantIDs []book.ID) (*book.State, bool, error) {
	tenantIDs = ordered(append(tenantIDs, book.Root, book.Defaults))
	ids := uuids(tenantIDs)
	r := s.reader()
	state, met := r.Reset(len(ids)), r.met[:0]
	var scoped, missing [][16]byte // whose other balances are asked for, and whose should have been
	for _, id := range tenantIDs {
		if s.ancestry.scoped[id] {
			scoped = append(scoped, id)
		}
	}
	statement := lockWait
	if want.NoWait {
		statement = lockNoWait
	}
	batch.Queue(statement, ids).Query(each(func(row sqldb.Row) error {
		t, err := r.Anchor(row, &r.written, &r.others, &r.at, &state.Now)
		if t != nil {
			t.Stored.Written, t.Stored.Others, t.Stored.Place = int64(r.written), int64(r.others), book.Place(r.at)
			if r.others > 0 && !s.ancestry.scoped[t.ID] {
				missing = append(missing, t.ID)
			}
		}
		return err
	}))
	batch.Queue(tenants, ids).Query(each(func(row sqldb.Row) error {
		t, err := r.Tenant(row)
		met = append(met, relation{t.ID, t.Parent, t.Key})
		return err
	}))
	balance := func(row sqldb.Row) error {
		_, err := r.Balance(row)
		return err
	}
	if len(scoped) > 0 {
		batch.Queue(balances, scoped).Query(each(balance))
	}
	if len(want.Executions) > 0 {
		owners, own := make([][16]byte, len(want.Executions)), make([][16]byte, len(want.Executions))
		for i, k := range want.Executions {
			owners[i], own[i] = k.Tenant, k.ID
		}
		batch.Queue(executions, shorten(owners), own).Query(each(r.Execution))
	}
	if len(want.Idempotent) > 0 {
		n := len(want.Idempotent)
		owners, names, uses := make([][16]byte, n), make([]string, n), make([]string, n)
		for i, use := range want.Idempotent {
			owners[i], names[i], uses[i] = use.Tenant, use.TenantKey, use.Key
		}
		batch.Queue(idempotent, owners, names, uses).Query(each(r.Idempotent))
		batch.Queue(gone, owners, names, uses).Query(each(r.Gone))
	}
	if len(want.Processes) > 0 {
		batch.Queue(processes, uuids(want.Processes)).Query(each(r.Process))
	}
	if err := s.send(ctx, conn, batch); err != nil {
		return nil, false, err
	}
	r.met = met
	complete := s.ancestry.learn(want, tenantIDs, met)
	more := s.request()
	if len(missing) > 0 {
		for _, id := range missing {
			s.ancestry.scoped[id] = true
		}
		more.Queue(balances, missing).Query(each(balance))
	}
	if unlocked := unlocked(state, want, met); len(unlocked) > 0 {
		more.Queue(busy, unlocked).Query(each(func(row sqldb.Row) error {
			var id book.ID
			err := row.Scan(idTarget{&id})
			state.Busy[id] = true
			return err
		}))
	}
	if more.Len() > 0 {
		if err := s.send(ctx, conn, more); err != nil {
			return nil, false, err
		}
	}
	return state, complete, nil
}

// unlocked returns those tenants that may be there and whose anchor was not locked.
func unlocked(state *book.State, want *book.Want, met []relation) (ids [][16]byte) {
	for _, m := range met {
		if state.Tenants[m.id] == nil && m.id != book.Defaults {
			ids = append(ids, m.id)
		}
	}
	if state.Tenants[book.NoTenant] == nil && slices.Contains(want.Tenants, book.NoTenant) { // who has no row but its anchor
		ids = append(ids, book.NoTenant)
	}
	return ids
}

func uuids(ids []book.ID) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

func each(enter func(sqldb.Row) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := enter(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

// maxWords and longestWord bound what is kept of the texts that rows have.
const maxWords, longestWord = 10_000, 64

// words are the texts that the rows of a session's batches have, so that not each row has its own.
type words map[string]string

// word is the target to scan such a text into.
type word struct {
	to    *string
	words *words
}

// ScanBytes implements pgtype.BytesScanner.
func (w word) ScanBytes(text []byte) error {
	known, ok := (*w.words)[string(text)]
	if !ok {
		known = string(text)
		if len(*w.words) >= maxWords || *w.words == nil {
			*w.words = words{}
		}
		if len(known) <= longestWord {
			(*w.words)[known] = known
		}
	}
	*w.to = known
	return nil
}

// number is the target to scan a number into. NULL is zero.
type number int64

// ScanInt64 implements pgtype.Int64Scanner.
func (n *number) ScanInt64(v pgtype.Int8) error {
	*n = number(v.Int64)
	return nil
}

// instant is the target to scan a time into. NULL is the zero time.
type instant struct{ to *time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (i instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	*i.to = v.Time
	return nil
}

// place is the target to scan the place of a row into. NULL is the zero one.
type place book.Place

// ScanTID implements pgtype.TIDScanner.
func (p *place) ScanTID(v pgtype.TID) error {
	*p = place(placeOf(v.BlockNumber, v.OffsetNumber))
	return nil
}

// idTarget is the target to scan a UUID into. NULL is the zero one.
type idTarget struct{ to *book.ID }

// ScanUUID implements pgtype.UUIDScanner.
func (i idTarget) ScanUUID(v pgtype.UUID) error {
	*i.to = v.Bytes
	return nil
}

// fill gives balances that are not stored yet what their windows have seen.
func fill(ctx context.Context, conn *pgx.Conn, schema *sqldb.Schema, sums []book.Sum) error {
	for i := range sums {
		err := books.Fill(sqldb.Postgres, &sums[i], func(statement string, args []any, enter func(sqldb.Row) error) error {
			rows, err := conn.Query(ctx, schema.Statement(statement), args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			return each(enter)(rows)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
