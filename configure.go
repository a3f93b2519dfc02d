package tenant

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store/sqlite"
	"github.com/llmtenant/tenant/internal/text"
)

// ConfigureBudget changes a tenant's settings: it reads them, lets change change them, and writes what came out, all or
// nothing. Two at once do not lose one another's changes: the second waits, and sees what the first has written.
//
//	err := tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
//		b.Limits.DailyCost = tenant.USD("250")
//		return nil
//	})
//
// A tenant that has no budget yet is given one first: a registered record the declared one, an [ID] an empty one. A
// limit that change makes absent is removed. The TenantID stays as it is. A new TimeZone holds for each day and month
// from the end of the present one on, so that nothing is counted twice and nothing opens again. An error of change is
// returned as it is, and nothing is changed then; change is called at most once, is to be quick, and must not use the
// database or the ledger, because other changes of the tenant wait for it, and on SQLite all writers.
//
// On a db without a transaction, ConfigureBudget has one of its own. It waits for the admissions that are being decided
// by the old settings, so that every one after its return is decided by the new ones. In a transaction of db it is part
// of that, and nobody sees the new settings before its commit; it does not wait for admissions, because they in turn
// would wait for that commit, and so one that is being decided while it is committed may still go by the old settings.
//
// Errors: [ErrInvalidOption], which names the setting and its value; [ErrNoBudget] without a tenant or for a deleted
// one; [ErrInvalidTenant]; [ErrIdentityConflict]; [ErrNotOpen]; [ErrClosed]; [ErrNotMigrated]; [ErrUnavailable], also
// where another transaction keeps the settings locked; and ctx's own. On SQLite, a transaction of db that has read
// before anything wrote cannot write any more when others have: begin it with a write.
func ConfigureBudget(ctx context.Context, db *gorm.DB, t Tenant, change func(*Budget) error) error {
	l, err := ledgerOf(db)
	if err != nil {
		return err
	}
	if change == nil {
		return fmt.Errorf("%w: ConfigureBudget: the function is nil", ErrInvalidOption)
	}
	return l.configure(ctx, db, t, "ConfigureBudget", func(c *configuration, s *books.State) (was, became any, err error) {
		return c.budget(ctx, s, change)
	})
}

// configure changes a tenant's settings in a transaction, with an entry in the audit log. The function returns what they
// were and what they are, as the log is to have it; nothing where nothing has changed.
func (l *Ledger) configure(ctx context.Context, db *gorm.DB, t Tenant, action string,
	change func(*configuration, *books.State) (was, became any, err error),
) error {
	q, err := ask(ctx, db, t)
	switch {
	case err != nil:
		return err
	case q.who.none():
		return q.noBudget()
	case q.who.uuid != book.NoTenant:
		_, err := l.identify(t)
		return err
	case db.DryRun:
		return fmt.Errorf("%w: %s: the *gorm.DB is a dry run", ErrInvalidOption, action)
	}
	for _, f := range []struct{ what, value string }{{"actor in ContextWithActor", callctx.Actor(ctx)}, {"reason in ContextWithReason", callctx.Reason(ctx)}} {
		if err := text.Valid(ErrInvalidOption, f.what, f.value, false); err != nil {
			return err
		}
	}
	c := configuration{question: q, action: action, change: change}
	if _, hosts := db.Statement.ConnPool.(gorm.TxCommitter); hosts {
		// Within a savepoint, so that the host's transaction stays usable after an error.
		session := db.Session(&gorm.Session{NewDB: true, Context: ctx})
		return c.done(ctx, session.Transaction(func(tx *gorm.DB) error { return c.within(ctx, tx, false) }))
	}
	return c.done(ctx, q.transaction(ctx, db, func(tx *gorm.DB) error { return c.within(ctx, tx, true) }))
}

// configuration is a change of a tenant's settings.
type configuration struct {
	*question
	action string
	change func(*configuration, *books.State) (was, became any, err error)
	own    error // the one to return as it is
}

// done gives the error of a transaction its form.
func (c *configuration) done(ctx context.Context, err error) error {
	if err == nil || c.own != nil {
		return c.own
	}
	for _, known := range []error{ErrInvalidTenant, ErrIdentityConflict, ErrNotMigrated, ErrUnavailable, ErrUnknownTenant, ErrRowsOpen} {
		if errors.Is(err, known) {
			return err
		}
	}
	if told := c.placesError(err); errors.Is(told, ErrInvalidOption) {
		return told
	}
	return c.failure(ctx, err)
}

// fail ends the transaction with an error that is to be returned as it is.
func (c *configuration) fail(err error) error {
	c.own = err
	return err
}

func (c *configuration) within(ctx context.Context, tx *gorm.DB, own bool) error {
	c.over(tx.Statement.ConnPool)
	if !own {
		if err := c.books.Write(ctx); err != nil {
			return err
		}
	}
	id, err := c.lock(ctx, tx)
	if err != nil {
		return err
	}
	s, err := c.books.State(ctx, books.Who{ID: id})
	if err != nil {
		return err
	}
	if s.Tenant == nil || s.Tenant.Deleted {
		return c.fail(fmt.Errorf("%w: tenant %q was deleted", ErrNoBudget, c.who.Key))
	}
	was, became, err := c.change(c, s)
	if err != nil {
		return err
	}
	if became != nil {
		change := directory.Change{Tenant: id.String(), Key: s.Tenant.Key, Action: c.action, Was: was, Became: became}
		if err := c.directory().Audit(ctx, c.home().Conn, change); err != nil {
			return err
		}
	}
	if own {
		return c.books.LockAnchor(ctx, id)
	}
	return nil
}

// budget lets a function change a tenant's budget.
func (c *configuration) budget(ctx context.Context, s *books.State, change func(*Budget) error) (was, became any, err error) {
	b := budget(s.Tenant, s.Name, s.Ancestors)
	before := *b
	if err := change(b); err != nil {
		return nil, nil, c.fail(err)
	}
	limits, err := b.valid(s.Tenant)
	if err != nil {
		return nil, nil, c.fail(err)
	}
	if err := c.books.Save(ctx, s.Tenant.ID, books.Settings{
		Name: b.Name, Enforcement: book.Enforcement(b.Enforcement), Counts: book.Counting(b.Counts), Inherit: b.Inherit, Zone: b.TimeZone, Suspended: b.Suspended,
	}, sqldb.Limits{Own: limits, TopUps: s.Tenant.TopUps}); err != nil {
		return nil, nil, err
	}
	if b.ParentID != before.ParentID {
		if d := c.declared(s.Tenant); d != nil && d.Places() {
			return nil, nil, c.fail(fmt.Errorf("%w: ConfigureBudget: ParentID: %q stands where its record says; change that", ErrHierarchy, s.Tenant.Key))
		}
		if err := c.move(ctx, s.Tenant.ID, b.ParentID); err != nil {
			return nil, nil, err
		}
	}
	old, new := before.entry(s.Tenant.Limits), b.entry(limits)
	if reflect.DeepEqual(old, new) {
		return nil, nil, nil
	}
	return old, new, nil
}

// move puts the tenant below another one.
func (c *configuration) move(ctx context.Context, id book.ID, parent string) error {
	var above book.ID
	if parent != "" && parent != string(Root) {
		err := records.ValidKey(parent)
		if err != nil {
			return c.fail(fmt.Errorf("ConfigureBudget: ParentID: %w", err))
		}
		if above, err = c.directory().ByKey(ctx, c.home().Conn, parent); err != nil {
			return err
		}
		if above == book.NoTenant {
			return c.fail(fmt.Errorf("%w: ConfigureBudget: ParentID: there is no tenant %q", ErrHierarchy, parent))
		}
	}
	err := c.directory().Place(ctx, c.home().Conn, id, above)
	if wrong := (*directory.PlaceError)(nil); errors.As(err, &wrong) {
		return c.fail(fmt.Errorf("%w: ConfigureBudget: ParentID: %q below %q: %s", ErrHierarchy, c.who.Key, parent, wrong.Reason))
	}
	return err
}

// lock locks the settings of the tenant, which is made first where it is not there, and returns its id.
func (c *configuration) lock(ctx context.Context, tx *gorm.DB) (book.ID, error) {
	s, err := c.state(ctx)
	if err != nil {
		return book.ID{}, err
	}
	if !c.made(s) {
		if l := c.Ledger; l.options.knownOnly && c.action != "ConfigureBudget" && c.who.Declaration == nil && c.who.Key != string(Root) {
			if err := l.unknown(ctx, c.home().Conn, c.who.Key); err != nil {
				return book.ID{}, err
			}
		}
		c.who, err = c.makeTenant(ctx, tx, c.who)
		c.at = c.Ledger.at(c.who.Key)
		c.over(tx.Statement.ConnPool)
		if errors.Is(err, ErrTenantSuspended) {
			err = c.fail(fmt.Errorf("%w: tenant %q was deleted", ErrNoBudget, c.who.Key))
		}
		if err != nil {
			return book.ID{}, err
		}
		if s, err = c.state(ctx); err != nil {
			return book.ID{}, err
		}
	}
	if s.Tenant == nil {
		return book.ID{}, c.fail(c.noBudget())
	}
	// It may have been moved since it was read, and stays where it is locked.
	id, conn := s.Tenant.ID, sqldb.Under(c.books.Conn)
	found, err := c.follow(ctx, conn, directory.Who{ID: id, Key: c.who.Key}, func(at *place) (bool, error) {
		c.at = at
		c.over(conn)
		return c.books.Lock(ctx, id)
	})
	if err == nil && !found {
		err = c.fail(c.noBudget())
	}
	return id, err
}

// valid says what is wrong with settings that were given to a tenant, and returns the limits as they are stored.
func (b *Budget) valid(t *book.Tenant) ([]book.Limit, error) {
	if err := text.Valid(ErrInvalidOption, "Name in ConfigureBudget", b.Name, false); err != nil {
		return nil, err
	}
	limits, err := b.Limits.rows()
	switch {
	case b.TenantID != t.Key:
		err = fmt.Errorf("TenantID: it is %q, and cannot be changed to %q here", t.Key, b.TenantID)
	case err != nil:
		err = fmt.Errorf("Limits.%w", err)
	case b.Enforcement != "" && b.Enforcement.valid() != nil:
		err = fmt.Errorf("Enforcement: %w", b.Enforcement.valid())
	case b.Counts != "" && b.Counts.valid() != nil:
		err = fmt.Errorf("Counts: %w", b.Counts.valid())
	case b.TimeZone != "":
		if _, err = period.LoadZone(b.TimeZone); err != nil {
			err = fmt.Errorf("TimeZone: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: ConfigureBudget: %w", ErrInvalidOption, err)
	}
	return limits, nil
}

// AuditEntry is a change of a budget: a GORM model to read with, see [AuditLog]. The ledger alone writes its table.
type AuditEntry struct {
	ID        string    `gorm:"column:id;primaryKey"` // a UUIDv7: ids sort by the time of the change
	TenantID  string    `gorm:"column:tenant_id"`     // the tenant's id as it was then
	ChangedAt time.Time `json:",omitzero" gorm:"column:changed_at"`
	Actor     string    `gorm:"column:actor"`  // see ContextWithActor
	Action    string    `gorm:"column:action"` // what was called, such as "ConfigureBudget", or what became of the record, such as "restore"
	Reason    string    `gorm:"column:reason"` // see ContextWithReason

	// Was and Became are the settings before and after, as JSON; empty where there were none.
	Was    json.RawMessage `json:",omitzero" gorm:"column:was;serializer:json"`
	Became json.RawMessage `json:",omitzero" gorm:"column:became;serializer:json"`
}

// TableName implements gorm's Tabler: a naming strategy of the host does not change it.
func (AuditEntry) TableName() string { return "llm_audit" }

// AuditLog returns a handle on the changes of a tenant's budget, to chain conditions on, like [Executions]:
//
//	var changes []tenant.AuditEntry
//	err := tenant.AuditLog(ctx, db, org).Order("id DESC").Limit(20).Find(&changes).Error
func AuditLog(ctx context.Context, db *gorm.DB, t Tenant) *gorm.DB {
	return rowsOfTenant(ctx, db, t, &AuditEntry{}, "llm_audit", query{})
}

// auditSettings is a budget as the audit log has it.
type auditSettings struct {
	Name        string   `json:"name"`
	Parent      string   `json:"parent,omitempty"`
	Enforcement string   `json:"enforcement,omitempty"`
	Counts      string   `json:"counts,omitempty"`
	Inherit     bool     `json:"inherit"`
	TimeZone    string   `json:"time_zone,omitempty"`
	Suspended   bool     `json:"suspended"`
	Limits      []string `json:"limits"`
}

func (b *Budget) entry(limits []book.Limit) auditSettings {
	s := auditSettings{
		Name: b.Name, Parent: b.ParentID, Enforcement: string(b.Enforcement), Counts: string(b.Counts), Inherit: b.Inherit, TimeZone: b.TimeZone,
		Suspended: b.Suspended, Limits: []string{},
	}
	limits = slices.Clone(limits)
	slices.SortFunc(limits, func(a, b book.Limit) int { return compareLimits(&a, &b) })
	for _, l := range limits {
		s.Limits = append(s.Limits, limitText(l))
	}
	return s
}

// limitText is a limit in words, such as: daily cost $5.00 of agent "support".
func limitText(l book.Limit) string {
	s := LimitStatus{Metric: Metric(l.Metric), Window: Window(l.Window.String()), Agent: l.Agent, Model: l.Model}
	return fmt.Sprintf("%s %s%s", s.label(), s.Metric.format(s.Metric.decimal(l.Max)), s.of())
}

// SavedDays says in which days the books are kept.
type SavedDays struct {
	TimeZone  string       // in which the days and months of tenants without one of their own begin: an IANA name
	WeekStart time.Weekday // on which weeks begin
}

// SavedDays returns the time zone and the day on which weeks begin that the programs on this database have ([WithDefaultTimeZone],
// [WithWeekStart]), as the one that made its first call last has saved them: UTC and Monday where none has said anything else. It
// is for tools beside these programs, which open the ledger with the same, and with [WithDefaultsUnsaved].
//
// Errors: [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func (l *Ledger) SavedDays(ctx context.Context) (SavedDays, error) {
	saved, err := l.directory().Days(ctx, l.pool)
	if err != nil {
		return SavedDays{}, l.failure(ctx, err)
	}
	return SavedDays{saved.Zone, saved.WeekStart}, nil
}

// saveDefaults writes the default settings and the root's budget that Open was given, and the days.
func (l *Ledger) saveDefaults(ctx context.Context) error {
	if l.options.unsaved {
		return nil
	}
	days := directory.Days{Zone: l.options.zone, WeekStart: l.options.weekStart}
	saved, err := l.directory().Days(ctx, l.pool)
	if err != nil {
		return err
	}
	if saved != days {
		err := l.transaction(ctx, l.db, func(tx *gorm.DB) error { return l.directory().SaveDays(ctx, tx.Statement.ConnPool, days) })
		if err != nil {
			return err
		}
	}
	if l.options.limits == nil && l.options.enforcement == "" && l.options.counts == "" && l.options.root == nil {
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
		return l.directory().SaveSettings(ctx, tx.Statement.ConnPool, book.Defaults, rows, l.options.limits != nil, book.Enforcement(l.options.enforcement), book.Counting(l.options.counts))
	})
}

// transaction runs a short transaction of the ledger's own, on the pool of db. It does not wait long for what somebody
// else has locked.
func (l *Ledger) transaction(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	end, err := l.lockWriter(ctx)
	if err != nil {
		return err
	}
	defer end()
	for until := time.Now().Add(patience); ; {
		start, begun := time.Now(), false
		err := db.Session(&gorm.Session{NewDB: true, Context: ctx}).Transaction(func(tx *gorm.DB) error {
			if err := l.begin(ctx, tx.Statement.ConnPool); err != nil {
				return err
			}
			begun = true
			return do(tx)
		}, l.isolation())
		// SQLite's write lock may be another process's, and the host's.
		if err == nil || begun || l.faults(err) != fault.Locked || time.Now().After(until) {
			return err
		}
		if err := sqldb.Pause(ctx, time.Until(start.Add(pollLock))); err != nil {
			return err
		}
	}
}

const pollLock = 10 * time.Millisecond

func (l *Ledger) begin(ctx context.Context, c gorm.ConnPool) error {
	onCitus, err := l.records.OnCitus(ctx, c)
	if err != nil {
		return err
	}
	begin := func() error { return l.dialect.Begin(ctx, c, onCitus) }
	if _, ok := l.places[0].store.(*sqlite.Store); ok {
		return sqlite.Briefly(ctx, c, begin)
	}
	return begin()
}

// lockWriter lets a transaction of the ledger's own wait in line with its lanes, where the database would let it poll.
func (l *Ledger) lockWriter(ctx context.Context) (end func(), err error) {
	if s, ok := l.places[0].store.(*sqlite.Store); ok {
		return s.LockWriter(ctx)
	}
	return func() {}, nil
}

// isolation is that of the ledger's own transactions: a host's default that is stricter would not see what it waited for.
func (l *Ledger) isolation() *sql.TxOptions {
	if l.dialect.LocksRows {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}
