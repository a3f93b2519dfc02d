package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
)

type backfillCommand struct {
	Table         string   `required:"" placeholder:"NAME" help:"The table of the records. Required."`
	KeyColumn     string   `required:"" placeholder:"NAME" help:"The column of the tenant's id. Required."`
	IDColumn      []string `default:"id" placeholder:"NAME" help:"The columns of the primary key. Defaults to ${default}."`
	NameColumn    string   `placeholder:"NAME" help:"The column of the tenant's name, or none. Defaults to name, where there is one."`
	DeletedColumn string   `placeholder:"NAME" help:"The column that says when a record was softly deleted, or none. Defaults to deleted_at, where there is one."`
	Namespace     string   `placeholder:"NAME" help:"What stands before the tenant's id, and a colon (WithNamespace)."`
	Limits        string   `placeholder:"JSON" help:"The limits of budgets that are made, as the fields of tenant.Limits: {\"DailyCost\": \"100\"}. Defaults to none."`
	Enforcement   string   `enum:",hard,soft,none" default:"" placeholder:"HOW" help:"How limits of budgets that are made are enforced: hard, soft or none. Defaults to what is inherited."`
	RemoveOrphans bool     `help:"Remove the budgets whose records are gone."`
	Resume        string   `placeholder:"TEXT" help:"Go on where an earlier one ended."`
	Batch         int      `default:"500" placeholder:"N" help:"How many records are looked at in one transaction, up to 500. Defaults to ${default}."`
	DryRun        bool     `help:"Show what would be done, and write nothing."`
}

// Help is the help of the command.
func (backfillCommand) Help() string {
	return `Records that were there before the ledger, or were written where it could not see them, get their budgets. The columns are to be the ones that your program declares the model with: what it does with WithParent, WithOnDelete or a function of its own (WithBudgetFunc), it does with ledger.Backfill(ctx, &Model{}).

Ctrl-C ends it behind a whole batch, and says with which --resume the same command goes on.`
}

// backfilled is what backfill prints as JSON.
type backfilled struct {
	tenant.BackfillReport
	Skips  []skip `json:",omitempty"`
	DryRun bool
}

type skip struct{ Record, Error string }

// names has gorm call a model of no name as the host's table is called, and its fields as their tags say.
type names struct {
	schema.NamingStrategy
	table string
}

// TableName implements schema.Namer.
func (n names) TableName(string) string { return n.table }

// column is a column of the host's table.
type column struct {
	field, name string
	of          reflect.Type
}

// model makes the type of the records: what the columns are is the database's to say.
func (c *backfillCommand) model(db *gorm.DB) (record any, options []tenant.RegisterOption, err error) {
	if !db.Migrator().HasTable(c.Table) {
		return nil, nil, wrong("--table: there is no table %q", c.Table)
	}
	found, err := db.Migrator().ColumnTypes(c.Table)
	if err != nil {
		return nil, nil, err
	}
	types, have := map[string]reflect.Type{}, []string{}
	for _, f := range found {
		types[f.Name()] = reflect.TypeFor[string]()
		if kind := strings.ToLower(f.DatabaseTypeName()); strings.Contains(kind, "int") || strings.Contains(kind, "serial") {
			types[f.Name()] = reflect.TypeFor[int64]()
		}
		have = append(have, f.Name())
	}
	var columns []column
	add := func(flag, field, name string, of reflect.Type) error {
		if types[name] == nil {
			return wrong("%s: the table %s has no column %q; it has %s", flag, c.Table, name, strings.Join(have, ", "))
		}
		if of == nil {
			of = types[name]
		}
		columns = append(columns, column{field, name, of})
		return nil
	}
	key := ""
	for i, name := range c.IDColumn {
		field := fmt.Sprint("ID", i)
		if name == c.KeyColumn {
			key = field
		}
		err = errors.Join(err, add("--id-column", field, name, nil))
	}
	if key == "" {
		key = "Key"
		err = errors.Join(err, add("--key-column", key, c.KeyColumn, nil))
	}
	options = []tenant.RegisterOption{tenant.WithKey(key), tenant.WithBudget()}
	for _, o := range []struct {
		flag, field string
		name        *string
		usual       string
		of          reflect.Type
	}{{"--name-column", "Title", &c.NameColumn, "name", nil}, {"--deleted-column", "DeletedAt", &c.DeletedColumn, "deleted_at", reflect.TypeFor[gorm.DeletedAt]()}} {
		if *o.name == "" && types[o.usual] != nil {
			*o.name = o.usual
		}
		if *o.name == "" || *o.name == none {
			continue
		}
		if o.field == "Title" {
			options = append(options, tenant.WithName(o.field))
			for _, have := range columns {
				if have.name == *o.name { // the name is the key's column
					options[len(options)-1] = tenant.WithName(have.field)
					*o.name = none
				}
			}
		}
		if *o.name != none {
			err = errors.Join(err, add(o.flag, o.field, *o.name, o.of))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	var fields []reflect.StructField
	for i, col := range columns {
		tag := "column:" + col.name
		if i < len(c.IDColumn) {
			tag += ";primaryKey"
		}
		fields = append(fields, reflect.StructField{Name: col.field, Type: col.of, Tag: reflect.StructTag(fmt.Sprintf("gorm:%q", tag))})
	}
	return reflect.New(reflect.StructOf(fields)).Interface(), options, nil
}

func (c *backfillCommand) Run(ctx context.Context, a *app) error {
	for _, name := range slices.Concat([]string{c.Table, c.KeyColumn, c.NameColumn, c.DeletedColumn}, c.IDColumn) {
		if strings.ContainsAny(name, ";:,\"`'\\") {
			return wrong("%q is no name of a table or a column that can be meant", name)
		}
	}
	var limits tenant.Limits
	if c.Limits != "" {
		if err := json.Unmarshal([]byte(c.Limits), &limits); err != nil {
			return wrong("--limits: %s", explain(err))
		}
	}
	// A tenant's key is the record's to say, so that an unknown one is none that was mistyped.
	l, end, err := a.openOn(ctx, false, nil)
	if err != nil {
		return err
	}
	defer end()
	l.db.Config.NamingStrategy = names{table: c.Table}
	record, options, err := c.model(l.db.WithContext(ctx))
	if err != nil {
		return err
	}
	options = append(options, tenant.WithLimits(limits))
	if c.Namespace != "" {
		options = append(options, tenant.WithNamespace(c.Namespace))
	}
	if c.Enforcement != "" {
		options = append(options, tenant.WithEnforcement(tenant.Enforcement(c.Enforcement)))
	}
	if err := l.Register(record, options...); err != nil {
		return err
	}
	p := a.progress()
	how := []tenant.BackfillOption{tenant.WithBatchSize(c.Batch), tenant.WithResume(c.Resume), tenant.WithProgress(func(r tenant.BackfillReport) {
		p.tell("%d records, %d budgets made", r.Seen, r.Made)
	})}
	if c.DryRun {
		how = append(how, tenant.WithBackfillDryRun())
	}
	if c.RemoveOrphans {
		how = append(how, tenant.WithOrphansRemoved())
	}
	r := backfilled{DryRun: c.DryRun}
	r.BackfillReport, err = l.Backfill(a.acting(ctx, ""), record, how...)
	p.end()
	for _, s := range r.BackfillReport.Skips {
		why, _, _ := strings.Cut(explain(s.Err), " (of a struct") // which is none that the host knows
		r.Skips = append(r.Skips, skip{s.Record, why})
	}
	if err != nil && r.Resume == "" {
		return err
	}
	if a.JSON {
		a.out.json(r)
	} else {
		r.print(a, c.RemoveOrphans)
	}
	if err != nil {
		a.problems.say("To go on, type the same with --resume %s", shellWord(r.Resume))
	}
	return err
}

func (r *backfilled) print(a *app, removes bool) {
	a.out.say("Records      %d", r.Seen)
	a.out.say("Made         %d", r.Made)
	a.out.say("Linked       %d that were known by their id alone", r.Linked)
	a.out.say("Updated      %d", r.Updated)
	a.out.say("Skipped      %d", r.Skipped)
	orphans := "left; --remove-orphans removes them"
	if removes {
		orphans = "removed"
	}
	a.out.say("Without a record  %d, %s", r.Orphans, orphans)
	if len(r.Skips) > 0 {
		a.out.say("")
		t := &table{head: []string{"Record", "Skipped because"}}
		for _, s := range r.Skips {
			t.add(s.Record, s.Error)
		}
		t.write(a.out, "")
	}
	if len(r.Orphaned) > 0 {
		a.out.say("")
		t := &table{head: []string{"Tenant", "Had the record"}}
		for _, o := range r.Orphaned {
			t.add(o.TenantID, o.Record)
		}
		t.write(a.out, "")
	}
	if r.DryRun {
		a.out.say("Nothing was written.")
	}
}

// shellWord is a text as a shell takes it for one word.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
