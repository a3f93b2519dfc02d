package decide

import (
	"slices"

	"github.com/llmtenant/tenant/internal/book"
)

// Batch decides the operations in their order. A reserve that has to wait keeps its place: no later one takes room that
// it waits for.
func Batch(c Config, s *book.State, ops []*Op) ([]Outcome, book.Effects) {
	var m Memory
	return m.Batch(c, s, ops)
}

// Memory is what decisions need beside the state. Each takes that of the one before.
type Memory struct{ batch batch }

// Batch is the function Batch. What it returns is there until the next one, but for executions and thresholds.
func (m *Memory) Batch(c Config, s *book.State, ops []*Op) ([]Outcome, book.Effects) {
	b := &m.batch
	b.begin(c, s, ops)
	b.out = slices.Grow(b.out[:0], len(ops))
	for _, op := range ops {
		b.out = append(b.out, b.decide(op))
	}
	return b.out, b.effects()
}

// named is a tenant as those know it who are told of it after the batch: without its limits and its balances.
func named(t *book.Tenant) *book.Tenant {
	n := *t
	n.Limits, n.TopUps, n.Balances, n.Stored = nil, nil, nil, book.Anchored{}
	return &n
}
