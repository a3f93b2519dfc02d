package tenant

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// Execution is one LLM call as it is on the books: a GORM model to read with, see [Executions]. The ledger alone writes
// its table; never create, change or AutoMigrate it. It holds no prompts, replies or credentials.
//
// Money is in nano-dollars (1e-9 US dollars) in the columns and in the fields whose names end in Nano; the methods give
// US dollars.
type Execution struct {
	ID       string `gorm:"column:id;primaryKey"` // a UUIDv7: ids sort by the time of the call, as far as the clocks of the processes agree
	TenantID string `gorm:"column:tenant_id"`     // the tenant's id as it was at the call; empty for a call without a tenant

	// Status is "running", and then "succeeded", "failed", "cancelled" (it was released, and not made) or "abandoned" (its
	// process was gone, or it ran for too long: its hold was charged); or "adjusted", for what is no call, but a correction.
	Status string `gorm:"column:status"`

	Agent       string `gorm:"column:agent"`        // see WithAgent
	Provider    string `gorm:"column:provider"`     // as the provider's price was looked up
	Model       string `gorm:"column:model"`        // as it was asked for
	BilledModel string `gorm:"column:billed_model"` // as the provider reported it; empty while running
	RequestID   string `gorm:"column:request_id"`   // the provider's name for the call

	IdempotencyKey string            `gorm:"column:idempotency_key"`                       // see WithIdempotencyKey; empty (NULL in the table) for none
	Tags           map[string]string `json:",omitzero" gorm:"column:tags;serializer:json"` // see WithTag
	Actor          string            `gorm:"column:actor"`                                 // see ContextWithActor

	AdmittedAt time.Time  `json:",omitzero" gorm:"column:admitted_at"` // decides the day and the month that the call belongs to
	DeadlineAt time.Time  `json:",omitzero" gorm:"column:deadline_at"` // a running call is abandoned after it
	FinishedAt *time.Time `json:",omitzero" gorm:"column:finished_at"` // nil while running
	SettledAt  *time.Time `json:",omitzero" gorm:"column:settled_at"`  // when its true usage was booked; nil where it was not

	HeldCostNano      int64  `gorm:"column:held_cost"`                      // held at admission
	HeldChargeNano    int64  `gorm:"column:held_charge"`                    // held at admission
	HeldTokens        int64  `gorm:"column:held_tokens"`                    // held at admission
	CostNano          int64  `gorm:"column:cost"`                           // what the provider bills
	ChargeNano        int64  `gorm:"column:charge"`                         // what the tenant is charged, by its terms
	Tokens            int64  `gorm:"column:tokens"`                         // of all classes
	Calls             int64  `gorm:"column:calls"`                          // 1 once it counts as a call made
	ReportedCostNano  *int64 `json:",omitzero" gorm:"column:reported_cost"` // as the provider stated it; nil where it did not
	OverrunCostNano   int64  `gorm:"column:overrun_cost"`                   // how far the cost went beyond the hold
	OverrunChargeNano int64  `gorm:"column:overrun_charge"`                 // how far the charge went beyond the hold
	OverrunTokens     int64  `gorm:"column:overrun_tokens"`

	// LatencyMicros is how long the call took, in microseconds, without the time of booking it; nil (NULL in the table) where
	// nobody knows: for what was recorded without it, for abandoned calls, and for those that another process has settled.
	LatencyMicros *int64 `json:",omitzero" gorm:"column:latency_us"`

	// Price is what decided the cost and the charge: the row of the price book with the tenant's terms (see [Price].Row); "hold"
	// where no price of its usage was known, and what was held was taken; "named" where the caller named the charge. It is empty
	// where the caller named the cost, and where neither goes by usage.
	Price       string `gorm:"column:price"`
	ServiceTier string `gorm:"column:service_tier"` // that the provider says it was served in

	Estimated bool   `gorm:"column:estimated"`  // cost and charge are not by usage that the provider reported
	Unpriced  bool   `gorm:"column:unpriced"`   // no price was known: cost and charge are not the truth
	ErrorCode string `gorm:"column:error_code"` // why it failed, in a word
	Reason    string `gorm:"column:reason"`     // of an adjustment

	// Corrects is, of an adjustment, the ID of the call whose cost it corrects, of the same tenant; empty (NULL in the table)
	// for none.
	Corrects string `gorm:"column:corrects"`

	Usage Usage `gorm:"embedded"`
}

// TableName implements gorm's Tabler: a naming strategy of the host does not change it.
func (Execution) TableName() string { return "llm_executions" }

// Cost returns what the provider bills for the call, in US dollars.
func (e *Execution) Cost() decimal.Decimal { return money.Decimal(e.CostNano) }

// Charge returns what the tenant is charged for the call, in US dollars.
func (e *Execution) Charge() decimal.Decimal { return money.Decimal(e.ChargeNano) }

// Margin returns what is left of the charge beyond the cost, in US dollars; less than zero where the call cost more.
func (e *Execution) Margin() decimal.Decimal { return e.Charge().Sub(e.Cost()) }

// Latency returns how long the call took. It reports false where nobody knows.
func (e *Execution) Latency() (time.Duration, bool) {
	if e.LatencyMicros == nil {
		return 0, false
	}
	return time.Duration(*e.LatencyMicros) * time.Microsecond, true
}

// HeldCharge returns what was held of the charge at admission, in US dollars.
func (e *Execution) HeldCharge() decimal.Decimal { return money.Decimal(e.HeldChargeNano) }

// OverrunCharge returns how far the charge went beyond the hold, in US dollars.
func (e *Execution) OverrunCharge() decimal.Decimal { return money.Decimal(e.OverrunChargeNano) }

// HeldCost returns what was held of the cost at admission, in US dollars.
func (e *Execution) HeldCost() decimal.Decimal { return money.Decimal(e.HeldCostNano) }

// OverrunCost returns how far the cost went beyond the hold, in US dollars.
func (e *Execution) OverrunCost() decimal.Decimal { return money.Decimal(e.OverrunCostNano) }

// ReportedCost returns the cost as the provider stated it, in US dollars. It reports false where it did not.
func (e *Execution) ReportedCost() (decimal.Decimal, bool) {
	if e.ReportedCostNano == nil {
		return decimal.Decimal{}, false
	}
	return money.Decimal(*e.ReportedCostNano), true
}

// Executions returns a handle on the executions of a tenant, to chain conditions on:
//
//	var failed []tenant.Execution
//	err := tenant.Executions(ctx, db, org).Where("status = ?", "failed").Order("id DESC").Find(&failed).Error
//
// [WithDescendants] adds the calls of the tenants below; that reads the calls of all tenants that have another above them.
// It can be used for several queries. Conditions that db has already hold too. A tenant that does not exist has no
// executions, and a nil Tenant stands for the calls without a tenant. This is the host's own query, so that it goes where
// a resolver sends reads: a replica may be behind [Cost].
//
// Errors are the handle's, and so those of every query on it: [ErrNotOpen], [ErrClosed], [ErrInvalidTenant], and [ErrInvalidOption] for a nil option.
func Executions(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) *gorm.DB {
	asked, err := queryOf(options)
	rows := rowsOfTenant(ctx, db, t, &Execution{}, "llm_executions", asked)
	if err != nil {
		_ = rows.AddError(err)
	}
	return rows
}

// rowsOfTenant is a handle on the rows of a table that are a tenant's.
func rowsOfTenant(ctx context.Context, db *gorm.DB, t Tenant, model any, table string, asked query) *gorm.DB {
	if db == nil || db.Config == nil {
		db, _ = gorm.Open(nil, &gorm.Config{}) // of no database: it is there to carry the error
	}
	db = db.WithContext(ctx).Model(model)
	if err := ofTenant(ctx, db, t, table, asked); err != nil {
		_ = db.AddError(err)
	}
	return db.Session(&gorm.Session{})
}

// ofTenant adds the condition that rows are a tenant's.
func ofTenant(ctx context.Context, db *gorm.DB, t Tenant, table string, asked query) error {
	q, err := askThere(ctx, db, t)
	if err != nil {
		return err
	}
	if q.who.none() {
		db.Where(table+".tenant = ?", book.NoTenant.String())
		return nil
	}
	if len(q.places) > 1 && table == (Execution{}).TableName() {
		apart, err := q.records.OnCitus(ctx, q.db.Statement.ConnPool)
		if err != nil {
			return q.failure(ctx, err)
		}
		if !apart {
			q.inAnyPlace(db)
		} else if _, err := q.state(ctx); err == nil || errors.Is(err, ErrIdentityConflict) { // whose key is another record's has no executions, in whatever place
			q.at.table(db)
		} else {
			return err
		}
	}
	// A record's own tenant goes before the one that has its key, which is taken only if it is no other record's, nor was.
	if q.who.uuid != book.NoTenant || q.who.Key == string(Root) || q.options.knownOnly && q.who.Declaration == nil {
		if _, err := q.answer(ctx); err != nil {
			return err
		}
	}
	return q.those(db, table, asked)
}

// inAnyPlace has a query of executions read those of all places: a tenant may be moved before it is run, or run again. Where it has no executions, its index
// says so.
func (q *question) inAnyPlace(db *gorm.DB) {
	table := (Execution{}).TableName()
	all := make([]string, len(q.places))
	for i, p := range q.places {
		all[i] = "SELECT * FROM " + p.schema.Table(table)
	}
	db.Table("(" + strings.Join(all, " UNION ALL ") + ") AS " + table)
}

// those adds the condition for who is asked about.
func (q *question) those(db *gorm.DB, table string, asked query) error {
	const (
		byKey   = `(SELECT w.id FROM llm_tenants w WHERE w.tenant_id = ?)`
		byOwner = `(SELECT w.id FROM (
			SELECT o.id, 0 AS place FROM llm_tenants o WHERE o.owner_type = ? AND o.owner_id = ?
			UNION ALL SELECT k.id, 1 FROM llm_tenants k WHERE k.tenant_id = ? AND k.owner_type IS NULL AND k.deleted_at IS NULL
			) w ORDER BY w.place LIMIT 1)`
	)
	id, args := byKey, []any{q.who.Key}
	if q.who.OwnerType != "" {
		id, args = byOwner, []any{q.who.OwnerType, q.who.OwnerID, q.who.Key}
	}
	if q.who.uuid != book.NoTenant {
		id, args = "(?)", []any{q.who.uuid.String()}
	}
	if !asked.descendants {
		db.Where(table+".tenant = "+id, args...)
		return nil
	}
	db.Where("("+table+".tenant = "+id+" OR "+q.dialect.BelowThat(table+".parents", id)+")", append(args, args...)...)
	return nil
}
