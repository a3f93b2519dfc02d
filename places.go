package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/process"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/migrations"
)

// WithPlaces keeps the books of tenants in several places of one PostgreSQL database, each with lanes of its own: schemas, each with
// all the tables of the books, which an engine like Citus puts on machines of its own. Names are those of the schemas, which
// [Ledger.Migrate] makes: lower case letters, digits and underscores.
//
// A tenant that is made is put into one of the places by its id, and with it whatever stands below it. Those that were there before stay
// in the home, the tables that a ledger has without this option, until [Ledger.Move] takes them elsewhere. Who is who stands in the home, of
// all tenants, and calls without a tenant are booked there. Each answer is of one moment, also one about everybody, which is added up from all
// places; on Citus each place has a moment of its own. There is no [Root] with places: it would count all
// calls in one row.
//
// All processes name the same places. A place is added by a Migrate that names one more; each process is to be started anew with
// it then, and a call for a tenant in a place that its process does not name is refused. Defaults to none: all is in the home.
func WithPlaces(names ...string) OpenOption {
	return func(o *openOptions) error {
		for i, name := range names {
			switch {
			case !placeName.MatchString(name), strings.HasPrefix(name, "pg_"):
				return fmt.Errorf("%w: WithPlaces: %q is no name of a place: it begins with a lower case letter, goes on with these, digits and underscores, "+
					"and has at most 63 of them", ErrInvalidOption, name)
			case slices.Contains(names[:i], name):
				return fmt.Errorf("%w: WithPlaces: the place %q is there twice", ErrInvalidOption, name)
			}
		}
		if len(names) == 0 || len(names) > maxPlaces {
			return fmt.Errorf("%w: WithPlaces: there are %d names, and 1 to %d can be given", ErrInvalidOption, len(names), maxPlaces)
		}
		o.places = slices.Clone(names)
		return nil
	}
}

var placeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

const maxPlaces = 64

// place is the tables of some tenants' books: those of the home, which a search_path finds, or those of a schema.
type place struct {
	*Ledger
	number int           // among the places
	schema *sqldb.Schema // nil: there is no place but the home
	store  store.Store
}

// name is that of the schema; empty for the home.
func (p *place) name() string {
	if p.schema == nil {
		return ""
	}
	return p.schema.Name
}

// on is the books of the place, seen through a connection.
func (p *place) on(c sqldb.Conn) books.Books {
	return books.Books{Dialect: p.dialect, Conn: p.schema.On(c)}
}

// search has a transaction find the tables of the place by their names alone.
func (p *place) search(ctx context.Context, c sqldb.Conn) error {
	if p.name() == "" {
		return nil
	}
	_, err := c.ExecContext(ctx, `SET LOCAL search_path = `+p.name())
	return err
}

// briefly changes tables in a transaction, which waits for a table for a short time only, because calls wait behind it, and
// is tried a few times.
func (p *place) briefly(ctx context.Context, step func(context.Context, books.Books) error) error {
	const tries = 20
	once := func() error {
		tx, err := p.pool.BeginTx(ctx, p.isolation())
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := p.dialect.Yield(ctx, tx); err != nil {
			return err
		}
		if err := p.search(ctx, tx); err != nil {
			return err
		}
		if err := step(ctx, books.Books{Dialect: p.dialect, Conn: tx}); err != nil {
			return err
		}
		return tx.Commit()
	}
	for try := 1; ; try++ {
		err := once()
		if err == nil || try == tries || !p.faults(err).Passes() {
			return err
		}
		if err := sqldb.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// table has a query of executions read those of the place.
func (p *place) table(db *gorm.DB) *gorm.DB {
	if p.name() == "" {
		return db
	}
	return db.Table(p.schema.Name + "." + Execution{}.TableName())
}

// sessions is how many lanes there are.
func (l *Ledger) sessions() int { return l.options.lanes * len(l.places) }

// openLanes makes the lanes of all places.
func (l *Ledger) openLanes() {
	var (
		id    = book.NewID()
		names = make([]string, len(l.places))
		sets  = make([]*lane.Set, len(l.places))
	)
	for i, p := range l.places {
		c := lane.Config{
			ID: id, Store: p.store, Processes: process.Table{Dialect: l.dialect, DB: l.pool, Schema: p.schema, LockWriter: l.lockWriter},
			Decide: l.windows, Ended: l.expired, Ran: p.ranBatch(), Swept: p.swept(),
			Lanes: l.options.lanes, Lease: l.options.lease, Log: l.options.log, Zones: func() string { return l.zones.Seen(time.Now()).Text() }, Idle: p.idle(), Prepare: l.saveDefaults,
		}
		if l.dialect.Schemas {
			c.Check = l.checkPlaces
		}
		if i == 0 {
			c.Living = l.compareZones
		}
		names[i], sets[i] = p.name(), lane.New(c)
	}
	l.lanes = lane.NewPlaces(names, sets)
}

// migratePlaces makes the tables of the places, and writes down which there are.
func (l *Ledger) migratePlaces(ctx context.Context) error {
	secured, err := citus.Secured(ctx, l.pool, directory.Tables)
	if err != nil {
		return err
	}
	if secured != "" {
		return fmt.Errorf("%w: WithPlaces: MigrateRowSecurity was called for the home, and Citus copies no table with policies to its nodes: "+
			"drop the policies of %s first, and take row-level security off it", ErrInvalidOption, secured)
	}
	if err := l.directory().AddPlaces(ctx, l.pool); err != nil {
		return l.placesError(err)
	}
	if err := citus.Prepare(ctx, l.pool, l.options.places, directory.Tables); err != nil {
		return fmt.Errorf("the engine Citus: %w", err)
	}
	for _, name := range l.options.places {
		if err := migrations.UpPlace(ctx, l.pool, name); err != nil {
			return fmt.Errorf("the place %q: %w", name, err)
		}
	}
	return nil
}

// Places returns the places that a database has beside the home, for programs that open a ledger on whatever they find: see
// [WithPlaces]. It needs no ledger.
//
// Errors: [ErrNotMigrated] where there are no tables of a ledger; otherwise those of the database, and ctx's own.
func Places(ctx context.Context, db *gorm.DB) ([]string, error) {
	if db.Name() != "postgres" {
		return nil, nil
	}
	names, err := directory.Directory{Dialect: sqldb.Postgres}.PlacesThere(ctx, db.Statement.ConnPool)
	if err != nil {
		return nil, fault.Reader(postgres.Classify).Of(err)
	}
	return names, nil
}

// PlaceFor returns the place that the books of a tenant are in, one of [WithPlaces]; empty for the home. [Ledger.Move] takes them elsewhere.
//
// Its errors are those of [UUIDFor]; it reads where [Cost] reads.
func PlaceFor(ctx context.Context, db *gorm.DB, t Tenant) (string, error) {
	q, _, err := askMade(ctx, db, t)
	if err != nil {
		return "", err
	}
	return q.at.name(), nil
}

// checkPlaces returns an error where the places of the database are not those of the ledger, before anything is written.
func (l *Ledger) checkPlaces(ctx context.Context) error { return l.checkPlacesOver(ctx, l.pool) }

// checkPlacesOver is checkPlaces over a connection, once.
func (l *Ledger) checkPlacesOver(ctx context.Context, c sqldb.Conn) error {
	if !l.dialect.Schemas || l.placed.Load() {
		return nil
	}
	err := l.throughCoordinator(ctx, c)
	if err == nil {
		err = l.directory().CheckPlaces(ctx, c)
	}
	if err == nil {
		l.placed.Store(true)
	}
	return l.placesError(err)
}

// throughCoordinator returns an error where a ledger with places is opened on a node of Citus that is not the one that has the home.
func (l *Ledger) throughCoordinator(ctx context.Context, c sqldb.Conn) error {
	if len(l.options.places) == 0 {
		return nil
	}
	role, err := citus.RoleOf(ctx, c)
	if err == nil && role == citus.Worker {
		err = fmt.Errorf("%w: WithPlaces: the database is reached on a worker node of Citus, which has no home: open it on the coordinator, from where the nodes are found", ErrInvalidOption)
	}
	return err
}

// inPlaces is checkPlaces for what works on the books of all places.
func (l *Ledger) inPlaces(ctx context.Context) error {
	err := l.checkPlaces(ctx)
	if err == nil || errors.Is(err, ErrInvalidOption) {
		return err
	}
	return l.failure(ctx, err)
}

func (l *Ledger) placesError(err error) error {
	if differ := (*directory.PlacesError)(nil); errors.As(err, &differ) {
		return fmt.Errorf("%w: WithPlaces: %w", ErrInvalidOption, err)
	}
	return err
}

// moved reports whether the tenant of an operation is in another place than that of the task, which did not know it. It is tried there next.
func (l *Ledger) moved(ctx context.Context, op *decide.Op, who identity, task *lane.Task) (bool, error) {
	if len(l.places) == 1 || who.none() {
		return false, nil
	}
	name, found, err := l.findPlace(ctx, directory.Who{ID: op.Exec.Tenant, Key: who.Key, OwnerType: who.OwnerType, OwnerID: who.OwnerID})
	moved := false
	if err == nil && found {
		moved, err = l.learnPlace(who.Key, name, l.lanes.Of(task))
	}
	switch {
	case err == nil && moved:
		err = l.start(ctx, op)
	case errors.Is(err, ErrInvalidOption):
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		err = fmt.Errorf("%w: it was not found out in %v where tenant %q is: %w", ErrUnavailable, patience, who.Key, l.crowded(err))
	case err != nil && (l.faults.Unreachable(err) || l.faults(err).Passes()):
		err = fault.NotAvailable(fmt.Errorf("it was not found out where tenant %q is: %w", who.Key, err), l.faults.Unreachable(err))
	}
	return moved, err
}

// findPlace asks where the books of a tenant are, of all places. A process that has just started meets all of its tenants at once, and those that
// were moved are not where it looks first.
func (l *Ledger) findPlace(ctx context.Context, who directory.Who) (name string, found bool, err error) {
	places, err := inTurn(ctx, l, []string{"place", who.ID.String(), who.Key, who.OwnerType, who.OwnerID}, func(ctx context.Context) ([]string, error) {
		name, found, err := l.directory().PlaceOf(ctx, l.db.Statement.ConnPool, who)
		if err != nil || !found {
			return nil, err
		}
		return []string{name}, nil
	})
	if err != nil || len(places) == 0 {
		return "", false, err
	}
	return places[0], true, nil
}

// at is the place in which the tenant of a key is thought to be.
func (l *Ledger) at(key string) *place { return l.places[l.lanes.At(key)] }

// follow tries something in the place that a tenant is thought to be in and, as long as it does not find it there, in the one that it is in: also where it has
// come back to the first one in between. With an id it goes by that, otherwise by the key or the record. It reports whether it was found.
func (l *Ledger) follow(ctx context.Context, c sqldb.Conn, who directory.Who, try func(*place) (found bool, err error)) (bool, error) {
	came := false
	for range maxMoves {
		at := l.at(who.Key)
		found, err := try(at)
		if err != nil || found || len(l.places) == 1 {
			return found, err
		}
		name, made, err := l.directory().PlaceOf(ctx, c, who)
		if err != nil || !made {
			return false, err
		}
		moved, err := l.learnPlace(who.Key, name, at.number)
		if err != nil || !moved && came {
			return false, err
		}
		came = !moved
	}
	return false, nil
}

// learnPlace has a tenant looked for in the place of a name from now on. It reports whether that is another one than it was looked for in.
func (l *Ledger) learnPlace(key, name string, from int) (bool, error) {
	p, err := l.placeOf(key, name)
	if err != nil {
		return false, err
	}
	l.lanes.Learn(key, p.number)
	return p.number != from, nil
}

// placeNamed is the place of a name; nil where the ledger names none so.
func (l *Ledger) placeNamed(name string) *place {
	for _, p := range l.places {
		if p.name() == name {
			return p
		}
	}
	return nil
}

// placeOf is the place of a name that the directory has for a tenant.
func (l *Ledger) placeOf(key, name string) (*place, error) {
	if p := l.placeNamed(name); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: WithPlaces: the tenant %q is in the place %q, which this ledger does not name", ErrInvalidOption, key, name)
}

// MoveReport is what a [Ledger.Move] has done.
type MoveReport struct {
	Tenants    []string // the ids of those that were moved, in their order
	Executions int64
}

// Move takes the books of a tenant to another place, one of [WithPlaces] or, with an empty name, the home; and with it all that stand
// below it, and whoever has counted calls of one of these. It is one transaction: calls of these tenants wait while it copies, those that run
// are settled where they are then, and every answer is the same before and after. A tenant with a million
// executions takes a while ([Ledger.Prune] makes it less), in which a call of it waits as long as it would for room. Nothing has to be drained before: holds go along. Where all are there already,
// nothing is done.
//
// A tenant that stands below another one goes along with that: move the one at the top.
//
// Errors: [ErrInvalidOption] for a place that is none of the ledger's, and where a process has calls of the tenant running that has not been
// seen with these places, and where the role of the ledger's connections may not write both places (the error says what to grant); [ErrHierarchy] for a tenant below another one; [ErrNoBudget] for a tenant that is not there; [ErrInvalidTenant];
// [ErrUnavailable], also where somebody else keeps one of the tenants locked; [ErrNotMigrated]; [ErrClosed]; and ctx's own.
func (l *Ledger) Move(ctx context.Context, t Tenant, name string) (MoveReport, error) {
	to := l.placeNamed(name)
	if to == nil {
		return MoveReport{}, fmt.Errorf("%w: Move: %q is no place of this ledger (WithPlaces)", ErrInvalidOption, name)
	}
	who, err := l.asked(t)
	if err == nil {
		err = l.goesOn()
	}
	if err != nil {
		return MoveReport{}, err
	}
	if who.none() || who.Key == string(Root) {
		return MoveReport{}, fmt.Errorf("%w: Move: calls without a tenant, and the root, are in no place of their own", ErrInvalidOption)
	}
	// So that it is known there before it has calls there.
	if err := l.start(ctx, &decide.Op{Key: who.Key}); err != nil {
		return MoveReport{}, forbidden(to, err)
	}
	if err := l.lanes.StartAll(ctx); err != nil {
		return MoveReport{}, forbidden(to, l.explain(err))
	}
	q := l.questionAbout(who, l.pool, l.db.WithContext(ctx))
	s, err := q.state(ctx)
	switch {
	case err != nil:
		return MoveReport{}, err
	case !q.made(s):
		return MoveReport{}, fmt.Errorf("%w: Move: there is no tenant %q", ErrNoBudget, who.Key)
	}
	m := moving{Ledger: l, who: directory.Who{ID: s.Tenant.ID, Key: s.Tenant.Key}, to: to}
	err = l.transaction(ctx, l.db, func(tx *gorm.DB) error { return m.within(ctx, tx.Statement.ConnPool) })
	var strangers *books.StrangersError
	switch {
	case err == nil:
		for _, key := range m.report.Tenants {
			l.lanes.Learn(key, to.number)
		}
		return m.report, nil
	case errors.As(err, &strangers):
		return MoveReport{}, fmt.Errorf("%w: Move: %w", ErrInvalidOption, err)
	case errors.Is(err, ErrHierarchy), errors.Is(err, ErrInvalidOption), errors.Is(err, ErrUnavailable):
		return MoveReport{}, err
	}
	return MoveReport{}, forbidden(to, l.failure(ctx, err))
}

// forbidden says what to grant, where a Move has failed because a right is missing.
func forbidden(to *place, err error) error {
	if !postgres.Forbidden(err) {
		return err
	}
	schema := cmp.Or(to.name(), "of the home")
	return fmt.Errorf("%w: Move: the role that the ledger connects as lacks a right in the place that the tenant is in or in %q; run, for both: "+
		"GRANT USAGE ON SCHEMA %s TO role; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[3]s TO role; GRANT USAGE ON ALL SEQUENCES IN SCHEMA %[3]s TO role: %[4]w",
		ErrInvalidOption, to.name(), schema, err)
}

// moving is one run of Move.
type moving struct {
	*Ledger
	who    directory.Who
	to     *place
	report MoveReport
}

func (m *moving) within(ctx context.Context, conn sqldb.Conn) error {
	d := m.directory()
	family, err := d.Family(ctx, conn, m.who)
	if err != nil {
		return err
	}
	from := map[*place][]book.ID{}
	var changes []directory.Change
	for _, one := range family {
		if one.ID == m.who.ID && one.Parent != "" {
			return fmt.Errorf("%w: Move: %q stands below %q, and goes along with it: move that", ErrHierarchy, one.Key, one.Parent)
		}
		if one.Place == m.to.name() {
			continue
		}
		p, err := m.placeOf(one.Key, one.Place)
		if err != nil {
			return err
		}
		from[p] = append(from[p], one.ID)
		changes = append(changes, directory.Change{
			Tenant: one.ID.String(), Key: one.Key, Action: "Move", Was: map[string]string{"place": one.Place}, Became: map[string]string{"place": m.to.name()},
		})
		if one.Key != "" {
			m.report.Tenants = append(m.report.Tenants, one.Key)
		}
	}
	for _, p := range m.places { // in one order, for whoever moves others at the same time
		ids := from[p]
		if len(ids) == 0 {
			continue
		}
		n, err := books.Move(ctx, m.dialect, conn, p.schema, m.to.schema, ids)
		if err == nil {
			err = d.SetPlace(ctx, conn, ids, m.to.name())
		}
		if err != nil {
			return err
		}
		m.report.Executions += n
	}
	slices.Sort(m.report.Tenants)
	if err := d.Audit(ctx, conn, changes...); err != nil || len(changes) == 0 {
		return err
	}
	counted := m.to.name()
	for p := range from {
		counted = cmp.Or(counted, p.name())
	}
	return d.CountMove(ctx, conn, counted)
}
