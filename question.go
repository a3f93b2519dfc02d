package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// question is a tenant that is asked about on a handle of the host.
type question struct {
	*Ledger
	who   identity
	books books.Books
	db    *gorm.DB
}

// ask finds out whom a question is about, and where to ask. Money is read on the handle's own connection or transaction:
// a resolver would send it to a replica.
func ask(ctx context.Context, db *gorm.DB, t Tenant) (*question, error) {
	l, err := ledgerOf(db)
	if err != nil {
		return nil, err
	}
	if db.Error != nil {
		return nil, db.Error // of a transaction that could not be begun, for one
	}
	who, err := l.asked(t)
	if err != nil {
		return nil, err
	}
	b := books.Books{Dialect: l.dialect, Conn: db.Statement.ConnPool}
	return &question{l, who, b, db.Session(&gorm.Session{NewDB: true, Context: ctx})}, ctx.Err()
}

// state reads the tenant. One that is not there gets what it will have when it is made; its id is then that of nobody.
func (q *question) state(ctx context.Context) (*books.State, error) {
	who := books.Who{ID: book.NoTenant, Key: q.who.Key, OwnerType: q.who.OwnerType, OwnerID: q.who.OwnerID}
	if q.who.uuid != book.NoTenant {
		who = books.Who{ID: q.who.uuid}
	}
	s, err := q.books.State(ctx, who)
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	t := s.Tenant
	if t == nil || q.who.OwnerType == "" || t.OwnerType == "" {
		return s, nil
	}
	its := t.OwnerType == q.who.OwnerType && t.OwnerID == q.who.OwnerID
	if its && records.PlainKey(t.Key) == records.PlainKey(q.who.Key) {
		return s, nil
	}
	if its || t.OwnerID == q.who.OwnerID && strings.HasSuffix(t.OwnerType, "."+q.who.OwnerType) {
		owner, err := q.records.Owner(q.db, q.who.Identity)
		if err != nil {
			return nil, err
		}
		if owner == t.OwnerType {
			return s, nil
		}
		q.who.OwnerType = owner // in a schema of its own
		return q.state(ctx)
	}
	return nil, fmt.Errorf("%w: %q belongs to %s %s", ErrIdentityConflict, q.who.Key, t.OwnerType, t.OwnerID)
}

// answer is state for a question, which needs a tenant to be about.
func (q *question) answer(ctx context.Context) (*books.State, error) {
	s, err := q.state(ctx)
	if err == nil {
		err = q.answerable(ctx, s)
	}
	return s, err
}

// made reports whether a state is of a tenant that is the asker's own already.
func (q *question) made(s *books.State) bool {
	return s.Tenant != nil && (q.who.OwnerType == "" || s.Tenant.OwnerType != "")
}

// expected is a tenant as it is, or as its first call is going to make it.
func (q *question) expected(s *books.State) *book.Tenant {
	if q.made(s) {
		return s.Tenant
	}
	t := &book.Tenant{Key: q.who.Key, Inherit: !q.who.none()}
	if s.Tenant != nil {
		t = s.Tenant
	}
	if q.who.Declaration == nil {
		return t
	}
	p := q.who.Expected()
	if s.Tenant == nil {
		t.Inherit = p.Inherit
	}
	if t.Enforcement == book.Inherited {
		t.Enforcement = p.Enforcement
	}
	if t.Counts == "" {
		t.Counts = p.Counts
	}
	if t.Zone == "" {
		t.Zone = p.Zone
	}
	// Declared limits are added as inherited ones are: where the tenant has none of its own.
	t.Limits = decide.Effective(&book.Tenant{Limits: t.Limits, Inherit: true}, &book.Tenant{Limits: p.Limits}, s.Now)
	return t
}

// standings returns the limits in force for a tenant and those above it, and what each stands at.
func (q *question) standings(ctx context.Context, s *books.State, own *book.Tenant) ([]decide.Standing, error) {
	chain := append([]*book.Tenant{own}, s.Ancestors...)
	state := &book.State{Now: s.Now, Defaults: s.Defaults, Tenants: map[book.ID]*book.Tenant{}}
	for _, t := range chain {
		state.Tenants[t.ID] = t
	}
	config := q.windows
	if err := q.books.Fill(ctx, decide.Missing(config, state)); err != nil {
		return nil, q.failure(ctx, err)
	}
	return decide.Standings(config, chain, &s.Defaults, s.Now), nil
}

// failure gives an error of a question the form in which the host sees it.
func (l *Ledger) failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		if errors.Is(ended, context.DeadlineExceeded) {
			return l.crowded(ended)
		}
		return ended
	}
	if told := l.faults.Of(err); told != err { //nolint:errorlint // whether it is the same one
		return told
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("tenant: %w", err)
}

// failure is that of the ledger, for a question on the host's own handle.
func (q *question) failure(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && sqldb.RowsOpen(ctx, q.books.Conn, err) {
		return fmt.Errorf("%w (%w)", ErrRowsOpen, err)
	}
	var pruned *books.PrunedError
	if errors.As(err, &pruned) {
		return fmt.Errorf("%w: %w", ErrPruned, pruned)
	}
	return q.Ledger.failure(ctx, err)
}
