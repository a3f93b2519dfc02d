package tenant_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// event is the beginning or the end of one operation on a budget. Money is in cents, and times are of the clock that all
// processes of a machine share.
type event struct {
	Op     int    // identifies the operation
	Kind   string // reserve, end (settle or release), undo, or read
	Hold   int    // the Op of the reserve that an end ends, or an undo may undo
	Cost   int64  // what a reserve holds, and its end drops
	Charge int64  // what an end charges
	Result string // of the end of an operation; see legal
	Spent  int64  // what a read saw
	Held   int64
	Time   int64
}

const budgetCents = 100

// books is a budget, and which of the reserves stand whose outcome nobody knows.
type books struct {
	spent, held int64
	maybe       string // their Ops in order, each followed by a comma
}

// legal is the sequential specification of a budget: the states in which it may be after an operation with this result.
func legal(s books, e event) []books {
	fits := s.spent+s.held+e.Cost <= budgetCents
	switch e.Kind + " " + e.Result {
	case "reserve ok":
		if fits {
			return []books{{s.spent, s.held + e.Cost, s.maybe}}
		}
	case "reserve contended":
		if !fits && s.spent+e.Cost <= budgetCents {
			return []books{s}
		}
	case "reserve exceeded":
		if s.spent+e.Cost > budgetCents {
			return []books{s}
		}
	case "reserve unknown":
		if fits {
			return []books{s, {s.spent, s.held + e.Cost, with(s.maybe, e.Op)}}
		}
		return []books{s}
	case "undo unknown": // whoever has no answer to a reserve takes it back, and never says when
		if rest, ok := without(s.maybe, e.Hold); ok {
			return []books{s, {s.spent, s.held - e.Cost, rest}}
		}
		return []books{s}
	case "end ok":
		return []books{{s.spent + e.Charge, s.held - e.Cost, s.maybe}}
	case "end unknown":
		return []books{s, {s.spent + e.Charge, s.held - e.Cost, s.maybe}}
	case "read ok":
		if s.spent == e.Spent && s.held == e.Held {
			return []books{s}
		}
	}
	return nil
}

func with(maybe string, op int) string {
	ops := append(split(maybe), op)
	slices.Sort(ops)
	return join(ops)
}

func without(maybe string, op int) (string, bool) {
	ops := split(maybe)
	i := slices.Index(ops, op)
	if i < 0 {
		return "", false
	}
	return join(slices.Delete(ops, i, i+1)), true
}

func split(maybe string) (ops []int) {
	_ = json.Unmarshal([]byte("["+maybe+"]"), &ops)
	return ops
}

func join(ops []int) string {
	text, _ := json.Marshal(ops)
	return string(text[1 : len(text)-1])
}

var specification = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{books{}} },
	Step: func(state, _, output any) []any {
		var states []any
		for _, s := range legal(state.(books), output.(event)) {
			states = append(states, s)
		}
		return states
	},
}).ToModel()

// operations pairs the beginnings and ends of a history. What has no end, or one that says nothing, may take effect at
// any time from its beginning on, or never.
func operations(t *testing.T, history []event) []porcupine.Operation {
	ends := map[int]event{}
	for _, e := range history {
		if e.Result != "" {
			ends[e.Op] = e
		}
	}
	var out []porcupine.Operation
	for _, e := range history {
		if e.Result != "" {
			continue
		}
		end, ok := ends[e.Op]
		if !ok || end.Result == "unknown" {
			end = e
			end.Result, end.Time = "unknown", math.MaxInt64
		}
		require.GreaterOrEqual(t, end.Time, e.Time)
		out = append(out, porcupine.Operation{Call: e.Time, Return: end.Time, Output: end})
		if e.Kind == "reserve" && end.Result == "unknown" {
			undo := event{Op: -e.Op, Kind: "undo", Hold: e.Op, Cost: e.Cost, Result: "unknown"}
			out = append(out, porcupine.Operation{Call: e.Time, Return: math.MaxInt64, Output: undo})
		}
	}
	return out
}

func TestLinearizable_TheCheckItselfCanFail(t *testing.T) {
	t.Parallel()
	begin := func(op int, kind string, cost, at int64) event {
		return event{Op: op, Kind: kind, Cost: cost, Time: at}
	}
	end := func(e event, result string, at int64) event { e.Result, e.Time = result, at; return e }
	a, b, early := begin(1, "reserve", 60, 0), begin(2, "reserve", 60, 20), begin(2, "reserve", 60, 5)
	release, settle := event{Op: 3, Kind: "end", Hold: 1, Cost: 60, Time: 30}, event{Op: 3, Kind: "end", Hold: 1, Cost: 60, Charge: 60, Time: 30}
	read := func(spent, held, at int64) []event {
		e := event{Op: 9, Kind: "read", Spent: spent, Held: held, Time: at}
		return []event{e, end(e, "ok", at+1)}
	}
	for _, c := range []struct {
		name    string
		legal   bool
		history []event
	}{
		{"second is refused", true, []event{a, end(a, "ok", 10), b, end(b, "contended", 25)}},
		{"more is admitted than fits", false, []event{a, end(a, "ok", 10), b, end(b, "ok", 25)}},
		{"refused although it fits", false, []event{a, end(a, "contended", 10)}},
		{"refused by one that began at the same time", true, []event{a, end(a, "ok", 10), early, end(early, "contended", 7)}},
		{"refused by one that came later", false, []event{b, end(b, "ok", 25), a, end(a, "contended", 10)}},
		{"exhausted by what is only held", false, []event{a, end(a, "ok", 10), b, end(b, "exceeded", 25)}},
		{"admitted while room is made", true, []event{a, end(a, "ok", 10), release, b, end(release, "ok", 50), end(b, "ok", 40)}},
		{"admitted before room is made", false, []event{a, end(a, "ok", 10), b, end(b, "ok", 25), release, end(release, "ok", 50)}},
		{"exhausted while it is charged", true, []event{a, end(a, "ok", 10), settle, b, end(settle, "ok", 50), end(b, "exceeded", 40)}},
		{"one without an answer keeps others out", true, []event{a, b, end(b, "contended", 25)}},
		{"one without an answer keeps nobody out", true, []event{a, b, end(b, "ok", 25)}},
		{"one without an answer keeps out those before it", false, []event{b, a, end(a, "contended", 10)}},
		{"two without an answer do not both stand", false, append([]event{a, b}, read(0, 120, 90)...)},
		{"one without an answer is taken back", true, append([]event{a, end(a, "unknown", 10)}, read(0, 0, 90)...)},
		{"what was charged is gone", false, append([]event{a, end(a, "ok", 10), settle, end(settle, "ok", 50)}, read(0, 0, 90)...)},
	} {
		require.Equal(t, c.legal, porcupine.CheckOperations(specification, operations(t, c.history)), c.name)
	}
}

const (
	historyProcesses  = 3
	historyGoroutines = 3
	historyOperations = 8
)

// Histories of several processes on one budget are those of a budget that does one thing after the other.
func TestLinearizable_HistoriesOf3Processes(t *testing.T) {
	t.Parallel()
	overOneAndPlaces(t, func(t *testing.T, dsn string, db *gorm.DB) {
		ledger := openLedger(t, db)
		newOrganization(t, db, ledger, "unused", tenant.WithEnforcement(tenant.Hard), tenant.WithLimits(tenant.Limits{MonthlyCost: tenant.USD("1")}))
		var processes []*peer
		for i := range historyProcesses {
			processes = append(processes, start(t, fmt.Sprintf("history %d", i), dsn))
		}
		for _, p := range processes {
			require.Equal(t, "ready", p.hear(t))
		}
		results := map[string]int{}
		for i, trouble := range []string{"", "", "", "connections", "connections", "connections", "kill"} {
			org := &Organization{Slug: fmt.Sprintf("history-%d", i)}
			require.NoError(t, db.Create(org).Error)
			history := runHistory(t, db, processes, org.Slug, trouble)
			for _, e := range history {
				if e.Result != "" {
					results[trouble+" "+e.Kind+" "+e.Result]++
				}
			}
			switch porcupine.CheckOperationsTimeout(specification, operations(t, history), time.Minute) {
			case porcupine.Illegal:
				for _, e := range history {
					t.Logf("%+v", e)
				}
				require.FailNow(t, "this history is not that of a budget")
			case porcupine.Unknown:
				t.Log("a history was too much to check")
			}
		}
		t.Log(results)
		require.Positive(t, results[" reserve ok"])
		require.Positive(t, results[" reserve contended"])
	})
}

// runHistory lets the processes work on a budget at once, and returns what they and a reader of the rows report.
func runHistory(t *testing.T, db *gorm.DB, processes []*peer, slug, trouble string) []event {
	var (
		mu      sync.Mutex
		history []event
		wg      sync.WaitGroup
	)
	note := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		history = append(history, e)
	}
	op := 0
	read := func() {
		op++
		e := event{Op: op, Kind: "read", Time: clock(t)}
		note(e)
		b := balanceOf(t, db, slug, "total")
		e.Result, e.Spent, e.Held, e.Time = "ok", b.SpentCost/1e7, b.HeldCost/1e7, clock(t)
		note(e)
	}
	killAfter := historyGoroutines * historyOperations / 2
	// The reads, and what goes wrong with the connections, are spread over the history.
	const reads, between = 4, 20
	progress := make(chan struct{}, historyProcesses*historyGoroutines*historyOperations*4)
	for i, p := range processes {
		p.tell(t, slug)
		wg.Go(func() {
			for n := 0; p.out.Scan(); n++ {
				if p.out.Text() == said+"done" {
					return
				}
				var e event
				if err := json.Unmarshal(p.out.Bytes()[len(said):], &e); err != nil {
					t.Errorf("%s: %v", p.out.Text(), err)
				}
				note(e)
				progress <- struct{}{}
				if trouble == "kill" && i == 0 && n == killAfter {
					_ = p.cmd.Process.Kill()
				}
			}
			if trouble != "kill" || i != 0 {
				t.Errorf("process %d ended: %v", i, p.out.Err())
			}
		})
	}
	for range reads {
		for range between {
			<-progress
		}
		read()
		if trouble == "connections" {
			breakSessions(t, db)
		}
	}
	wg.Wait()
	read()
	return history
}

// recordHistory makes operations on the budgets that it is told, and says what it does.
func recordHistory(t *testing.T, db *gorm.DB, args []string) {
	process, err := strconv.Atoi(args[0])
	require.NoError(t, err)
	ledger := openLedger(t, db, tenant.WithLease(time.Hour))
	_, err = ledger.Record(t.Context(), tenant.ID("nobody"), tenant.Actual{}) // it is connected
	require.NoError(t, err)
	say("ready")
	for slug := range commands() {
		var wg sync.WaitGroup
		for g := range historyGoroutines {
			wg.Go(func() { perform(t, ledger, tenant.ID(slug), (process*historyGoroutines+g+1)*1000) })
		}
		wg.Wait()
		say("done")
	}
}

// perform makes one goroutine's operations, numbered from first on.
func perform(t *testing.T, ledger *tenant.Ledger, org tenant.ID, first int) {
	type held struct {
		hold *tenant.Hold
		of   event
	}
	report := func(e event) {
		line, err := json.Marshal(e)
		require.NoError(t, err)
		say("%s", line)
	}
	var holds []held
	end := func(e event) {
		h := holds[0]
		holds = holds[1:]
		e.Kind, e.Hold, e.Cost = "end", h.of.Op, h.of.Cost
		release := rand.IntN(3) == 0
		if !release {
			e.Charge = h.of.Cost / int64(1+rand.IntN(2))
		}
		e.Time = clock(t)
		report(e)
		var s tenant.Settlement
		var err error
		if release {
			s, err = ledger.Release(t.Context(), h.hold)
		} else {
			s, err = ledger.Settle(t.Context(), h.hold, tenant.Actual{Cost: tenant.USD(fmt.Sprintf("0.%02d", e.Charge))})
		}
		e.Time = clock(t)
		switch {
		case err == nil && (s.Outcome == tenant.Settled || s.Outcome == tenant.Released):
			e.Result = "ok"
		case err == nil && s.Outcome == tenant.Pending:
			e.Result = "unknown"
		default:
			e.Result = fmt.Sprintf("%s, %v", s.Outcome, err)
		}
		report(e)
	}
	for i := range historyOperations {
		e := event{Op: first + i}
		if len(holds) > 0 && rand.IntN(2) == 0 {
			end(e)
			continue
		}
		e.Kind, e.Cost = "reserve", 2*(2+rand.Int64N(14))
		e.Time = clock(t)
		report(e)
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD(fmt.Sprintf("0.%02d", e.Cost))}, tenant.WithWait(0))
		e.Time = clock(t)
		var exceeded *tenant.BudgetExceededError
		switch {
		case err == nil:
			e.Result = "ok"
			holds = append(holds, held{hold, e})
		case errors.As(err, &exceeded) && exceeded.Contended:
			e.Result = "contended"
		case exceeded != nil:
			e.Result = "exceeded"
		case errors.Is(err, tenant.ErrUnavailable):
			e.Result = "unknown"
		default:
			e.Result = err.Error()
		}
		report(e)
	}
	for i := 0; len(holds) > 0; i++ {
		end(event{Op: first + historyOperations + i})
	}
}

// clock reads the clock that the processes of a machine have in common and that nobody sets.
func clock(t *testing.T) int64 {
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}
