package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// plugin is the ledger's place in gorm. It outlives a ledger: gorm has no way to take a plugin out.
type plugin struct {
	ledger   atomic.Pointer[Ledger]
	attached bool // to a handle that the ledger was not opened on, whose records it does not follow
	replica  bool // which is that of WithReadDB
}

const pluginName = "llmtenant"

// Name implements gorm.Plugin.
func (p *plugin) Name() string { return pluginName }

// Initialize implements gorm.Plugin: it makes the budgets of declared models follow their records.
func (p *plugin) Initialize(db *gorm.DB) error {
	if p.attached {
		return nil
	}
	return records.Install(db, func() *records.Registry {
		if l := p.ledger.Load(); l != nil {
			return l.records
		}
		return nil
	})
}

// Attach lets the functions of this package that ask find the ledger from another handle of its database, such as one that connects as
// the role of [Ledger.MigrateRowSecurity]. Budgets do not follow records that are written on it. Call it before db is used by more than one
// goroutine; it does not talk to the database.
//
// Errors: [ErrInvalidOption] for a db that is nil, of another kind of database, or on which a ledger is open or another one attached.
func (l *Ledger) Attach(db *gorm.DB) error {
	switch {
	case db == nil || db.Config == nil || db.Statement == nil:
		return fmt.Errorf("%w: Attach: the *gorm.DB is nil", ErrInvalidOption)
	case db.Name() != l.db.Name():
		return fmt.Errorf("%w: Attach: the database is %q, and the ledger's is %q", ErrInvalidOption, db.Name(), l.db.Name())
	}
	return l.attach(db, false)
}

// attach is Attach, also of the replica.
func (l *Ledger) attach(db *gorm.DB, replica bool) error {
	p, installed := db.Plugins[pluginName].(*plugin)
	if !installed {
		p = &plugin{attached: true, replica: replica}
		if err := db.Use(p); err != nil {
			return fmt.Errorf("tenant: install the gorm plugin: %w", err)
		}
	}
	was := p.ledger.Load()
	if p.attached && p.replica == replica && (was == nil || was == l || was.goesOn() != nil) && p.ledger.CompareAndSwap(was, l) {
		return nil
	}
	return fmt.Errorf("%w: Attach: a ledger is open, or another one is attached, on this *gorm.DB already", ErrInvalidOption)
}

func (l *Ledger) install(db *gorm.DB) error {
	p, installed := db.Plugins[pluginName].(*plugin)
	if !installed {
		p = &plugin{}
		if err := db.Use(p); err != nil {
			return fmt.Errorf("tenant: install the gorm plugin: %w", err)
		}
	}
	if p.attached {
		return fmt.Errorf("%w: Open: a ledger was attached to this *gorm.DB", ErrInvalidOption)
	}
	if !p.ledger.CompareAndSwap(nil, l) {
		return fmt.Errorf("%w: Open: a ledger is open on this *gorm.DB already; Close it first", ErrInvalidOption)
	}
	return nil
}

func (l *Ledger) uninstall() {
	if p, ok := l.db.Plugins[pluginName].(*plugin); ok {
		p.ledger.CompareAndSwap(l, nil)
	}
}

// ledgerOf finds the ledger that is open on a handle.
func ledgerOf(db *gorm.DB) (*Ledger, error) {
	if db == nil || db.Config == nil {
		return nil, ErrNotOpen
	}
	p, ok := db.Plugins[pluginName].(*plugin)
	if !ok {
		return nil, ErrNotOpen
	}
	l := p.ledger.Load()
	if l == nil || p.attached && l.goesOn() != nil {
		return nil, ErrClosed
	}
	return l, nil
}

// question is a tenant that is asked about on a handle of the host.
type question struct {
	*Ledger
	at    *place // in which the tenant is thought to be
	who   identity
	books books.Books
	db    *gorm.DB
}

// ask finds out whom a question is about, and where to ask. Money is read on the handle's own connection or transaction:
// a resolver would send it to a replica.
func ask(ctx context.Context, db *gorm.DB, t Tenant) (*question, error) {
	return askThere(ctx, onPrimary(ctx, db), t)
}

// onPrimary is a handle on which money is read: that of the replica leads to the primary.
func onPrimary(ctx context.Context, db *gorm.DB) *gorm.DB {
	if isReplica(db) && db.Error == nil {
		if l, err := ledgerOf(db); err == nil {
			return l.db.Session(&gorm.Session{NewDB: true, Context: ctx})
		}
	}
	return db
}

// askThere is ask for what may be a little old: the replica's handle asks the replica.
func askThere(ctx context.Context, db *gorm.DB, t Tenant) (*question, error) {
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
	q := l.questionAbout(who, db.Statement.ConnPool, db.Session(&gorm.Session{NewDB: true, Context: ctx}))
	// A role that row-level security holds may not look, and there are no places then.
	if p := db.Plugins[pluginName].(*plugin); p.attached && !p.replica {
		return q, ctx.Err()
	}
	if err := l.checkPlacesOver(ctx, db.Statement.ConnPool); err != nil {
		if errors.Is(err, ErrInvalidOption) {
			return nil, err
		}
		return nil, q.failure(ctx, err)
	}
	return q, ctx.Err()
}

// questionAbout is a question that is asked over a connection.
func (l *Ledger) questionAbout(who identity, conn sqldb.Conn, db *gorm.DB) *question {
	at := l.at(who.Key)
	return &question{l, at, who, at.on(conn), db}
}

// over has the question asked over another connection.
func (q *question) over(conn sqldb.Conn) { q.books = q.at.on(conn) }

// home is the tables of the home as they are, for who is who, of the tenants of all places.
func (q *question) home() books.Books {
	return books.Books{Dialect: q.dialect, Conn: sqldb.Under(q.books.Conn)}
}

// everywhere asks something in each place.
func (q *question) everywhere(ask func(books.Books) error) error {
	for _, p := range q.places {
		if err := ask(p.on(sqldb.Under(q.books.Conn))); err != nil {
			return err
		}
	}
	return nil
}

// state reads the tenant. One that is not there gets what it will have when it is made; its id is then that of nobody.
func (q *question) state(ctx context.Context) (*books.State, error) {
	var s *books.State
	who, conn := q.whom(), sqldb.Under(q.books.Conn)
	_, err := q.follow(ctx, conn, directory.Who{ID: who.ID, Key: q.who.Key, OwnerType: who.OwnerType, OwnerID: who.OwnerID}, func(at *place) (_ bool, err error) {
		q.at = at
		q.over(conn)
		s, err = q.books.State(ctx, who)
		return err == nil && s.Tenant != nil || q.who.none(), err
	})
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	switch other, err := q.other(s.Tenant); {
	case err != nil:
		return nil, err
	case other:
		return q.state(ctx)
	}
	return s, nil
}

// other reports whether the tenant that was found is not the one that is meant, which is to be looked for once more, with the type
// of its owner that it has found out.
func (q *question) other(t *book.Tenant) (bool, error) {
	if t == nil || q.who.OwnerType == "" || t.OwnerType == "" {
		return false, nil
	}
	its := t.OwnerType == q.who.OwnerType && t.OwnerID == q.who.OwnerID
	if its && records.PlainKey(t.Key) == records.PlainKey(q.who.Key) {
		return false, nil
	}
	if its || t.OwnerID == q.who.OwnerID && strings.HasSuffix(t.OwnerType, "."+q.who.OwnerType) {
		owner, err := q.records.Owner(q.db, q.who.Identity)
		if err != nil || owner == t.OwnerType {
			return false, err
		}
		q.who.OwnerType = owner // in a schema of its own
		return true, nil
	}
	return false, fmt.Errorf("%w: %q belongs to %s %s", ErrIdentityConflict, q.who.Key, t.OwnerType, t.OwnerID)
}

// whom says it to the tables.
func (q *question) whom() books.Who {
	if q.who.uuid != book.NoTenant {
		return books.Who{ID: q.who.uuid}
	}
	return books.Who{ID: book.NoTenant, Key: q.who.Key, OwnerType: q.who.OwnerType, OwnerID: q.who.OwnerID}
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
	return q.failureOn(ctx, q.books.Conn, err)
}

func (l *Ledger) failureOn(ctx context.Context, conn sqldb.Conn, err error) error {
	if err != nil && ctx.Err() == nil && sqldb.RowsOpen(ctx, conn, err) {
		return fmt.Errorf("%w (%w)", ErrRowsOpen, err)
	}
	var pruned *books.PrunedError
	if errors.As(err, &pruned) {
		return fmt.Errorf("%w: %w", ErrPruned, pruned)
	}
	return l.failure(ctx, err)
}

// MigrateRowSecurity lets a role of PostgreSQL read the ledger's tables, and has row-level security show it the rows of one tenant
// and of those below it: for a host's portal, its reports and the tools of its support, where a condition that was forgotten must not
// show a customer the figures of another one. The transactions of the role see nothing until [WithRowSecurity] says whose rows are meant. The
// role is there already; it may not be a superuser, have BYPASSRLS, or be a member of the role that owns the tables.
//
// It is an act of its own: [Ledger.Migrate] does nothing of it. It is for the role that owns the tables, on the ledger's write path.
// Whoever owns the tables passes, and so does every other role with rights of its own: for them nothing changes. It may be called
// at every start, for several roles one after the other, and is to be called again after a Migrate that has added a table or a place: each table is locked
// for a moment where something is to be changed, and not at all otherwise.
//
// Errors: [ErrInvalidOption] on SQLite, which has neither roles nor row-level security, on PostgreSQL before 15, where the tables are those of Citus,
// which takes no such policies, and for a role that is not there or that no row-level security would hold; [ErrNotMigrated]; otherwise those of the database and ctx's own.
func (l *Ledger) MigrateRowSecurity(ctx context.Context, role string) error {
	if !l.dialect.LocksRows {
		return fmt.Errorf("%w: MigrateRowSecurity: SQLite has no row-level security; it needs PostgreSQL", ErrInvalidOption)
	}
	if err := l.inPlaces(ctx); err != nil {
		return err
	}
	spread, err := citus.Has(ctx, l.pool, "llm_tenants")
	if err != nil {
		return l.failure(ctx, err)
	}
	if spread {
		return fmt.Errorf("%w: MigrateRowSecurity: the tables are Citus's, which takes no policy that looks up who stands below a tenant", ErrInvalidOption)
	}
	for _, p := range l.places {
		if err := p.migrateRowSecurity(ctx, role); err != nil {
			if refused := (*books.RoleError)(nil); errors.As(err, &refused) {
				return fmt.Errorf("%w: MigrateRowSecurity: %w", ErrInvalidOption, err)
			}
			return l.failure(ctx, err)
		}
	}
	return nil
}

// migrateRowSecurity is MigrateRowSecurity for the tables of the place, after those of the home.
func (p *place) migrateRowSecurity(ctx context.Context, role string) error {
	steps := books.RowSecuritySteps(role)
	if p.name() != "" {
		home, err := books.Books{Dialect: p.dialect, Conn: p.pool}.Schema(ctx)
		if err != nil {
			return err
		}
		steps = books.RowSecurityPlaceSteps(role, home)
	}
	for _, step := range steps {
		if err := p.briefly(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// WithRowSecurity runs a function in a transaction that sees the rows of a tenant, and of those below it, and no others, whatever
// is asked in it:
//
//	portal, err := gorm.Open(postgres.Open(dsn), &gorm.Config{}) // as the role of MigrateRowSecurity
//	err = ledger.Attach(portal)
//	err = tenant.WithRowSecurity(ctx, portal, org, func(tx *gorm.DB) error {
//		answer, err = tenant.QueryUsage(ctx, tx, query)
//		return err
//	})
//
// The database enforces it, for the host's own statements and for the questions of this package. What is not the tenant's is not
// there: a question about another tenant is answered as one about a tenant that nobody has made, one about Everybody is about those that are seen, and
// [BudgetStatus] knows no limits of the tenants above. A tenant that has no budget yet sees nothing. It is for one transaction, and sets
// nothing on the connection, so that it works behind a pooler; where db is in a transaction already, what was set before is set again at the end.
// It guards against mistakes: whoever can run SQL of his own as the role can also name another tenant.
//
// It begins a transaction on db, on which a ledger is open, or is attached ([Ledger.Attach]), and commits it where do returns no error.
//
// Errors: those of do; [ErrInvalidOption] on SQLite, and where the role of db would see more than the tenant, because it is not
// one of [Ledger.MigrateRowSecurity]'s; [ErrInvalidTenant] for no tenant and for the [Root], below which everybody stands; otherwise those of [Cost].
func WithRowSecurity(ctx context.Context, db *gorm.DB, t Tenant, do func(tx *gorm.DB) error) error {
	q, err := askThere(ctx, db, t)
	switch {
	case err != nil:
		return err
	case do == nil:
		return fmt.Errorf("%w: WithRowSecurity: the function is nil", ErrInvalidOption)
	case !q.dialect.LocksRows:
		return fmt.Errorf("%w: WithRowSecurity: SQLite has no row-level security; it needs PostgreSQL", ErrInvalidOption)
	case q.who.none():
		return fmt.Errorf("%w: WithRowSecurity: there is no tenant whose rows are to be seen", ErrInvalidTenant)
	case q.who.Key == string(Root) && q.who.uuid == book.NoTenant || q.who.uuid == book.Root:
		return fmt.Errorf("%w: WithRowSecurity: everybody stands below the root, so that nothing would be kept apart", ErrInvalidTenant)
	}
	_, within := db.Statement.ConnPool.(gorm.TxCommitter)
	return db.Session(&gorm.Session{Context: ctx}).Transaction(func(tx *gorm.DB) (err error) {
		q.db = tx
		q.over(tx.Statement.ConnPool)
		before, err := q.showRows(ctx)
		if err != nil {
			return err
		}
		if within {
			defer func() {
				if again := q.books.ShowRowsAgain(ctx, before); err == nil && again != nil {
					err = q.failure(ctx, again)
				}
			}()
		}
		return do(tx)
	})
}

// showRows shows the question's transaction the rows of the tenant, where that is all that it can see.
func (q *question) showRows(ctx context.Context) (before string, err error) {
	why, err := q.home().RowSecurityOff(ctx, q.options.places)
	switch {
	case err != nil:
		return "", q.failure(ctx, err)
	case why != "":
		return "", fmt.Errorf("%w: WithRowSecurity: row-level security does not hold here: %s", ErrInvalidOption, why)
	}
	var t *book.Tenant
	for other := true; other; {
		if t, err = q.home().FindSecured(ctx, q.whom()); err != nil {
			return "", q.failure(ctx, err)
		}
		if other, err = q.other(t); err != nil {
			return "", err
		}
	}
	if err := q.answerable(ctx, &books.State{Tenant: t}); err != nil {
		return "", err
	}
	id := books.NobodysID()
	if t != nil {
		id = t.ID
	}
	if before, err = q.books.ShowRows(ctx, id); err != nil {
		return "", q.failure(ctx, err)
	}
	return before, nil
}
