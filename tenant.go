package tenant

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Tenant is whom a call is made for. Any type with this method is one: usually a GORM model that was declared with
// [Ledger.Register]. A model without the method becomes one through [Ledger.Tenant], a plain string through [ID]. See
// [WithKnownTenantsOnly] for ids that come from outside.
//
// The id is the tenant's key: not empty, at most 255 bytes of UTF-8, without control characters, and without spaces at its
// ends, which nobody sees. "acme" and "ACME" are two tenants. A nil Tenant is no
// tenant; a nil pointer in a Tenant, or a record that was not saved yet, is [ErrInvalidTenant] wherever it is used.
type Tenant interface {
	LLMTenantID() string
}

// ID is a tenant that is known by its id alone, for programs that have no record of it at hand.
type ID string

// LLMTenantID implements [Tenant].
func (id ID) LLMTenantID() string { return string(id) }

// ContextWithTenant returns a context whose calls are made for t, unless a call or an agent says otherwise. A nil Tenant takes
// an outer one away.
func ContextWithTenant(ctx context.Context, t Tenant) context.Context {
	return callctx.WithTenant(ctx, t)
}

// TenantFromContext returns the tenant that [ContextWithTenant] put into ctx. It reports false where there is none.
func TenantFromContext(ctx context.Context) (Tenant, bool) {
	t, _ := callctx.Tenant[Tenant](ctx)
	return t, t != nil
}

// ContextWithActor returns a context that says who acts, for example a user's id. It is kept with every execution made under
// it, and with every change of a budget: at most 255 bytes.
func ContextWithActor(ctx context.Context, actor string) context.Context {
	return callctx.WithActor(ctx, actor)
}

// ContextWithReason returns a context that says why a budget is changed, or what it has spent repriced. It is kept in the audit
// log, or with the corrections: at most 255 bytes.
func ContextWithReason(ctx context.Context, reason string) context.Context {
	return callctx.WithReason(ctx, reason)
}

// identity is what a Tenant comes down to: a key, and the record behind it if there is one.
type identity struct {
	records.Identity

	// uuid is what it is asked about by, in place of all of these; the key is its text then.
	uuid book.ID
}

// none reports whether it is nobody's call.
func (i identity) none() bool { return i.Key == "" }

// identify finds out who a Tenant is, without asking the database.
func (l *Ledger) identify(t Tenant) (identity, error) {
	if t == nil {
		return identity{}, nil
	}
	if v := reflect.ValueOf(t); v.Kind() == reflect.Pointer && v.IsNil() {
		return identity{}, fmt.Errorf("%w: it is a nil %T", ErrInvalidTenant, t)
	}
	if u, ok := t.(UUID); ok {
		return identity{}, fmt.Errorf("%w: %q is a UUID, by which a tenant can be asked about, and neither make calls nor be changed", ErrInvalidTenant, string(u))
	}
	if bound, ok := t.(*recordTenant); ok {
		return identity{Identity: l.records.Current(bound.who)}, bound.err
	}
	if who, declared, err := l.records.Identify(t); declared {
		return identity{Identity: l.records.Current(who)}, err
	}
	key := t.LLMTenantID()
	if err := records.ValidKey(key); err != nil {
		return identity{}, err
	}
	return known(key), nil
}

// known is a tenant that is known by its id alone.
func known(key string) identity { return identity{Identity: records.Identity{Key: key}} }

// Tenant turns a record of a declared model into a [Tenant], for models without the method LLMTenantID. It goes by the
// record as it is now. What is wrong with it (not declared, nil, not saved yet) is reported where the Tenant is used.
func (l *Ledger) Tenant(record any) Tenant {
	if record == nil {
		return &recordTenant{err: fmt.Errorf("%w: the record is nil", ErrInvalidTenant)}
	}
	who, declared, err := l.records.Identify(record)
	if !declared {
		return &recordTenant{err: fmt.Errorf("%w: %T was not declared; call ledger.Register(&%s{}, …) first",
			ErrInvalidTenant, record, strings.TrimPrefix(reflect.TypeOf(record).String(), "*"))}
	}
	bound := &recordTenant{who: who, err: err}
	if err == nil {
		bound.name, _ = l.records.NameOf(record)
	}
	return bound
}

// recordTenant is used by its pointer, which can be compared and be the key of a map.
type recordTenant struct {
	who  records.Identity
	name string
	err  error
}

// LLMTenantID implements [Tenant].
func (t *recordTenant) LLMTenantID() string { return t.who.Key }

// Root is the tenant that stands above all others: its budget counts every call of the ledger, with or without a tenant.
// It is there once it has a budget, by [WithRootBudget] or by [ConfigureBudget], and until then each question about it is an
// [ErrNoBudget]; it counts the calls that are admitted from then on. Its id is taken: no other tenant can have it.
const Root ID = book.RootKey

// WithRootBudget sets the budget that counts every call of the ledger. It is kept in the database, for all processes:
// the process that starts last decides it, and one that does not give this option leaves it as it is. All calls share
// its balances, and so one transaction at a time. Defaults to no such budget.
func WithRootBudget(limits Limits, e Enforcement) OpenOption {
	return func(o *openOptions) error {
		if _, err := limits.rows(); err != nil {
			return fmt.Errorf("%w: WithRootBudget: %w", ErrInvalidOption, err)
		}
		if err := e.valid(); err != nil {
			return fmt.Errorf("%w: WithRootBudget: %w", ErrInvalidOption, err)
		}
		o.root = &rootBudget{limits, e}
		return nil
	}
}

type rootBudget struct {
	limits      Limits
	enforcement Enforcement
}

// saveRoot writes the root's budget that Open was given.
func (l *Ledger) saveRoot(ctx context.Context, tx *gorm.DB) error {
	root := l.options.root
	if root == nil {
		return nil
	}
	limits, err := root.limits.rows()
	if err != nil {
		return err
	}
	if err := l.makeRoot(ctx, tx); err != nil {
		return err
	}
	return l.directory().SaveSettings(ctx, tx.Statement.ConnPool, book.Root, limits, true, book.Enforcement(root.enforcement), "")
}

// makeRoot sees to it that there is a root.
func (l *Ledger) makeRoot(ctx context.Context, tx *gorm.DB) error {
	return l.directory().MakeRoot(ctx, tx.Statement.ConnPool, string(Root))
}

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
		if err := records.OwnKey(string(id)); err != nil {
			return fmt.Errorf("Rename: %w", err)
		}
	}
	if err := l.goesOn(); err != nil {
		return err
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

// firstUse makes the tenant of a call that has none in the database: one that is known by its id alone, or a record
// from before its model was declared. It also mends a record that changed without the ledger's seeing it. A service that has just started
// meets all of its tenants at once.
func (l *Ledger) firstUse(ctx context.Context, who identity) (identity, error) {
	current, err := inTurn(ctx, l, []string{who.Key, who.OwnerType, who.OwnerID}, func(ctx context.Context) (*identity, error) {
		l.looked.Add(1)
		current, err := l.makeOnce(ctx, who)
		return &current, err
	})
	if current == nil {
		return who, err
	}
	if err == nil {
		l.records.Learn(who.Identity, current.Key)
	}
	return *current, err
}

// inTurn asks the database something for a call. Callers that name the same together ask once, and one caller's end is not the others'; those that
// name something else take turns for a few connections: the host may have none to spare, least of all one that calls inside a
// transaction of its own. So the database has a while to answer, and no more. What was found is zero where it was not asked.
func inTurn[T any](ctx context.Context, l *Ledger, name []string, ask func(context.Context) (T, error)) (found T, err error) {
	answer := l.firstUses.DoChan(strings.Join(name, "\x00"), func() (any, error) {
		select {
		case l.making <- struct{}{}:
			defer func() { <-l.making }()
		case <-l.lanes.Context().Done(): // not before: what was admitted is booked yet
			return *new(T), ErrClosed
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return ask(ctx)
	})
	select {
	case r := <-answer:
		return r.Val.(T), r.Err //nolint:forcetypeassert // of the function above
	case <-ctx.Done():
		return found, ctx.Err()
	}
}

// makingAtOnce is how many first uses have a connection at a time.
const makingAtOnce = 4

func (l *Ledger) makeOnce(ctx context.Context, who identity) (identity, error) {
	var (
		current identity
		deleted error // which is no reason to undo what was mended
	)
	var err error
	if l.options.knownOnly && who.Declaration == nil && who.Key != string(Root) {
		current, err = who, l.unknown(ctx, l.db.Statement.ConnPool, who.Key)
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
		err = fmt.Errorf("%w: tenant %q could not be set up in %v: %w", ErrUnavailable, who.Key, patience, l.crowded(err))
	case l.faults.Unreachable(err), l.faults(err).Passes():
		err = fault.NotAvailable(fmt.Errorf("tenant %q could not be set up: %w", who.Key, err), l.faults.Unreachable(err))
	}
	return current, err
}

// makeTenant is makeOnce in the transaction of tx. With [ErrTenantSuspended], for a record that is deleted, what it wrote
// is to be committed.
func (l *Ledger) makeTenant(ctx context.Context, tx *gorm.DB, who identity) (current identity, err error) {
	pool := tx.Statement.ConnPool
	if who.Key == string(Root) {
		return who, l.makeRoot(ctx, tx)
	}
	if who.Declaration == nil {
		_, err := l.directory().Ensure(ctx, pool, []directory.Profile{{Key: who.Key, Name: who.Key, Inherit: true}})
		return who, l.records.Explain(err)
	}
	who.Identity, err = l.records.Make(tx.WithContext(ctx), who.Identity)
	return who, err
}
