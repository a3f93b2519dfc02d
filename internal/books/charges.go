package books

import (
	"context"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Charges says which calls are looked at: those of a tenant that were admitted in a range, to some models; none: to all.
type Charges struct {
	Tenant book.ID
	Range
	Models []string // as asked for or as billed
	After  book.ID  // of those that were admitted at From, only the ids after this one
}

// Charge is a call whose charge was for the ledger to reckon, with what its price depends on and what a correction of it
// needs; what it was corrected by so far, and how often.
type Charge struct {
	book.Execution
	KeyNow    string // of its tenant, whose terms go by it; as it was at the call where it has none any more
	Corrected book.Amount
	Times     int64
}

// Charges returns the first calls, in the order of their admission, whose usage is on the books and whose caller named no
// cost: as many as there are, up to a limit. Each is looked up among the corrections by its own id, which leaves a planner
// no choice that depends on what it knows of them.
func (b Books) Charges(ctx context.Context, c Charges, limit int) ([]Charge, error) {
	args := []any{c.Tenant.String(), b.Time(c.From), b.Time(c.To), b.Time(c.From), c.After.String()}
	models := ""
	if n := len(c.Models); n > 0 {
		in := " IN (?" + strings.Repeat(", ?", n-1) + ")"
		models = " AND (e.model" + in + " OR e.billed_model" + in + ")"
		for range 2 {
			for _, m := range c.Models {
				args = append(args, m)
			}
		}
	}
	const corrections = ` FROM llm_executions c WHERE c.tenant = e.tenant AND c.corrects = e.id)`
	var out []Charge
	err := b.query(ctx)(b.Bind(`SELECT e.id, CAST(e.parents AS text), e.tenant_id,
			coalesce((SELECT t.tenant_id FROM llm_tenants t WHERE t.id = e.tenant), e.tenant_id), e.agent, e.provider, e.model, e.billed_model,
			e.service_tier, e.price, coalesce(CAST(e.tags AS text), ''), e.admitted_at, e.settled_at, e.cost, e.charge, coalesce(e.reported_cost, -1),
			(SELECT CAST(coalesce(sum(c.cost), 0) AS bigint)`+corrections+`, (SELECT CAST(coalesce(sum(c.charge), 0) AS bigint)`+corrections+`, (SELECT count(*)`+corrections+`,
			e.`+strings.Join(book.UsageColumns[:], ", e.")+`, CAST(e.units AS text)
		FROM llm_executions e WHERE e.tenant = ? AND e.admitted_at >= ? AND e.admitted_at < ? AND (e.admitted_at > ? OR e.id > ?)
			AND `+Ended+` AND e.settled_at IS NOT NULL AND e.corrects IS NULL AND (e.price <> '' OR e.unpriced)`+models+`
		ORDER BY e.admitted_at, e.id LIMIT ?`), append(args, limit), func(row sqldb.Row) error {
		charge := Charge{Execution: book.Execution{Tenant: c.Tenant}}
		err := charge.scan(row)
		out = append(out, charge)
		return err
	})
	return out, err
}

func (c *Charge) scan(row sqldb.Row) (err error) {
	var parents string
	to := []any{
		&c.ID, &parents, &c.TenantKey, &c.KeyNow, &c.Agent, &c.Provider, &c.Model, &c.BilledModel, &c.ServiceTier, &c.Price, &c.Tags,
		sqldb.Instant(&c.AdmittedAt), sqldb.Instant(&c.SettledAt), &c.Charged.Cost, &c.Charged.Charge, &c.Reported,
		&c.Corrected.Cost, &c.Corrected.Charge, &c.Times,
	}
	for _, class := range c.Usage.Classes() {
		to = append(to, class)
	}
	if err := row.Scan(append(to, &c.Usage.Units)...); err != nil {
		return err
	}
	c.Ancestors, err = sqldb.ParseIDs(parents)
	return err
}
