package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
)

const moves = "tenants moved to another place"

// placeNames are the schemas of a number of places.
func placeNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("place_", i+1))
	}
	return names
}

// schemas is what the tables of the home and of each place begin with.
func (r *runner) schemas() []string {
	all := []string{""}
	for _, name := range placeNames(r.Places) {
		all = append(all, name+".")
	}
	return all
}

// all is what the views of the rows of all places begin with.
func (r *runner) all() string {
	if r.Places == 0 {
		return ""
	}
	return "allplaces."
}

// makePlaces makes the places, and views of the rows of all of them under the names of the tables, for whoever judges the rows.
func (r *runner) makePlaces(ctx context.Context) error {
	if r.Places == 0 {
		return nil
	}
	db, ledger, err := open(r.URL, "UTC", r.Places, time.Now)
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	defer func() { _ = ledger.Close(context.WithoutCancel(ctx)) }()
	if err := ledger.Migrate(ctx); err != nil {
		return err
	}
	statements := []string{"CREATE SCHEMA allplaces"}
	for _, table := range []string{"llm_executions", "llm_balances", "llm_usage", "llm_idempotency"} {
		var parts []string
		for _, place := range r.schemas() {
			part := "SELECT * FROM " + place + table
			if place != "" { // what has no tenant is in the home
				part += " WHERE tenant <> '00000000-0000-0000-0000-000000000000'"
			}
			parts = append(parts, part)
		}
		rows := strings.Join(parts, " UNION ALL ")
		if len(r.nodes) > 0 { // which compares rows of several nodes once it has them
			rows = "WITH a AS MATERIALIZED (" + rows + ") SELECT * FROM a"
		}
		statements = append(statements, "CREATE VIEW allplaces."+table+" AS "+rows)
	}
	for _, statement := range statements {
		if _, err := pool.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the views of all places: %w", err)
		}
	}
	return nil
}

// openRows opens a handle that finds the rows of all places under the names of the tables.
func (r *runner) openRows(db *gorm.DB) (*gorm.DB, error) {
	if r.Places == 0 {
		return db, nil
	}
	path := "allplaces,public,pg_catalog"
	if r.Jump > 0 {
		path = "allplaces,chaos,public,pg_catalog"
	}
	url, err := searching(r.URL, path)
	if err != nil {
		return nil, err
	}
	return gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard})
}

// openAudited opens handles that each find rows of one moment. Those of several nodes are of none.
func (r *runner) openAudited(db *gorm.DB) (all []*gorm.DB, err error) {
	if len(r.nodes) == 0 {
		return []*gorm.DB{r.rows}, nil
	}
	for _, name := range placeNames(r.Places) {
		url, err := searching(r.URL, name)
		if err != nil {
			return nil, err
		}
		rows, err := gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			return nil, err
		}
		all = append(all, rows)
	}
	return append(all, db), nil
}

// anywhere names a table in one of the places that have it.
func (r *runner) anywhere(rng *rand.Rand, table string) string {
	if r.Places == 0 || table == "llm_tenants" {
		return table
	}
	all := r.schemas()
	return all[rng.IntN(len(all))] + table
}

// move moves a tenant to another place. It may be cut, or keep others waiting, like anything else.
func (r *runner) move(ctx context.Context, rng *rand.Rand) {
	key := hot
	if rng.IntN(3) > 0 {
		key = cold(rng.IntN(r.Cold))
	}
	names := append([]string{""}, placeNames(r.Places)...)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if report, err := r.ledger.Move(ctx, tenant.ID(key), names[rng.IntN(len(names))]); err == nil && len(report.Tenants) > 0 {
		r.tally.add(moves)
	}
}
