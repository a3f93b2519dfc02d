package lane

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

const (
	// maxReported bounds the memory of thresholds that are on the books; beyond, they are tried again.
	maxReported = 10_000

	// maxRefusals bounds the refusals that wait for a batch of their tenant to ride with; beyond, they are written at once.
	maxRefusals = 4096

	// refusedTenants is how many tenants' refusals are written in one transaction, and refusedAgain how long the lane waits
	// before it tries those again whose tenant somebody else had locked.
	refusedTenants = 256
	refusedAgain   = 5 * time.Second
)

// attempt runs one transaction. It reports whether it came as far as to write.
func (l *lane) attempt(batch []*Task, noWait bool) (outcomes []decide.Outcome, decided bool, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, batchTimeout)
	defer cancel()
	if l.ran != nil {
		began := time.Now()
		defer func() { l.ran(len(batch), time.Since(began), err) }()
	}
	ops := make([]*decide.Op, len(batch))
	for i, t := range batch {
		t.locate()
		ops[i] = &t.op
	}
	var (
		ridden []book.HourKey
		met    []*book.Threshold
	)
	want := wanted(batch, noWait)
	want.Missing = func(s *book.State) []book.Sum { return decide.Missing(l.decide, s) }
	rehearsed := false
	if l.doubts.some.Load() {
		want.Rehearse = func(s *book.State) book.Effects {
			effects := l.rehearsal(s, ops, outcomes)
			rehearsed = !effects.Empty()
			return effects
		}
	}
	err = l.session.Batch(ctx, want, func(s *book.State) book.Effects {
		var effects book.Effects
		s.Reported = l.reported
		l.rooted.Store(s.Tenants[book.Root] != nil || s.Busy[book.Root])
		outcomes, effects = l.memory.Batch(l.decide, s, ops)
		if effects.Empty() {
			l.remember(effects.Hours)
			return effects
		}
		decided, met = true, effects.Thresholds
		for key, n := range l.refusals {
			if s.Tenants[key.Tenant] != nil {
				sum := effects.Hours[key]
				sum.Refusals += n
				effects.Hours[key] = sum
				ridden = append(ridden, key)
			}
		}
		return effects
	})
	if err == nil {
		l.forget(ridden)
		if len(l.reported)+len(met) > maxReported {
			clear(l.reported)
		}
		for _, t := range met {
			l.reported[t.ThresholdKey] = true
		}
		if rehearsed || decided && want.Rehearse != nil && slices.ContainsFunc(outcomes, books) {
			l.doubts.general.Store(false)
		}
	}
	return outcomes, decided, err
}

// remember keeps the counts of refusals for a batch that writes anyway, or until they are written by themselves.
func (l *lane) remember(hours map[book.HourKey]book.HourSum) {
	for key, sum := range hours {
		if _, ok := l.refusals[key]; ok || len(l.refusals) < maxRefusals {
			l.refusals[key] += sum.Refusals
		}
	}
	switch {
	case len(l.refusals) >= maxRefusals:
		l.refusedAt = time.Now()
	case len(l.refusals) > 0 && l.refusedAt.IsZero():
		l.refusedAt = time.Now().Add(l.refusedWait)
	}
}

// forget drops counts of refusals that are written.
func (l *lane) forget(keys []book.HourKey) {
	for _, key := range keys {
		delete(l.refusals, key)
	}
	if len(l.refusals) == 0 {
		l.refusedAt = time.Time{}
	}
}

// writeRefusals writes the refusals that no batch has taken along. Those of tenants that are gone are forgotten.
func (l *lane) writeRefusals() {
	if len(l.refusals) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, batchTimeout)
	defer cancel()
	ids := map[book.ID]bool{}
	for key := range l.refusals {
		ids[key.Tenant] = true
	}
	busy := false
	for some := range slices.Chunk(slices.Collect(maps.Keys(ids)), refusedTenants) {
		var over []book.HourKey
		err := l.session.Batch(ctx, &book.Want{Tenants: some, NoWait: true}, func(s *book.State) book.Effects {
			effects := book.Effects{Hours: map[book.HourKey]book.HourSum{}}
			for key, n := range l.refusals {
				switch {
				case s.Tenants[key.Tenant] != nil:
					effects.Hours[key] = book.HourSum{Refusals: n}
				case s.Busy[key.Tenant] || !slices.Contains(some, key.Tenant):
					continue
				}
				over = append(over, key)
			}
			effects.Refused = len(effects.Hours) > 0
			return effects
		})
		if err != nil {
			busy = true
			break
		}
		l.forget(over)
	}
	if len(l.refusals) > 0 {
		l.refusedAt = time.Now().Add(refusedAgain)
		if busy && l.ctx.Err() == nil {
			l.log.Debug("tenant: refusals could not be written yet", "kinds", len(l.refusals))
		}
	}
}

// books reports whether an outcome is of a call that was entered into all of the books.
func books(out decide.Outcome) bool {
	return out.Code == decide.Settled || out.Code == decide.Corrected || out.Code == decide.Expired
}

func wanted(batch []*Task, noWait bool) *book.Want {
	w := &book.Want{NoWait: noWait}
	keys, ids := make(map[string]bool, len(batch)), make(map[book.ID]bool, len(batch))
	for _, t := range batch {
		e := &t.op.Exec
		if t.op.ByKey() {
			if !keys[t.op.Key] {
				keys[t.op.Key] = true
				w.Keys = append(w.Keys, t.op.Key)
			}
		} else if !ids[e.Tenant] {
			ids[e.Tenant] = true
			w.Tenants = append(w.Tenants, e.Tenant)
		}
		for _, id := range e.Ancestors { // as they were at its admission, whoever stands there now
			if !ids[id] {
				ids[id] = true
				w.Tenants = append(w.Tenants, id)
			}
		}
		if t.frees() || t.did != 0 {
			w.Executions = append(w.Executions, book.ExecutionKey{Tenant: e.Tenant, ID: e.ID})
		}
		if e.IdempotencyKey != "" && t.op.Kind != decide.Release && t.op.Kind != decide.Expire {
			use := book.IdempotencyUse{IdempotencyKey: book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}}
			if t.op.ByKey() {
				use.TenantKey = t.op.Key
			}
			w.Idempotent = append(w.Idempotent, use)
		}
		if t.op.Kind == decide.Expire {
			w.Processes = append(w.Processes, e.Process)
		}
	}
	return w
}
