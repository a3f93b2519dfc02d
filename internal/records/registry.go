// Package records is gorm's side: which models are tenants, what their records say of their tenants, and how these follow what the
// host writes.
package records

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Config is what a registry needs of its ledger.
type Config struct {
	DB      *gorm.DB // the ledger's own handle
	Dialect *sqldb.Dialect
	Places  []string // see directory.Directory
	Log     *slog.Logger

	// Faults says what an error of the database means.
	Faults fault.Reader

	// Transaction runs a short transaction of the ledger's own on its handle.
	Transaction func(ctx context.Context, do func(tx *gorm.DB) error) error

	// Known returns an error for a tenant id that nobody has. Nil: any id may be named.
	Known func(ctx context.Context, c sqldb.Conn, key string) error

	// Parent returns the method of a record that says who stands above it, nil where its model has none.
	Parent func(record any) func() Tenant

	// LimitTags begins to read the limits in the tags of a model.
	LimitTags func() LimitTags
}

// Tenant is what has a tenant id.
type Tenant interface{ LLMTenantID() string }

// Registry is the models that were declared, by their type and by their table.
type Registry struct {
	Config
	stale stale
	pools sync.Map             // whether the ledger's tables are not behind a pool that is not its own, by *sql.DB
	citus atomic.Pointer[bool] // whether the database has Citus, once it was asked

	mu      sync.RWMutex
	byType  map[reflect.Type]*Declaration
	byTable map[string]*Declaration
	byName  map[string]*Declaration // by the table's name without its schema; nil where several have it
}

// New returns a registry without models.
func New(c Config) *Registry {
	return &Registry{
		Config: c, byType: map[reflect.Type]*Declaration{}, byTable: map[string]*Declaration{}, byName: map[string]*Declaration{},
	}
}

func (g *Registry) directory() directory.Directory {
	return directory.Directory{Dialect: g.Dialect, Places: g.Places}
}

// Declare reads a model, given as a pointer to its struct, with its tags and what options say of it. It is not a tenant before it
// is added.
func (g *Registry) Declare(record any, options func(*Declaration) error) (*Declaration, error) {
	t := reflect.TypeOf(record)
	if t == nil {
		return nil, fmt.Errorf("the model is nil; give a pointer to its struct, such as &Organization{}")
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("a model is a struct, and this is a %s", t.Kind())
	}
	statement := &gorm.Statement{DB: g.DB}
	if err := statement.Parse(reflect.New(t).Interface()); err != nil {
		return nil, fmt.Errorf("gorm cannot read the model: %w", err)
	}
	d := &Declaration{registry: g, Type: t, schema: statement.Schema}
	if len(d.schema.PrimaryFields) == 0 {
		return nil, fmt.Errorf("the model has no primary key, by which its budget would be found again")
	}
	if err := options(d); err != nil {
		return nil, err
	}
	tags, err := readTags(d.schema, g.LimitTags())
	if err != nil {
		return nil, err
	}
	if err := d.agree(tags); err != nil {
		return nil, err
	}
	return d, d.complete()
}

// Add makes a model a tenant.
func (g *Registry) Add(d *Declaration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if other := g.byTable[d.schema.Table]; other != nil {
		return fmt.Errorf("%w: Register %s: the table %s was declared before, for %s", fault.ErrInvalidOption, d.Type, d.schema.Table, other.Type)
	}
	name := d.schema.Table
	g.byType[d.Type], g.byTable[name] = d, d
	if _, several := g.byName[bare(name)]; several {
		d = nil
	}
	g.byName[bare(name)] = d
	return nil
}

// Of finds the declaration of a type or of a pointer to it.
func (g *Registry) Of(t reflect.Type) *Declaration {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.byType[t]
}

// OfTable finds the declaration of the records of a table. Whether a name with another schema, or with one or without, means
// the declared table, only the database can say.
func (g *Registry) OfTable(table string) *Declaration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if d := g.byTable[table]; d != nil {
		return d
	}
	return g.byName[bare(table)]
}

// maxStale bounds how many tenants that are out of date one statement can come across.
const maxStale = 100

// mending does something that may find a tenant id taken. If whoever has it does not any more, because the record was
// changed or deleted where the ledger could not see it, that tenant is made to follow first.
func (g *Registry) mending(db *gorm.DB, do func() error) error {
	for stale := 0; ; stale++ {
		err := do()
		conflict := (*directory.ConflictError)(nil)
		if !errors.As(err, &conflict) {
			return g.Explain(err)
		}
		if mended := stale < maxStale && g.mend(db, conflict); !mended {
			return g.Explain(err)
		}
	}
}

// mend makes the tenant follow that has a tenant id which is wanted for another one, and reports whether it has given it
// up.
func (g *Registry) mend(db *gorm.DB, conflict *directory.ConflictError) bool {
	d := g.OfTable(conflict.OtherType)
	if d == nil {
		return false // another service's, perhaps
	}
	key, ok := d.primaryKey(conflict.OtherID)
	if !ok {
		return false
	}
	at, err := d.resolve(db)
	if err != nil || at.owner != conflict.OtherType {
		return false // a record of another schema cannot be read from here
	}
	profiles, err := at.current(db, [][]any{key})
	if err != nil || len(profiles) == 1 && !profiles[0].Deleted && (profiles[0].Err != nil || profiles[0].Key == conflict.Profile.Key) {
		return false
	}
	return at.follow(db, [][]any{key}, true) == nil
}

// Explain gives an error of making tenants follow the form in which the host sees it. That of a database which does not answer
// stays what it is: whoever waits knows for how long.
func (g *Registry) Explain(err error) error {
	if g.Faults.Unreachable(err) {
		return err
	}
	return g.Faults.Of(err)
}
