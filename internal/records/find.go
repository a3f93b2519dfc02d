package records

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
)

// stale are the keys of records that their tables have changed into others, as a trigger that lower-cases them does: each
// call with such a record would look them up anew. It is a guess: whose tenant a key is is asked in each batch.
type stale struct {
	known atomic.Int64
	mu    sync.Mutex
	keys  map[[2]string]renamed // by owner
}

type renamed struct{ said, current string }

// maxStaleKeys bounds the memory that they take.
const maxStaleKeys = 10_000

// Current gives a record the key that its table had when it was looked up last.
func (g *Registry) Current(who Identity) Identity {
	s := &g.stale
	if who.OwnerType == "" || s.known.Load() == 0 {
		return who
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.keys[[2]string{who.OwnerType, who.OwnerID}]; ok && r.said == who.Key {
		who.said, who.Key = r.said, r.current
	}
	return who
}

// Learn remembers what the key of a record has turned out to be.
func (g *Registry) Learn(who Identity, current string) {
	s := &g.stale
	if who.OwnerType == "" {
		return
	}
	said := who.Key
	if who.said != "" {
		said = who.said
	}
	owner := [2]string{who.OwnerType, who.OwnerID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if said == current {
		delete(s.keys, owner)
	} else {
		if s.keys == nil || len(s.keys) >= maxStaleKeys {
			s.keys = map[[2]string]renamed{}
		}
		s.keys[owner] = renamed{said, current}
	}
	s.known.Store(int64(len(s.keys)))
}

// Owner returns the table of a record that somebody has in memory, as the books have it, on the connection of db.
func (g *Registry) Owner(db *gorm.DB, who Identity) (string, error) {
	at, _, err := g.find(db, who, who.Declaration.resolve)
	return at.owner, err
}

// Make makes the tenant of a record, or makes it follow, in the transaction of tx. With [fault.ErrTenantSuspended], for a record that
// is deleted, what it wrote is to be committed.
func (g *Registry) Make(tx *gorm.DB, who Identity) (current Identity, err error) {
	at, row, err := g.find(tx, who, who.Declaration.atHome)
	switch {
	case err != nil:
		return who, err
	case row == nil: // its table is in a schema of its own
		who.OwnerType = at.owner
		return who, nil
	case row.Err != nil && !row.Deleted:
		return who, row.Err
	}
	who.OwnerType = at.owner
	if who.Key = row.Key; row.Deleted {
		err = fmt.Errorf("%w: the record %s %s is deleted", fault.ErrTenantSuspended, who.OwnerType, who.OwnerID)
	}
	if failed := g.mending(tx, func() error { return at.ensure(tx, [][]any{who.primaryKey}) }); failed != nil {
		err = failed
	}
	return who, err
}

// find finds the record that somebody has in memory, in the transaction of tx. A record of the same struct may be of another
// table, where its number is somebody else's: it is who it says it is if its row has the same key, or its tenant has had that
// key. No row is returned for one of another schema, whose tenant has the key and the number.
func (g *Registry) find(tx *gorm.DB, who Identity, where func(*gorm.DB) (records, error)) (at records, row *directory.Profile, err error) {
	ctx, pool, d := tx.Statement.Context, tx.Statement.ConnPool, who.Declaration
	var rows []directory.Profile
	absent := (*absentError)(nil)
	at, reading := where(tx)
	if reading == nil {
		rows, reading = at.current(tx, [][]any{who.primaryKey})
	}
	switch {
	case errors.As(reading, &absent):
	case reading != nil:
		return at, nil, g.Explain(fmt.Errorf("read %s %s: %w", d.schema.Table, who.OwnerID, reading))
	case len(rows) == 0:
	case PlainKey(who.Key) == PlainKey(rows[0].Key), rows[0].Err != nil:
		return at, &rows[0], nil //nolint:nilerr // what is wrong with its key is in the row, for the caller
	default:
		row = &rows[0]
		if had, err := g.directory().Had(ctx, pool, at.owner, who.OwnerID, who.Key); err != nil || had {
			return at, row, g.Explain(err)
		}
	}
	if !strings.Contains(d.schema.Table, ".") {
		owner, err := g.directory().InSchema(ctx, pool, d.schema.Table, who.OwnerID, who.Key)
		if err != nil || owner != "" {
			return records{Declaration: d, owner: owner}, nil, g.Explain(err)
		}
	}
	switch {
	case absent != nil:
		return at, nil, fmt.Errorf("%w: the record %s %s cannot be read: %w", fault.ErrInvalidTenant, d.schema.Table, who.OwnerID, absent)
	case row == nil:
		return at, nil, fmt.Errorf("%w: there is no record %s %s in the database; a call made inside the transaction that "+
			"creates it has to wait for the commit", fault.ErrInvalidTenant, who.OwnerType, who.OwnerID)
	}
	return at, nil, fmt.Errorf("%w: the record says that it is %q, and %s %s is %q: it is of another table, or out of date; load it again, "+
		"or give the call tenant.ID(%[2]q)", fault.ErrInvalidTenant, who.Key, at.owner, who.OwnerID, row.Key)
}

// PlainKey is a key without what a database may change of it: columns that are padded, and those that know no case.
func PlainKey(key string) string { return strings.ToLower(strings.TrimRight(key, " ")) }
