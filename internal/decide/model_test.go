package decide_test

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

// model is the ledger as one would write it without a thought for speed: it keeps nothing but the list of executions,
// and adds them up again whenever it wants to know something.
type model struct {
	t          require.TestingT
	db         *database // only the clock and the settings are read
	zone       *time.Location
	executions []*book.Execution

	// entered says for every scope that is counted when its present window was entered; zero: never.
	entered map[book.ID]map[book.Scope]time.Time

	// free counts the grants that needed nothing of a limit which had no room.
	free int
}

// answer is what the model says of an operation.
type answer struct {
	code   decide.Code
	output int64
	exec   book.ID
}

// place is a metric in a scope of a tenant: where reserves stand in line.
type place struct {
	tenant book.ID
	scope  book.Scope
	metric book.Metric
}

func newModel(t require.TestingT, db *database) *model {
	return &model{t: t, db: db, zone: db.config.Zone(""), entered: map[book.ID]map[book.Scope]time.Time{}}
}

func (m *model) scopes(tenant book.ID) map[book.Scope]time.Time {
	if m.entered[tenant] == nil {
		m.entered[tenant] = map[book.Scope]time.Time{}
		for _, s := range book.Standing {
			m.entered[tenant][s] = time.Time{}
		}
	}
	return m.entered[tenant]
}

func (m *model) window(s book.Scope, entered time.Time) (start, end time.Time) {
	if entered.IsZero() {
		return start, end
	}
	return period.Bounds(s.Window, entered, m.zone, m.db.config.WeekStart)
}

// chain is a tenant and all above it; nil where one of them is busy.
func (m *model) chain(t *book.Tenant) []*book.Tenant {
	chain := []*book.Tenant{t}
	for {
		last := chain[len(chain)-1]
		parent := last.Parent
		if _, rooted := m.db.tenants[book.Root]; rooted && parent == (book.ID{}) && last.ID != book.Root {
			parent = book.Root
		}
		if parent == (book.ID{}) {
			return chain
		}
		if m.db.busy[parent] {
			return nil
		}
		chain = append(chain, m.db.tenants[parent])
	}
}

// time is the clock, or the start of the latest window that was entered.
func (m *model) time(chain ...*book.Tenant) time.Time {
	now := m.db.now
	for _, t := range chain {
		for s, entered := range m.scopes(t.ID) {
			if start, _ := m.window(s, entered); start.After(now) {
				now = start
			}
		}
	}
	return now
}

// count has the scopes of all limits counted from now on, or from the latest call on.
func (m *model) count(t *book.Tenant) {
	for _, l := range decide.Effective(t, &m.db.defaults, m.db.now) {
		if _, ok := m.scopes(t.ID)[l.Scope]; ok {
			continue
		}
		now := m.time(t)
		for _, e := range m.executions {
			if counts(e, t.ID) && e.Status != book.Cancelled && e.AdmittedAt.After(now) {
				now = e.AdmittedAt
			}
		}
		m.scopes(t.ID)[l.Scope] = now
	}
}

// enter enters the windows of the present.
func (m *model) enter(chain []*book.Tenant) time.Time {
	now := m.time(chain...)
	for _, t := range chain {
		scopes := m.scopes(t.ID)
		for s, entered := range scopes {
			if _, end := m.window(s, entered); entered.IsZero() || !now.Before(end) {
				scopes[s] = now
			}
		}
	}
	return now
}

// used adds up the executions in the present window of a scope.
func (m *model) used(tenant book.ID, s book.Scope) (spent, held book.Amount) {
	entered := m.scopes(tenant)[s]
	start, end := m.window(s, entered)
	for _, e := range m.executions {
		inside := s.Window == period.Total || (!entered.IsZero() && !e.AdmittedAt.Before(start) && e.AdmittedAt.Before(end))
		if !counts(e, tenant) || !inside || !s.Covers(e.Agent, e.Model) {
			continue
		}
		if e.Status == book.Running {
			held = held.Plus(e.Held)
		} else {
			spent = spent.Plus(e.Charged)
		}
	}
	return spent, held
}

// atCost reports whether the limits of cost of a tenant count what providers bill.
func (m *model) atCost(t *book.Tenant) bool {
	if t.Counts != "" {
		return t.Counts == book.CountsCost
	}
	return m.db.defaults.Counts == book.CountsCost
}

func (m *model) find(op *decide.Op) (*book.Tenant, decide.Code) {
	for tenant, t := range m.db.tenants {
		if (op.ByKey() && t.Key != op.Key) || (!op.ByKey() && tenant != op.Exec.Tenant) {
			continue
		}
		switch {
		case m.db.busy[tenant]:
			return nil, decide.Busy
		case op.OwnerType != "" && (op.OwnerType != t.OwnerType || op.OwnerID != t.OwnerID):
			return nil, decide.WrongOwner
		}
		return t, decide.Granted
	}
	return nil, decide.Unknown
}

func (m *model) execution(tenant, id book.ID) *book.Execution {
	for _, e := range m.executions {
		if e.Tenant == tenant && e.ID == id {
			return e
		}
	}
	return nil
}

func (m *model) holder(tenant book.ID, key string) *book.Execution {
	for _, e := range m.executions {
		if key != "" && e.Tenant == tenant && e.IdempotencyKey == key && live(e) {
			return e
		}
	}
	return nil
}

func needs(op *decide.Op, output int64) book.Amount {
	return book.Amount{
		Cost: op.Base.Cost + money.Ceil(output, op.OutCost), Charge: op.Base.Charge + money.Ceil(output, op.OutCharge),
		Tokens: op.Base.Tokens + output, Calls: 1,
	}
}

// batch carries out operations one after the other, and holds each outcome to its justification by the sums at that
// moment.
func (m *model) batch(ops []*decide.Op, outcomes []decide.Outcome) []answer {
	for tenant, t := range m.db.tenants {
		if !m.db.busy[tenant] {
			m.count(t)
		}
	}
	waiting := map[place]bool{}
	answers := make([]answer, len(ops))
	for i, op := range ops {
		t, code := m.find(op)
		if t == nil {
			answers[i] = answer{code: code}
			continue
		}
		op.Exec.Tenant = t.ID
		switch op.Kind {
		case decide.Reserve:
			answers[i] = m.reserve(t, op, ops[i+1:], waiting, &outcomes[i])
		case decide.Record:
			answers[i] = m.record(t, op)
		case decide.Settle:
			answers[i] = m.settle(t, op)
		case decide.Release:
			answers[i] = m.release(t, op)
		case decide.Expire:
			answers[i] = m.expire(op)
		case decide.Correct:
			answers[i] = m.correct(op)
		}
	}
	return answers
}

// known answers what was done before.
func (m *model) known(op *decide.Op) (answer, bool) {
	if e := m.execution(op.Exec.Tenant, op.Exec.ID); e != nil {
		code := decide.AlreadySettled
		switch e.Status {
		case book.Running:
			return answer{decide.Granted, e.Held.Tokens - op.Base.Tokens, e.ID}, true
		case book.Cancelled:
			code = decide.AlreadyReleased
		}
		return answer{code: code, exec: e.ID}, true
	}
	if e := m.holder(op.Exec.Tenant, op.Exec.IdempotencyKey); e != nil {
		return answer{code: decide.Duplicate, exec: e.ID}, true
	}
	return answer{}, false
}

// bound is a limit that a call is held to, and whose it is.
type bound struct {
	tenant book.ID
	book.Limit
}

func (l *bound) place() place { return place{l.tenant, l.Scope, l.Metric} }

// free reports whether a limit that allows something is asked for nothing.
func (l *bound) free(least book.Amount) bool { return l.Of(least) == 0 && l.Max != 0 }

func (m *model) reserve(t *book.Tenant, op *decide.Op, behind []*decide.Op, waiting map[place]bool, out *decide.Outcome) answer {
	if a, ok := m.known(op); ok {
		return a
	}
	chain := m.chain(t)
	if chain == nil {
		return answer{code: decide.Busy}
	}
	for _, t := range chain {
		if t.Suspended || t.Deleted {
			return answer{code: decide.Suspended}
		}
	}
	now := m.enter(chain)
	var limits []bound
	for _, t := range chain {
		if decide.Enforcement(t, &m.db.defaults) != book.Hard {
			continue
		}
		for _, l := range decide.Effective(t, &m.db.defaults, now) {
			require.Equal(m.t, l.Metric == book.Cost && m.atCost(t), l.AtCost, "what the limit %+v counts", l)
			if l.Covers(op.Exec.Agent, op.Exec.Model) {
				limits = append(limits, bound{t.ID, l})
			}
		}
	}
	m.justify(op, limits, waiting, out)

	least := needs(op, op.MinOutput)
	var blocked []place
	for _, l := range limits {
		if l.Metric == book.Cost && op.Exec.Unpriced {
			return answer{code: decide.NoPrice}
		}
		spent, held := m.used(l.tenant, l.Scope)
		if l.free(least) {
			continue
		}
		if l.Max == 0 || l.Of(spent)+l.Of(least) > l.Max {
			return answer{code: decide.Exceeded}
		}
		if p := l.place(); waiting[p] || l.Of(spent)+l.Of(held)+l.Of(least) > l.Max {
			blocked = append(blocked, p)
		}
	}
	for _, p := range blocked {
		waiting[p] = waiting[p] || op.Patient
	}
	if len(blocked) > 0 {
		return answer{code: decide.Wait}
	}

	// The longest output that is no more than its share of the room of every limit that it needs anything of, but the least
	// in any case; and of what others wait for, nothing.
	output := op.MaxOutput
	for ; output > op.MinOutput; output-- {
		fits := true
		for _, l := range limits {
			spent, held := m.used(l.tenant, l.Scope)
			share := (l.Max - l.Of(spent) - l.Of(held)) / (m.line(l, behind) + 1)
			if waiting[l.place()] || share < 0 {
				share = 0
			}
			// What output does not cost, a share does not shorten.
			if l.Metric == book.Calls || (l.Metric == book.Cost && (l.AtCost && op.OutCost == 0 || !l.AtCost && op.OutCharge == 0)) {
				continue
			}
			fits = fits && l.Of(needs(op, output)) <= share
		}
		if fits {
			break
		}
	}
	e := op.Exec
	e.Status, e.AdmittedAt, e.DeadlineAt, e.Held = book.Running, now, now.Add(op.Lifetime), needs(op, output)
	e.Ancestors = parents(chain)
	m.executions = append(m.executions, &e)
	return answer{decide.Granted, output, e.ID}
}

func parents(chain []*book.Tenant) (ids []book.ID) {
	for _, t := range chain[1:] {
		ids = append(ids, t.ID)
	}
	return ids
}

// line counts the reserves that a limit covers.
func (m *model) line(l bound, ops []*decide.Op) (n int64) {
	for _, op := range ops {
		t, _ := m.find(op)
		if op.Kind != decide.Reserve || t == nil || !l.Covers(op.Exec.Agent, op.Exec.Model) || l.Of(needs(op, op.MaxOutput)) == 0 {
			continue
		}
		for _, above := range m.chain(t) {
			if above.ID == l.tenant {
				n++
			}
		}
	}
	return n
}

func (m *model) record(t *book.Tenant, op *decide.Op) answer {
	if a, ok := m.known(op); ok {
		return a
	}
	return m.book(t, op)
}

func (m *model) book(t *book.Tenant, op *decide.Op) answer {
	chain := m.chain(t)
	if chain == nil {
		return answer{code: decide.Busy}
	}
	e := op.Exec
	if now := m.enter(chain); e.AdmittedAt.IsZero() || e.AdmittedAt.After(now) {
		e.AdmittedAt = now
	}
	if m.holder(t.ID, e.IdempotencyKey) != nil {
		e.IdempotencyKey = ""
	}
	e.Held, e.DeadlineAt, e.SettledAt, e.Ancestors = book.Amount{}, e.AdmittedAt, m.db.now, parents(chain)
	m.executions = append(m.executions, &e)
	return answer{code: decide.Settled, exec: e.ID}
}

func (m *model) correct(op *decide.Op) answer {
	if a, ok := m.known(op); ok {
		return a
	}
	e := op.Exec
	if m.moved(&e) {
		return answer{code: decide.Busy}
	}
	e.Status, e.SettledAt, e.DeadlineAt = book.Adjusted, m.db.now, e.AdmittedAt
	m.executions = append(m.executions, &e)
	return answer{code: decide.Settled, exec: e.ID}
}

// moved reports whether an execution counts for a tenant that is busy.
func (m *model) moved(e *book.Execution) bool {
	return slices.ContainsFunc(e.Ancestors, func(id book.ID) bool { return m.db.busy[id] })
}

func (m *model) settle(t *book.Tenant, op *decide.Op) answer {
	e := m.execution(t.ID, op.Exec.ID)
	if e == nil {
		return m.book(t, op)
	}
	code := decide.Settled
	switch {
	case e.Status == book.Running:
	case e.Status == book.Abandoned && e.SettledAt.IsZero():
		code = decide.Corrected
	case e.Status == book.Cancelled:
		return answer{code: decide.AlreadyReleased, exec: e.ID}
	default:
		return answer{code: decide.AlreadySettled, exec: e.ID}
	}
	if m.moved(e) {
		return answer{code: decide.Moved, exec: e.ID}
	}
	if e.Status == book.Running {
		e.Status = op.Exec.Status
	}
	e.Charged, e.BilledModel, e.SettledAt = op.Exec.Charged, op.Exec.BilledModel, m.db.now
	return answer{code: code, exec: e.ID}
}

func (m *model) release(t *book.Tenant, op *decide.Op) answer {
	e := m.execution(t.ID, op.Exec.ID)
	switch {
	case e == nil:
		e := op.Exec
		e.Status, e.AdmittedAt = book.Cancelled, m.time(t)
		e.DeadlineAt = e.AdmittedAt
		m.executions = append(m.executions, &e)
		return answer{code: decide.Released, exec: e.ID}
	case e.Status == book.Running && m.moved(e):
		return answer{code: decide.Moved, exec: e.ID}
	case e.Status == book.Running:
		e.Status = book.Cancelled
		return answer{code: decide.Released, exec: e.ID}
	case e.Status == book.Cancelled:
		return answer{code: decide.AlreadyReleased, exec: e.ID}
	}
	return answer{code: decide.AlreadySettled, exec: e.ID}
}

func (m *model) expire(op *decide.Op) answer {
	e := m.execution(op.Exec.Tenant, op.Exec.ID)
	if e == nil {
		return answer{code: decide.Alive}
	}
	beat, now := m.db.processes[e.Process].BeatAt, m.db.now
	if e.Status != book.Running || (now.Before(e.DeadlineAt) && !beat.IsZero() && !beat.Equal(op.LastBeat)) {
		return answer{code: decide.Alive, exec: e.ID}
	}
	if m.moved(e) {
		return answer{code: decide.Moved, exec: e.ID}
	}
	e.Status, e.Charged = book.Abandoned, e.Held
	return answer{code: decide.Expired, exec: e.ID}
}
