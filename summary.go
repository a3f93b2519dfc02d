package tenant

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/money"
)

// Summary is what a tenant used in a period.
type Summary struct {
	// From and To are the period, half-open, in UTC; both are zero for AllTime.
	From time.Time `json:",omitzero"`
	To   time.Time `json:",omitzero"`

	Totals

	// ByAgent and ByModel are the same, taken apart; the dearest come first.
	ByAgent []AgentTotals
	ByModel []ModelTotals
}

// Totals are sums over calls that have ended.
type Totals struct {
	Cost   decimal.Decimal // US dollars
	Tokens int64           // charged, of all classes

	// Usage is the tokens by class. A call that was abandoned, or whose usage could not be believed, is charged the tokens
	// that it held without anybody knowing their classes: so Tokens can be more than the classes add up to.
	Usage Usage

	Calls    int64 // made, with those that failed
	Errors   int64 // calls that failed
	Refusals int64 // calls that were not made because a limit had no room; a lower bound, and counted by the hour
}

// AgentTotals are the calls of one agent, by the name that they were given [WithAgent]; empty for those without one.
type AgentTotals struct {
	Agent string
	Totals
}

// ModelTotals are the calls that one model was billed for; where nobody billed any, those that asked for it.
type ModelTotals struct {
	Model string
	Totals
}

// UsageSummary returns what the calls of a tenant that were admitted in a period used, by agent and by model. It counts
// like [Cost], reads where Cost reads, and returns the same errors. All of it is of one moment.
//
// Refusals belong to the whole hour in which they happened, and count where that hour begins. A refusal by itself is
// never written, only along with a call of its tenant, so that some may be missing.
func UsageSummary(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (Summary, error) {
	asked, err := queryOf(options)
	if err != nil {
		return Summary{}, err
	}
	q, err := ask(ctx, db, t)
	if err != nil {
		return Summary{}, err
	}
	s, r, err := q.during(ctx, p)
	if err != nil {
		return Summary{}, err
	}
	var parts []books.Part
	if s.Tenant != nil {
		if parts, err = q.books.Parts(ctx, books.Calls{Tenant: s.Tenant.ID, Alone: !asked.descendants, Range: r}); err != nil {
			return Summary{}, q.failure(ctx, err)
		}
	}
	return summary(r, parts), nil
}

func summary(r books.Range, parts []books.Part) Summary {
	s := Summary{From: r.From, To: r.To}
	if r == books.Ever {
		s.From, s.To = time.Time{}, time.Time{}
	}
	var all books.Part
	agents, models := map[string]books.Part{}, map[string]books.Part{}
	for _, part := range parts {
		all = all.Plus(part)
		agents[part.Agent] = agents[part.Agent].Plus(part)
		models[part.Model] = models[part.Model].Plus(part)
	}
	s.Totals = totals(all)
	for name, part := range agents {
		s.ByAgent = append(s.ByAgent, AgentTotals{name, totals(part)})
	}
	for name, part := range models {
		s.ByModel = append(s.ByModel, ModelTotals{name, totals(part)})
	}
	slices.SortFunc(s.ByAgent, func(a, b AgentTotals) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(a.Agent, b.Agent))
	})
	slices.SortFunc(s.ByModel, func(a, b ModelTotals) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(a.Model, b.Model))
	})
	return s
}

func totals(p books.Part) Totals {
	return Totals{
		Cost: money.Decimal(p.Charged.Cost), Tokens: p.Charged.Tokens, Usage: Usage(p.Usage),
		Calls: p.Charged.Calls, Errors: p.Errors, Refusals: p.Refusals,
	}
}
