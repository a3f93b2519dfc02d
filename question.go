package tenant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
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
	who := books.Who{ID: book.NoTenant, Key: q.who.key, OwnerType: q.who.ownerType, OwnerID: q.who.ownerID}
	if q.who.uuid != book.NoTenant {
		who = books.Who{ID: q.who.uuid}
	}
	s, err := q.books.State(ctx, who)
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	t := s.Tenant
	if t == nil || q.who.ownerType == "" || t.OwnerType == "" {
		return s, nil
	}
	its := t.OwnerType == q.who.ownerType && t.OwnerID == q.who.ownerID
	if its && plainKey(t.Key) == plainKey(q.who.key) {
		return s, nil
	}
	if its || t.OwnerID == q.who.ownerID && strings.HasSuffix(t.OwnerType, "."+q.who.ownerType) {
		at, _, err := q.find(q.db, q.who, q.who.declaration.resolve)
		if err != nil {
			return nil, err
		}
		if at.owner == t.OwnerType {
			return s, nil
		}
		q.who.ownerType = at.owner // in a schema of its own
		return q.state(ctx)
	}
	return nil, fmt.Errorf("%w: %q belongs to %s %s", ErrIdentityConflict, q.who.key, t.OwnerType, t.OwnerID)
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
	return s.Tenant != nil && (q.who.ownerType == "" || s.Tenant.OwnerType != "")
}

// expected is a tenant as it is, or as its first call is going to make it.
func (q *question) expected(s *books.State) *book.Tenant {
	if q.made(s) {
		return s.Tenant
	}
	t := &book.Tenant{Key: q.who.key, Inherit: !q.who.none()}
	if s.Tenant != nil {
		t = s.Tenant
	}
	d := q.who.declaration
	if d == nil {
		return t
	}
	p := directory.Profile{Key: q.who.key, Inherit: d.inherit, Enforcement: d.enforcement, Zone: d.zone, Limits: d.limits}
	if d.budgetOf != nil && q.who.record.IsValid() {
		_ = d.plan(&p, q.who.record) // where it fails, so does the first call
	}
	if s.Tenant == nil {
		t.Inherit = p.Inherit
	}
	if t.Enforcement == book.Inherited {
		t.Enforcement = p.Enforcement
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
	chain := append([]*book.Tenant{own}, s.Above...)
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
	class := l.store.Classify(err)
	if class == fault.NotMigrated && !l.unmigrated(err) {
		class = fault.Fatal
	}
	if told := fault.Of(class, err); told != err { //nolint:errorlint // whether it is the same one
		return told
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("tenant: %w", err)
}

// failure is that of the ledger, for a question on the host's own handle.
func (q *question) failure(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && rowsOpen(ctx, q.books.Conn, err) {
		return fmt.Errorf("%w (%w)", ErrRowsOpen, err)
	}
	return q.Ledger.failure(ctx, err)
}

// rowsOpen reports whether a connection of the host's answered with an error because rows are still being read from it. Pgx
// has no type for that, and its database/sql driver makes a broken connection of it, except where a statement is prepared.
func rowsOpen(ctx context.Context, c sqldb.Conn, err error) bool {
	const busy = "conn busy"
	if strings.Contains(err.Error(), busy) {
		return true
	}
	host, ok := c.(gorm.ConnPool)
	if _, pool := c.(*sql.DB); pool || !ok || !errors.Is(err, driver.ErrBadConn) {
		return false
	}
	statement, err := host.PrepareContext(ctx, "SELECT 1")
	if err != nil {
		return strings.Contains(err.Error(), busy)
	}
	defer func() { _ = statement.Close() }()
	return false
}
