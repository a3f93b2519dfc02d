package decide

import (
	"slices"

	"github.com/llmtenant/tenant/internal/book"
)

// thresholds returns the thresholds that the limits over an execution have met, as far as it is not known that they are on
// the books. Each is in the effects once. A limit that is not enforced has none.
func (b *batch) thresholds(counting []*account, e *book.Execution) []*book.Threshold {
	if len(b.Thresholds) == 0 {
		return nil
	}
	first := len(b.met)
	for _, a := range counting {
		if Enforcement(a.Tenant, &b.Defaults) == book.None {
			continue
		}
		for _, l := range b.lines(a) {
			if !l.Covers(e.Agent, e.Model) || !a.Has(l.Scope) {
				continue
			}
			if balance := a.Balance(l.Scope); balance.Holds(e.AdmittedAt) {
				b.meet(a.Tenant, l.Limit, balance)
			}
		}
	}
	return slices.Clone(b.met[first:])
}

func (b *batch) meet(t *book.Tenant, l book.Limit, balance *book.Balance) {
	spent := l.Of(balance.Spent)
	for _, percent := range b.Thresholds {
		if spent <= 0 || spent < part(l.Max, percent) {
			continue
		}
		key := book.ThresholdKey{Tenant: t.ID, Limit: l, Start: balance.Start.UTC(), Percent: percent}
		known := b.Reported[key] || slices.ContainsFunc(b.met, func(m *book.Threshold) bool { return m.ThresholdKey == key })
		if !known {
			b.met = append(b.met, &book.Threshold{ThresholdKey: key, Whose: named(t), Balance: *balance, At: b.Now})
		}
	}
}

// part returns so many per cent of an amount, rounded up.
func part(amount, percent int64) int64 {
	return amount/100*percent + (amount%100*percent+99)/100
}
