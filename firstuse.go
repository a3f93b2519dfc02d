package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
)

// firstUse makes the tenant of a call that has none in the database: one that is known by its id alone, or a record
// from before its model was declared. It also mends a record that changed without the ledger's seeing it. Calls of one
// tenant that come together do it once, and those of many tenants take turns for a few connections: a service that has
// just started meets all of its tenants at once.
func (l *Ledger) firstUse(ctx context.Context, who identity) (identity, error) {
	type made struct {
		identity
		error
	}
	answer := l.firstUses.DoChan(strings.Join([]string{who.key, who.ownerType, who.ownerID}, "\x00"), func() (any, error) {
		select {
		case l.making <- struct{}{}:
			defer func() { <-l.making }()
		case <-l.lanes.Context().Done(): // not before: what was admitted is booked yet
			return made{who, ErrClosed}, nil
		}
		l.looked.Add(1)
		current, err := l.makeOnce(context.WithoutCancel(ctx), who) // one caller's end is not the others'
		return made{current, err}, nil
	})
	select {
	case r := <-answer:
		m := r.Val.(made)
		if m.error == nil {
			l.stale.learn(who, m.key)
		}
		return m.identity, m.error
	case <-ctx.Done():
		return who, ctx.Err()
	}
}

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

// current gives a record the key that its table had when it was looked up last.
func (s *stale) current(who identity) identity {
	if who.ownerType == "" || s.known.Load() == 0 {
		return who
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.keys[[2]string{who.ownerType, who.ownerID}]; ok && r.said == who.key {
		who.said, who.key = r.said, r.current
	}
	return who
}

// learn remembers what the key of a record has turned out to be.
func (s *stale) learn(who identity, current string) {
	if who.ownerType == "" {
		return
	}
	said := who.key
	if who.said != "" {
		said = who.said
	}
	owner := [2]string{who.ownerType, who.ownerID}
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

// makingAtOnce is how many first uses have a connection at a time.
const makingAtOnce = 4

func (l *Ledger) makeOnce(ctx context.Context, who identity) (identity, error) {
	// The host may have no connection to spare, least of all one that calls inside a transaction of its own.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var (
		current identity
		deleted error // which is no reason to undo what was mended
	)
	var err error
	if l.options.knownOnly && who.declaration == nil && who.key != string(Root) {
		current, err = who, l.unknown(ctx, l.db.Statement.ConnPool, who.key)
	} else {
		err = l.transaction(ctx, l.db, func(tx *gorm.DB) (err error) {
			current, err = l.makeTenant(ctx, tx, who)
			if errors.Is(err, ErrTenantSuspended) {
				deleted, err = err, nil
			}
			return err
		})
	}
	switch {
	case err == nil:
		err = deleted
	case errors.Is(err, ErrUnavailable):
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: tenant %q could not be set up in %v: %w", ErrUnavailable, who.key, patience, l.crowded(err))
	case l.unreachable(err), l.passes(err):
		err = l.unavailable(fmt.Errorf("tenant %q could not be set up: %w", who.key, err), l.unreachable(err))
	}
	return current, err
}

// makeTenant is makeOnce in the transaction of tx. With [ErrTenantSuspended], for a record that is deleted, what it wrote
// is to be committed.
func (l *Ledger) makeTenant(ctx context.Context, tx *gorm.DB, who identity) (current identity, err error) {
	pool := tx.Statement.ConnPool
	if who.key == string(Root) {
		return who, l.makeRoot(ctx, tx)
	}
	if who.declaration == nil {
		_, err := l.directory().Ensure(ctx, pool, []directory.Profile{{Key: who.key, Name: who.key, Inherit: true}})
		return who, l.refused(err)
	}
	tx = tx.WithContext(ctx)
	at, row, err := l.find(tx, who, who.declaration.atHome)
	switch {
	case err != nil:
		return who, err
	case row == nil: // its table is in a schema of its own
		who.ownerType = at.owner
		return who, nil
	case row.Err != nil && !row.Deleted:
		return who, row.Err
	}
	who.ownerType = at.owner
	if who.key = row.Key; row.Deleted {
		err = fmt.Errorf("%w: the record %s %s is deleted", ErrTenantSuspended, who.ownerType, who.ownerID)
	}
	if failed := l.mending(tx, func() error { return at.ensure(tx, [][]any{who.primaryKey}) }); failed != nil {
		err = failed
	}
	return who, err
}

// find finds the record that somebody has in memory, in the transaction of tx. A record of the same struct may be of another
// table, where its number is somebody else's: it is who it says it is if its row has the same key, or its tenant has had that
// key. No row is returned for one of another schema, whose tenant has the key and the number.
func (l *Ledger) find(tx *gorm.DB, who identity, where func(*gorm.DB) (records, error)) (at records, row *directory.Profile, err error) {
	ctx, pool, d := tx.Statement.Context, tx.Statement.ConnPool, who.declaration
	var rows []directory.Profile
	absent := (*absentError)(nil)
	at, reading := where(tx)
	if reading == nil {
		rows, reading = at.current(tx, [][]any{who.primaryKey})
	}
	switch {
	case errors.As(reading, &absent):
	case reading != nil:
		return at, nil, l.refused(fmt.Errorf("read %s %s: %w", d.schema.Table, who.ownerID, reading))
	case len(rows) == 0:
	case plainKey(who.key) == plainKey(rows[0].Key), rows[0].Err != nil:
		return at, &rows[0], nil //nolint:nilerr // what is wrong with its key is in the row, for the caller
	default:
		row = &rows[0]
		if had, err := l.directory().Had(ctx, pool, at.owner, who.ownerID, who.key); err != nil || had {
			return at, row, l.refused(err)
		}
	}
	if !strings.Contains(d.schema.Table, ".") {
		owner, err := l.directory().InSchema(ctx, pool, d.schema.Table, who.ownerID, who.key)
		if err != nil || owner != "" {
			return records{declaration: d, owner: owner}, nil, l.refused(err)
		}
	}
	switch {
	case absent != nil:
		return at, nil, fmt.Errorf("%w: the record %s %s cannot be read: %w", ErrInvalidTenant, d.schema.Table, who.ownerID, absent)
	case row == nil:
		return at, nil, fmt.Errorf("%w: there is no record %s %s in the database; a call made inside the transaction that "+
			"creates it has to wait for the commit", ErrInvalidTenant, who.ownerType, who.ownerID)
	}
	return at, nil, fmt.Errorf("%w: the record says that it is %q, and %s %s is %q: it is of another table, or out of date; load it again, "+
		"or give the call tenant.ID(%[2]q)", ErrInvalidTenant, who.key, at.owner, who.ownerID, row.Key)
}

// plainKey is a key without what a database may change of it: columns that are padded, and those that know no case.
func plainKey(key string) string { return strings.ToLower(strings.TrimRight(key, " ")) }

// saveDefaults writes the default settings and the root's budget that Open was given.
func (l *Ledger) saveDefaults(ctx context.Context) error {
	if l.options.limits == nil && l.options.enforcement == "" && l.options.root == nil {
		return nil
	}
	var limits Limits
	if l.options.limits != nil {
		limits = *l.options.limits
	}
	rows, err := limits.rows()
	if err != nil {
		return err
	}
	return l.transaction(ctx, l.db, func(tx *gorm.DB) error {
		if err := l.saveRoot(ctx, tx); err != nil {
			return err
		}
		return l.directory().SaveSettings(ctx, tx.Statement.ConnPool, book.Defaults, rows, l.options.limits != nil, book.Enforcement(l.options.enforcement))
	})
}
