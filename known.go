package tenant

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/text"
)

// WithKnownTenantsOnly refuses the ids of tenants that nobody knows with an [*UnknownTenantError], so that a typo does not
// make a tenant without limits. Known is whoever is in the database: whose record was created or backfilled, or who was
// given a budget by [ConfigureBudget]; an [ID] that a process without this option has made calls for, too. A record of a
// registered model is known by itself.
//
// It holds for whatever takes an id: [Ledger.Reserve] and what is built on it (an [Agent], the transport), [Ledger.Record],
// [Ledger.Credit], [Ledger.Debit], [Ledger.TopUp], parents that a record names by their id, and questions, which otherwise
// answer that nothing was spent. ConfigureBudget makes an id known. Every decision asks the database, so that all processes
// agree at once, and a call of a known tenant costs no more than without it. While [WithAdmitWhenUnavailable] admits calls,
// nobody is asked. Defaults to off.
func WithKnownTenantsOnly() OpenOption {
	return func(o *openOptions) error {
		o.knownOnly = true
		return nil
	}
}

// unknown returns an error where there is no tenant with an id that somebody was sure to know.
func (l *Ledger) unknown(ctx context.Context, c sqldb.Conn, key string) error {
	id, err := l.directory().ByKey(ctx, c, key)
	if err != nil || id != book.NoTenant {
		return err
	}
	return l.unknownTenant(ctx, c, key)
}

// unknownTenant is the error about an id that no tenant has.
func (l *Ledger) unknownTenant(ctx context.Context, c sqldb.Conn, key string) error {
	keys, err := l.directory().Near(ctx, c, key, text.Tolerance(key))
	if err != nil {
		return err
	}
	e := &UnknownTenantError{TenantID: key}
	least := text.Tolerance(key) + 1
	for _, k := range keys {
		if k == string(Root) {
			continue
		}
		if d := text.Distance(strings.ToLower(key), strings.ToLower(k)); d < least || d == least && e.Nearest != "" && k < e.Nearest {
			e.Nearest, least = k, d
		}
	}
	return e
}

// UnknownTenantError says that no tenant has an id. It matches [ErrUnknownTenant].
type UnknownTenantError struct {
	TenantID string

	// Nearest is the known id that is most like it; empty where none is near. It may be another customer's: show it to
	// operators, not to whoever has sent the id.
	Nearest string
}

func (e *UnknownTenantError) Error() string {
	meant := ""
	if e.Nearest != "" {
		meant = fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return fmt.Sprintf("tenant: unknown tenant %q%s (WithKnownTenantsOnly: create its record, give it a budget with "+
		"ConfigureBudget, or run Backfill)", e.TenantID, meant)
}

// Is reports whether target is [ErrUnknownTenant].
func (e *UnknownTenantError) Is(target error) bool { return target == ErrUnknownTenant }

// UUID is a tenant by what never changes of it: neither when it is given another id, nor when its record is deleted and the
// id is taken by another one. [UUIDFor] returns it, and [FormerTenant] has it. It can be asked about, with
// every function that asks; calls cannot be made for it, nor can it be changed.
type UUID string

// LLMTenantID implements [Tenant]. No tenant has the UUID for its id.
func (u UUID) LLMTenantID() string { return string(u) }

// UUIDFor returns a tenant's [UUID]. A tenant that is not made yet has none: [ErrNoBudget].
//
// Its other errors are those of [Cost]; it reads where Cost reads.
func UUIDFor(ctx context.Context, db *gorm.DB, t Tenant) (UUID, error) {
	_, s, err := askMade(ctx, db, t)
	if err != nil {
		return "", err
	}
	return UUID(s.Tenant.ID.String()), nil
}

// askMade asks about a tenant that has to be there.
func askMade(ctx context.Context, db *gorm.DB, t Tenant) (*question, *books.State, error) {
	q, err := ask(ctx, db, t)
	if err != nil {
		return nil, nil, err
	}
	s, err := q.answer(ctx)
	if err == nil && (!q.made(s) || q.who.none()) {
		err = q.noBudget()
	}
	return q, s, err
}

// RecordKey names a record of the host's.
type RecordKey struct {
	Table string
	Key   string // the primary key; several columns are a JSON array
}

// RecordFor returns which record a tenant belongs to, for people who look a tenant up. It reports false for one that is known by
// its id alone.
//
// Its errors are those of [UUIDFor]; it reads where [Cost] reads.
func RecordFor(ctx context.Context, db *gorm.DB, t Tenant) (RecordKey, bool, error) {
	_, s, err := askMade(ctx, db, t)
	if err != nil {
		return RecordKey{}, false, err
	}
	return RecordKey{s.Tenant.OwnerType, s.Tenant.OwnerID}, s.Tenant.OwnerType != "", nil
}

// FormerTenant is the tenant of a record that was deleted. Its calls are on the books for good:
//
//	former, err := tenant.FormerTenants(ctx, db, "acme")
//	cost, err := tenant.Cost(ctx, db, former[0].UUID, tenant.AllTime)
type FormerTenant struct {
	UUID      UUID
	TenantID  string
	Name      string
	DeletedAt time.Time `json:",omitzero"`
}

// FormerTenants returns the tenants that had an id until their records were deleted, the last one first, whoever has it by
// now. It looks through the audit log, and is for people rather than for each request.
//
// Its errors are those of [Cost]; it reads where Cost reads.
func FormerTenants(ctx context.Context, db *gorm.DB, id ID) ([]FormerTenant, error) {
	q, err := ask(ctx, db, id)
	if err != nil {
		return nil, err
	}
	found, err := q.directory().Formers(ctx, q.home().Conn, q.who.Key)
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	former := make([]FormerTenant, len(found))
	for i, f := range found {
		former[i] = FormerTenant{UUID: UUID(f.ID.String()), TenantID: f.Key, Name: f.Name, DeletedAt: f.DeletedAt}
	}
	return former, nil
}

// asked finds out who a Tenant is that is only asked about.
func (l *Ledger) asked(t Tenant) (identity, error) {
	u, ok := t.(UUID)
	if !ok {
		return l.identify(t)
	}
	id, err := uuid.Parse(string(u))
	if err != nil || id == book.NoTenant {
		return identity{}, fmt.Errorf("%w: %q is no UUID of a tenant", ErrInvalidTenant, string(u))
	}
	return identity{Identity: records.Identity{Key: string(u)}, uuid: id}, nil
}

// answerable returns an error where nothing can be said about a tenant, because it is not there.
func (q *question) answerable(ctx context.Context, s *books.State) error {
	switch {
	case s.Tenant != nil || q.who.none():
		return nil
	case q.who.uuid != book.NoTenant:
		return &UnknownTenantError{TenantID: q.who.Key}
	case q.who.Key == string(Root) && q.options.root == nil:
		return fmt.Errorf("%w: the ledger has no root budget, and so nothing was counted for all tenants: WithRootBudget or "+
			"ConfigureBudget makes one, which counts from then on", ErrNoBudget)
	case q.who.Key == string(Root) || q.who.Declaration != nil || !q.options.knownOnly:
		return nil
	}
	err := q.unknownTenant(ctx, q.home().Conn, q.who.Key)
	if _, known := err.(*UnknownTenantError); known { //nolint:errorlint // it is never wrapped
		return err
	}
	return q.failure(ctx, err)
}
