package tenant

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Rename gives a tenant that is known by its id alone another id. It keeps its budget, what it has spent, and its history;
// calls that are running are booked on it all the same. Past executions keep the id that they were made under. The old
// id is then nobody's: a call with it makes a new tenant.
//
// The tenant of a record follows the record: change that instead. Two tenants are never merged.
//
// Errors: [ErrNoBudget] if there is no tenant from; [ErrIdentityConflict] if there is a tenant to already;
// [ErrInvalidTenant] if from belongs to a record, or if an id cannot be one; [ErrNotMigrated]; [ErrUnavailable];
// [ErrClosed]; and ctx's own.
func (l *Ledger) Rename(ctx context.Context, from, to ID) error {
	for _, id := range []ID{from, to} {
		if err := ownKey(string(id)); err != nil {
			return fmt.Errorf("Rename: %w", err)
		}
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	var known error
	err := l.transaction(ctx, l.db, func(tx *gorm.DB) error {
		renamed, err := l.directory().Rename(ctx, tx.Statement.ConnPool, string(from), string(to))
		switch {
		case err != nil:
			return err
		case renamed.From == "":
			known = fmt.Errorf("%w: Rename: there is no tenant %q", ErrNoBudget, from)
		case renamed.OwnerType != "":
			known = fmt.Errorf("%w: Rename: tenant %q belongs to %s %s; change the record's own key, and its tenant follows",
				ErrInvalidTenant, from, renamed.OwnerType, renamed.OwnerID)
		case renamed.To != "":
			known = fmt.Errorf("%w: Rename: there is a tenant %q already", ErrIdentityConflict, to)
		}
		return known
	})
	switch {
	case err == nil, known != nil:
		return known
	case sqldb.Taken(err):
		return fmt.Errorf("%w: Rename: there is a tenant %q already", ErrIdentityConflict, to)
	}
	return l.failure(ctx, err)
}
