package tenant

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/migrations"
)

// TenantList says which tenants are listed; the zero value is the first 100 of all.
type TenantList struct {
	// Below lists the tenants alone that stand below this one, at any depth. Defaults to nil: all.
	Below Tenant

	// Search is a part of the id or of the name, whatever its case. Defaults to none: all.
	Search string

	// After is the id of the last tenant that was seen: the list goes on behind it. Defaults to none: from the beginning.
	After string

	// Limit is the most tenants to return: 1 to 1,000. Defaults to 100.
	Limit int
}

// ListedTenant is a tenant of a list, with what it has spent.
type ListedTenant struct {
	TenantID, Name string
	ParentID       string `json:",omitzero"` // see Budget
	Suspended      bool   // itself; a tenant above it may be, too

	// Today, Month and Total are what it was charged in its present windows and in all, in US dollars, with the tenants below it.
	Today, Month, Total decimal.Decimal

	// Held is what running calls hold, in US dollars.
	Held decimal.Decimal
}

// ListTenants returns the tenants that have a budget, in the order of their ids, without the [Root] and without those that
// were deleted. The next page begins after the last one:
//
//	page, err := tenant.ListTenants(ctx, db, tenant.TenantList{Search: "acme"})
//	more, err := tenant.ListTenants(ctx, db, tenant.TenantList{Search: "acme", After: page[len(page)-1].TenantID})
//
// Errors: [ErrInvalidOption] for a limit that cannot be; otherwise those of [Cost]. It reads where Cost reads.
func ListTenants(ctx context.Context, db *gorm.DB, list TenantList) ([]ListedTenant, error) {
	return ofOneMoment(ctx, onPrimary(ctx, db), func(db *gorm.DB) ([]ListedTenant, error) { return listTenants(ctx, db, list) })
}

func listTenants(ctx context.Context, db *gorm.DB, list TenantList) ([]ListedTenant, error) {
	q, within, err := askWithin(ctx, db, list.Below)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit("TenantList.Limit", list.Limit, 100)
	if err != nil {
		return nil, err
	}
	var rows []books.Listed
	err = q.within(list.Below, func(b books.Books) error {
		more, err := b.List(ctx, books.List{Within: within, Search: strings.ToLower(list.Search), After: list.After, Limit: limit})
		rows = append(rows, more...)
		return err
	})
	if err == nil && list.Below == nil && len(q.places) > 1 {
		rows, err = q.inOrder(ctx, rows, limit)
	}
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	all := make([]ListedTenant, len(rows))
	for i, r := range rows {
		all[i] = ListedTenant{
			TenantID: r.Key, Name: r.Name, ParentID: r.Parent, Suspended: r.Suspended,
			Today: money.Decimal(r.Today.Charge), Month: money.Decimal(r.Month.Charge), Total: money.Decimal(r.Total.Charge), Held: money.Decimal(r.Held.Charge),
		}
	}
	return all, nil
}

// LimitList says which limits are near.
type LimitList struct {
	// Below lists the limits of those tenants alone that stand below this one, at any depth. Defaults to nil: all.
	Below Tenant

	// Percent is how much of a limit is spent, at least: 1 to 100. Defaults to 80.
	Percent int

	// Limit is the most limits to return: 1 to 1,000. Defaults to 100.
	Limit int
}

// NearLimit is a limit of which a large part is spent.
type NearLimit struct {
	Name string // of the tenant
	LimitStatus
}

// NearLimits returns the limits of all tenants, their own and those that they inherit, of which a part is spent in the present
// window, the most used up first. A limit of a window or a scope that no call has met since it was set is not among them.
//
// Errors: [ErrInvalidOption] for a number that cannot be; otherwise those of [Cost]. It reads where Cost reads.
func NearLimits(ctx context.Context, db *gorm.DB, list LimitList) ([]NearLimit, error) {
	return ofOneMoment(ctx, onPrimary(ctx, db), func(db *gorm.DB) ([]NearLimit, error) { return nearLimits(ctx, db, list) })
}

func nearLimits(ctx context.Context, db *gorm.DB, list LimitList) ([]NearLimit, error) {
	q, within, err := askWithin(ctx, db, list.Below)
	if err != nil {
		return nil, err
	}
	percent := list.Percent
	if percent == 0 {
		percent = 80
	}
	if percent < 1 || percent > 100 {
		return nil, fmt.Errorf("%w: LimitList.Percent is %d, and 1 to 100 can be asked for", ErrInvalidOption, percent)
	}
	limit, err := pageLimit("LimitList.Limit", list.Limit, 100)
	if err != nil {
		return nil, err
	}
	var rows []books.Near
	err = q.within(list.Below, func(b books.Books) error {
		more, err := b.NearLimits(ctx, within, int64(percent), limit)
		rows = append(rows, more...)
		return err
	})
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	if list.Below == nil && len(q.places) > 1 {
		slices.SortStableFunc(rows, books.CompareNear)
		rows = rows[:min(limit, len(rows))]
	}
	all := make([]NearLimit, len(rows))
	for i := range rows {
		r := &rows[i]
		all[i] = NearLimit{r.Name, limitStatus(&book.Tenant{Key: r.TenantID}, &r.Limit, &r.Balance)}
	}
	return all, nil
}

// within asks in the place of the tenant below which all stand that are meant; in each place, where it is nil.
func (q *question) within(below Tenant, ask func(books.Books) error) error {
	if below != nil {
		return ask(q.books)
	}
	return q.everywhere(ask)
}

// inOrder puts tenants of several places in the order of their ids, as the database has it, and keeps the first ones.
func (q *question) inOrder(ctx context.Context, rows []books.Listed, limit int) ([]books.Listed, error) {
	ids := make([]book.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	order, err := q.directory().InOrder(ctx, q.home().Conn, ids)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b books.Listed) int { return cmp.Compare(order[a.ID], order[b.ID]) })
	return rows[:min(limit, len(rows))], nil
}

// askWithin is ask for a question about many tenants: all of them, or those below one.
func askWithin(ctx context.Context, db *gorm.DB, below Tenant) (*question, books.Within, error) {
	q, err := ask(ctx, db, below)
	if err != nil || below == nil {
		return q, books.Within{}, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return nil, books.Within{}, err
	}
	switch {
	case s.Tenant == nil:
		return q, books.Within{Below: book.Defaults}, nil // below which nobody stands
	case s.Tenant.ID == book.Root:
		return q, books.Within{}, nil
	}
	return q, books.Within{Below: s.Tenant.ID}, nil
}

func pageLimit(what string, n, otherwise int) (int, error) {
	switch {
	case n == 0:
		return otherwise, nil
	case n < 0 || n > 1000:
		return 0, fmt.Errorf("%w: %s is %d, and 1 to 1000 can be asked for", ErrInvalidOption, what, n)
	}
	return n, nil
}

// RunningCalls are the calls that run at a moment, of all tenants and of none.
type RunningCalls struct {
	Calls   int64
	Overdue int64           // of these, those whose deadline has passed: they are about to be ended
	Cost    decimal.Decimal // held, in US dollars: what providers bill
	Charge  decimal.Decimal // held, in US dollars: what tenants are charged
	Tokens  int64           // held
	Oldest  time.Time       `json:",omitzero"` // when the oldest was admitted; zero where none runs
}

// Running returns what runs now, for status pages. It reads where [Cost] reads.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func Running(ctx context.Context, db *gorm.DB) (RunningCalls, error) {
	return ofOneMoment(ctx, onPrimary(ctx, db), func(db *gorm.DB) (RunningCalls, error) { return running(ctx, db) })
}

func running(ctx context.Context, db *gorm.DB) (RunningCalls, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return RunningCalls{}, err
	}
	var r books.Running
	err = q.everywhere(func(b books.Books) error {
		there, err := b.Running(ctx)
		r.Calls, r.Overdue, r.Held = r.Calls+there.Calls, r.Overdue+there.Overdue, r.Held.Plus(there.Held)
		if r.Oldest.IsZero() || !there.Oldest.IsZero() && there.Oldest.Before(r.Oldest) {
			r.Oldest = there.Oldest
		}
		return err
	})
	if err != nil {
		return RunningCalls{}, q.failure(ctx, err)
	}
	return RunningCalls{Calls: r.Calls, Overdue: r.Overdue, Cost: money.Decimal(r.Held.Cost), Charge: money.Decimal(r.Held.Charge), Tokens: r.Held.Tokens, Oldest: r.Oldest}, nil
}

// Overruns returns how many calls of all tenants, and of none, that were admitted in a period cost more than was held for them. Pruned
// calls are not among them. It reads where [Cost] reads.
//
// Errors: [ErrInvalidOption] for a period that cannot be; otherwise those of [Running].
func Overruns(ctx context.Context, db *gorm.DB, p Period) (int64, error) {
	return ofOneMoment(ctx, onPrimary(ctx, db), func(db *gorm.DB) (int64, error) { return overruns(ctx, db, p) })
}

func overruns(ctx context.Context, db *gorm.DB, p Period) (int64, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return 0, err
	}
	_, r, err := q.during(ctx, p)
	if err != nil {
		return 0, err
	}
	var n int64
	err = q.everywhere(func(b books.Books) error {
		there, err := b.Overruns(ctx, r)
		n += there
		return err
	})
	if err != nil {
		return 0, q.failure(ctx, err)
	}
	return n, nil
}

// MigrationStatus says which version of the ledger's tables a database has.
type MigrationStatus struct {
	Applied int64 // the number of the last migration; 0 where there is none, and where another tool has applied them
	Latest  int64 // of this version of the library

	// Places are the numbers of each place of the ledger's; 0 for one that has not been made. None without [WithPlaces].
	Places map[string]int64 `json:",omitempty"`
}

// Behind returns the places that lack a migration, in the order of their names.
func (s MigrationStatus) Behind() (names []string) {
	for name, applied := range s.Places {
		if applied < s.Latest {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// MigrationStatus returns which version of the ledger's tables the database has, and which each of its places, for status pages, and for programs that would
// rather not work on the tables of a newer version. It writes nothing.
//
// Errors: [ErrUnavailable], and ctx's own.
func (l *Ledger) MigrationStatus(ctx context.Context) (MigrationStatus, error) {
	applied, latest, err := migrations.Version(ctx, l.pool, l.dialect.Name)
	if err != nil {
		return MigrationStatus{}, l.failure(ctx, err)
	}
	s := MigrationStatus{Applied: applied, Latest: latest}
	for _, name := range l.options.places {
		if s.Places == nil {
			s.Places = map[string]int64{}
		}
		if s.Places[name], err = migrations.PlaceVersion(ctx, l.pool, name); err != nil {
			return MigrationStatus{}, l.failure(ctx, err)
		}
	}
	return s, nil
}

// Verification is a [Ledger.Verify] that came to its end.
type Verification struct {
	EndedAt     time.Time
	Took        time.Duration
	Differences int
	Actor       string // see ContextWithActor
}

// verifyAction is what a Verify is called in the audit log. It stands there among the calls without a tenant.
const verifyAction = "Verify"

// verification is what the audit log has of a Verify.
type verification struct {
	Differences int   `json:"differences"`
	TookMS      int64 `json:"took_ms"`
}

// LastVerify returns the last [Ledger.Verify] that came to its end, of whatever process, for status pages. It reports false where
// there was none. It reads where [Cost] reads, and its errors are those of [Running].
func LastVerify(ctx context.Context, db *gorm.DB) (Verification, bool, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return Verification{}, false, err
	}
	var (
		found bool
		last  Verification
	)
	err = q.directory().LastAudit(ctx, q.home().Conn, book.NoTenant, verifyAction, func(at time.Time, actor string, became []byte) error {
		var v verification
		if err := json.Unmarshal(became, &v); err != nil {
			return err
		}
		found, last = true, Verification{at, time.Duration(v.TookMS) * time.Millisecond, v.Differences, actor}
		return nil
	})
	if err != nil {
		return Verification{}, false, q.failure(ctx, err)
	}
	return last, found, nil
}

// verified writes down that a Verify came to its end. Who cannot write has verified all the same.
func (l *Ledger) verified(ctx context.Context, differences int, took time.Duration) {
	err := l.directory().Audit(ctx, l.pool, directory.Change{
		Tenant: book.NoTenant.String(), Action: verifyAction, Became: verification{differences, took.Milliseconds()},
	})
	if err != nil {
		l.options.log.Warn("tenant: Verify came to its end, and could not write that down", "differences", differences, "error", err)
	}
}
