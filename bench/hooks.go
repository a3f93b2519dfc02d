package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
)

// customer is a declared model, and guest the same for a handle without a ledger.
type customer struct {
	ID        uint
	Slug      string `gorm:"uniqueIndex"`
	Name      string
	Notes     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

type guest customer

func (customer) TableName() string { return "customers" }
func (guest) TableName() string    { return "guests" }

// write is one statement of a host's, the i-th of its kind.
type write struct {
	key, name string
	every     int // of so many, where it is a slow one
	do        func(db *gorm.DB, i int) error
}

// writes are the statements that are measured, of a model. Records that are changed are those that were created before.
func writes[T any](make func(id uint, slug string) *T) []write {
	// The i-th record, and the slug that it has after so many renames.
	const known = 100
	return []write{
		{"create", "Create", 1, func(db *gorm.DB, i int) error {
			return db.Create(make(0, fmt.Sprintf("single-%07d", i))).Error
		}},
		{"create_100", "Create of 100 records", 20, func(db *gorm.DB, i int) error {
			many := []*T{}
			for j := range 100 {
				many = append(many, make(0, fmt.Sprintf("many-%07d-%02d", i, j)))
			}
			return db.Create(many).Error
		}},
		{"save", "Save of an unchanged record", 1, func(db *gorm.DB, i int) error {
			id := uint(i%known + 1)
			return db.Save(make(id, fmt.Sprintf("known-%d", id))).Error
		}},
		{"rename", "Update of the key", 1, func(db *gorm.DB, i int) error {
			return db.Model(make(uint(known+i%known+1), "")).Update("slug", fmt.Sprintf("renamed-%07d", i)).Error
		}},
	}
}

// prepared makes the records that are going to be changed.
func prepared[T any](db *gorm.DB, make func(id uint, slug string) *T) error {
	for id := uint(1); id <= 200; id++ {
		if err := db.Create(make(0, fmt.Sprintf("known-%d", id))).Error; err != nil {
			return err
		}
	}
	return nil
}

// hooks measures what the ledger adds to a host's own statements, beside the same by gorm alone: one after the other, on one
// database.
func (b *bench) hooks(ctx context.Context) ([]Figure, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	figures, err := b.written(ctx, "", "", func() gorm.Dialector { return postgres.Open(url) })
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	more, err := b.written(ctx, "sqlite_", " on SQLite", func() gorm.Dialector {
		return sqlite.Open(filepath.Join(folder, "host.db") + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	})
	return append(figures, more...), err
}

func (b *bench) written(ctx context.Context, prefix, on string, dialector func() gorm.Dialector) (_ []Figure, err error) {
	s, err := attach(dialector(), 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	bare, err := gorm.Open(dialector(), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := bare.DB()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := s.ledger.Migrate(ctx); err != nil {
		return nil, err
	}
	for _, table := range []string{customer{}.TableName(), guest{}.TableName()} {
		id := "bigserial PRIMARY KEY"
		if bare.Name() == "sqlite" {
			id = "integer PRIMARY KEY AUTOINCREMENT"
		}
		if err := bare.Exec(`CREATE TABLE ` + table + ` (id ` + id + `, slug text UNIQUE, name text, notes text, created_at timestamp, updated_at timestamp)`).Error; err != nil {
			return nil, err
		}
	}
	if err := s.ledger.Register(&customer{}, tenant.WithKey("Slug"), tenant.WithEnforcement(tenant.Hard),
		tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("10"), MonthlyCost: tenant.USD("100")})); err != nil {
		return nil, err
	}
	customers := func(id uint, slug string) *customer {
		return &customer{ID: id, Slug: slug, Name: "Name", CreatedAt: time.Now()}
	}
	guests := func(id uint, slug string) *guest { g := guest(*customers(id, slug)); return &g }
	hosts, bares := s.db.WithContext(ctx), bare.WithContext(ctx)
	if err := errors.Join(prepared(hosts, customers), prepared(bares, guests)); err != nil {
		return nil, err
	}
	var figures []Figure
	others := writes(guests)
	for n, w := range writes(customers) {
		mine, theirs, err := b.turns(w.every, func(i int) error { return w.do(hosts, i) }, func(i int) error { return others[n].do(bares, i) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		figures = append(figures, Figure{
			Key: prefix + "hooks_" + w.key, Name: w.name + on + ", p50", Unit: "us", Value: mine, Baseline: theirs, Against: "gorm without a ledger",
		})
	}
	return figures, followed(hosts)
}

// turns lets two ways take turns, and returns the median of each.
func (b *bench) turns(every int, mine, theirs func(i int) error) (float64, float64, error) {
	var took [2][]time.Duration
	for start, i := time.Now(), 0; i < 20/every+1 || time.Since(start) < b.duration; i++ {
		for way, do := range []func(int) error{mine, theirs} {
			begun := time.Now()
			if err := do(i); err != nil {
				return 0, 0, err
			}
			took[way] = append(took[way], time.Since(begun))
		}
	}
	return percentile(took[0], 0.5), percentile(took[1], 0.5), nil
}

// followed fails if a record does not have the tenant of its key.
func followed(db *gorm.DB) error {
	var wrong int64
	err := db.Raw(`SELECT count(*) FROM customers c LEFT JOIN llm_tenants t ON t.owner_type = 'customers' AND t.owner_id = CAST(c.id AS text)
		AND t.tenant_id = c.slug WHERE t.id IS NULL`).Scan(&wrong).Error
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%d records have no tenant, or one with another key", wrong)
	}
	return err
}
