// Package books answers questions about a tenant's books and changes its settings, on whatever connection the host
// hands it: its pool, or a transaction of its own, which is joined then. It locks nothing unless its doc says so.
package books

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Books are the tables of the ledger, seen through one connection. Statements are run with QueryContext and ExecContext
// only: what gorm's prepared statements return from QueryRowContext panics when it is scanned after an error.
type Books struct {
	*sqldb.Dialect
	Conn sqldb.Conn
}

// Who says which tenant is meant: that of a key, or of a record, which need not have the key yet; or, without a key, that
// of an id.
type Who struct {
	ID                      book.ID
	Key, OwnerType, OwnerID string
}

// State is a tenant's settings and balances, and the ledger's default settings, as they were at one moment.
type State struct {
	// Now is the database's clock.
	Now time.Time

	// Tenant is nil where there is none. One that was asked for by a record may be without a record yet, or be another
	// record's: it has the key then.
	Tenant   *book.Tenant
	Name     string
	Defaults book.Tenant

	// Ancestors are the tenants above it, the nearest first; where there is no tenant, those above any that has no parent.
	Ancestors []*book.Tenant
}

// One statement, so that it is one snapshot: a limit and what is spent under it belong together. The ledger's defaults
// are a tenant too. The columns are those of the first part, the balances; the others put theirs in their places.
var (
	stateSQL = `WITH RECURSIVE asked (id) AS (%[1]s), chain (id) AS (SELECT id FROM asked
	UNION SELECT t.parent FROM chain c %[5]s WHERE t.parent IS NOT NULL),
who (id) AS (SELECT id FROM chain UNION SELECT w.id FROM llm_tenants w
	WHERE w.id IN ('00000000-0000-0000-0000-000000000001', 'ffffffff-ffff-ffff-ffff-ffffffffffff')),
present AS (SELECT b.* FROM who w JOIN %[3]s)
` + windows(`SELECT 'balance' AS part, CAST(b.tenant AS text) AS id, @unit, @agent, @model, '', '', '', '', '', '',
	@spent_cost, @spent_charge, @spent_tokens, @spent_calls, @held_cost, @held_charge, @held_tokens, @held_calls, @start, @end
	FROM present b WHERE @here`) + `
UNION ALL
SELECT 'tenant', CAST(t.id AS text), coalesce(t.tenant_id, ''), t.name, t.enforcement, t.time_zone,
	coalesce(t.owner_type, ''), coalesce(t.owner_id, ''), coalesce(CAST(t.parent AS text), ''), t.counts, CAST(t.limits AS text),
	CASE WHEN t.inherit THEN 1 ELSE 0 END, CASE WHEN t.suspended_at IS NULL THEN 0 ELSE 1 END,
	CASE WHEN t.deleted_at IS NULL THEN 0 ELSE 1 END, CASE WHEN ` + hasBelow + ` THEN 1 ELSE 0 END, 0, 0, 0, 0, NULL, NULL
	FROM who w %[4]s
UNION ALL
SELECT 'clock', '', '', '', '', '', '', '', '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, %[2]s, NULL`

	byKey   = `SELECT w.id FROM llm_tenants w WHERE w.tenant_id = ?`
	byOwner = `SELECT w.id FROM llm_tenants w WHERE w.owner_type = ? AND w.owner_id = ?`
	byID    = `SELECT w.id FROM (SELECT CAST(? AS %s) AS id) w JOIN %s`
)

// State reads a tenant and the defaults.
func (b Books) State(ctx context.Context, who Who) (*State, error) {
	// Each by itself, and not with OR, for which a planner may look at all tenants.
	which, args := byKey, []any{who.Key}
	if who.OwnerType != "" {
		which, args = which+" UNION "+byOwner, append(args, who.OwnerType, who.OwnerID)
	}
	if who.Key == "" {
		which, args = fmt.Sprintf(byID, b.UUID, b.Present("w.id", anchor)), []any{who.ID.String()}
	}
	rows, err := b.Conn.QueryContext(ctx, b.Bind(fmt.Sprintf(stateSQL, which, b.Clock, b.Present("w.id", "true"),
		b.JoinByID("llm_tenants", "t", "w.id"), b.JoinByID("llm_tenants", "t", "c.id"))), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()

	s := &State{}
	found := map[book.ID]*tenant{}
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		if r.part == "clock" {
			s.Now = r.start
			continue
		}
		t := found[r.id]
		if t == nil {
			t = &tenant{Tenant: book.Tenant{ID: r.id}}
			found[r.id] = t
		}
		if err := t.enter(&r); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if defaults := found[book.Defaults]; defaults != nil {
		s.Defaults = defaults.Tenant
		delete(found, book.Defaults)
	}
	if t := choose(found, who); t != nil {
		s.Tenant, s.Name = &t.Tenant, t.name
	}
	s.ascend(found)
	return s, nil
}

// ascend finds out who stands above the tenant.
func (s *State) ascend(found map[book.ID]*tenant) {
	last := s.Tenant
	if last == nil {
		last = &book.Tenant{}
	}
	for len(s.Ancestors) <= book.MaxDepth {
		id := last.Parent
		if id == book.NoTenant && last.ID != book.Root {
			id = book.Root
		}
		next := found[id]
		if id == book.NoTenant || next == nil {
			return
		}
		last = &next.Tenant
		if last == s.Tenant || slices.Contains(s.Ancestors, last) {
			return // a circle counts each of its tenants once
		}
		s.Ancestors = append(s.Ancestors, last)
	}
}

// choose prefers a record's own tenant to the one that has its key. A deleted one leaves the key to the record.
func choose(found map[book.ID]*tenant, who Who) *tenant {
	var holder *tenant
	for id, t := range found {
		switch {
		case who.Key == "" && id == who.ID:
			return t
		case who.OwnerType != "" && t.OwnerType == who.OwnerType && t.OwnerID == who.OwnerID:
			return t
		case who.Key != "" && t.Key == who.Key && !(t.Deleted && who.OwnerType != ""):
			holder = t
		}
	}
	return holder
}

type tenant struct {
	book.Tenant
	name string
}

type row struct {
	part       string
	id         book.ID
	text       [9]string
	number     [8]int64
	start, end time.Time
}

func (r *row) scan(from sqldb.Row) error {
	to := []any{&r.part, &r.id}
	for i := range r.text {
		to = append(to, &r.text[i])
	}
	for i := range r.number {
		to = append(to, &r.number[i])
	}
	return from.Scan(append(to, sqldb.Instant(&r.start), sqldb.Instant(&r.end))...)
}

// enter puts a row of the statement where it belongs.
func (t *tenant) enter(r *row) error {
	if r.part == "tenant" {
		t.Key, t.name, t.Zone = r.text[0], r.text[1], r.text[3]
		t.Enforcement = book.Enforcement(r.text[2])
		t.OwnerType, t.OwnerID, t.Counts = r.text[4], r.text[5], book.Counting(r.text[7])
		if r.text[6] != "" {
			parent, err := uuid.Parse(r.text[6])
			if err != nil {
				return err
			}
			t.Parent = parent
		}
		t.Inherit, t.Suspended, t.Deleted, t.HasDescendants = r.number[0] != 0, r.number[1] != 0, r.number[2] != 0, r.number[3] != 0
		limits, err := sqldb.ParseLimits(r.text[8])
		t.Limits, t.TopUps = limits.Own, limits.TopUps
		return err
	}
	window, err := period.ParseWindow(r.text[0])
	if err != nil {
		return err
	}
	scope := book.Scope{Window: window, Agent: r.text[1], Model: r.text[2]}
	t.Balances = append(t.Balances, book.Balance{
		Scope: scope, Start: r.start, End: r.end,
		Spent: book.Amount{Cost: r.number[0], Charge: r.number[1], Tokens: r.number[2], Calls: r.number[3]},
		Held:  book.Amount{Cost: r.number[4], Charge: r.number[5], Tokens: r.number[6], Calls: r.number[7]},
	})
	return nil
}

// Fill gives the balances that the limits in force need, and that no call has made yet, what their windows have seen.
func (b Books) Fill(ctx context.Context, sums []book.Sum) error {
	for i := range sums {
		if err := Fill(b.Dialect, &sums[i], b.query(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// hasBelow says of a tenant t that another one stands below it, or has stood there.
// It is asked of few tenants, and not written as EXISTS: a planner that expects many would collect all that stand below any.
const hasBelow = `(SELECT 1 FROM llm_tenants c WHERE c.parent = t.id LIMIT 1) IS NOT NULL OR (SELECT 1 FROM llm_former f WHERE f.parent = t.id LIMIT 1) IS NOT NULL`
