package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// config says what to run.
type config struct {
	URL      string                      // of a migrated database, which belongs to the run alone
	Restart  func(context.Context) error // of the database's server, without a shutdown; nil: it is not restarted
	Seed     uint64
	Duration time.Duration // of the trouble

	Workers, Goroutines int // processes, and callers in each
	Cold                int // tenants beside the hot one

	Apart time.Duration // how far a process's clock may be from the database's
	Jump  time.Duration // about how often the database's clock is put forward; zero: never, it is left alone

	// Patience is how long the end of all calls is waited for.
	Patience time.Duration
}

// farewell is how long a worker may take to end when the run is over. It gives up what it cannot book after two seconds,
// so that only a machine without any time for it lets it come to this.
const farewell = 30 * time.Second

// runner is a run.
type runner struct {
	config
	dir      string // of the journals
	limits   limits
	clock    clock
	tally    tally
	workers  []*slot
	troubles sync.WaitGroup
	abort    context.CancelCauseFunc
	unsound  bool // an audit has found a wrong sum

	mu          sync.Mutex
	violations  []string
	wereStopped map[string]bool // executions whose worker was stopped while they ran
}

// fatal ends the run: it proves nothing.
func (r *runner) fatal(err error) { r.abort(err) }

// violation notes a broken promise.
func (r *runner) violation(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// stopped notes executions whose worker stands still.
func (r *runner) stopped(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wereStopped == nil {
		r.wereStopped = map[string]bool{}
	}
	for _, id := range ids {
		r.wereStopped[id] = true
	}
}

// run makes calls and trouble for a time, and returns the promises that were broken. It writes a summary to out. An
// error says that the run could not be made or judged.
func run(ctx context.Context, c config, out io.Writer) (violations []string, err error) {
	r := &runner{config: c}
	if r.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	ctx, r.abort = context.WithCancelCause(ctx)
	defer r.abort(nil)

	if err := r.makeClock(ctx); err != nil {
		return nil, err
	}
	db, ledger, err := open(r.URL, r.clock.zone.String(), time.Now)
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, ledger.Close(closing))
	}()
	r.limits.db = db
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	// A call of this process starts its heartbeat, and with it the sweep: it is the one that nobody kills.
	if err := r.patiently(ctx, func() error { return sweep(ctx, ledger) }); err != nil {
		return nil, err
	}

	r.makeTrouble(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := r.quiet(ctx, db); err != nil {
		return nil, err
	}
	journals, err := readJournals(r.dir)
	if err != nil {
		return nil, err
	}
	if err := r.check(ctx, db, ledger, journals); err != nil {
		return nil, err
	}
	_, err = io.WriteString(out, r.summary(journals))
	return r.violations, err
}

// prepare gives all tenants their first limits.
func (r *runner) prepare(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(r.Seed, 0))
	for i := -1; i < r.Cold; i++ {
		key := hot
		if i >= 0 {
			key = cold(i)
		}
		amounts := first(rng, key)
		if err := r.patiently(ctx, func() error { return r.limits.configure(ctx, key, amounts) }); err != nil {
			return err
		}
	}
	return nil
}

// patiently does again what a machine without time for it fails to do.
func (r *runner) patiently(ctx context.Context, do func() error) error {
	for until := time.Now().Add(r.Patience); ; {
		err := do()
		if err == nil || time.Now().After(until) || !wait(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// sweep makes a call that costs nothing.
func sweep(ctx context.Context, ledger *tenant.Ledger) error {
	hold, err := ledger.Reserve(ctx, tenant.ID("sweeper"), tenant.Estimate{Cost: nano(0)})
	if err != nil {
		return err
	}
	_, err = ledger.Release(ctx, hold)
	return err
}

// makeTrouble runs workers and trouble for the time of the run, and returns when both have ended.
func (r *runner) makeTrouble(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.Duration)
	defer cancel()
	var running sync.WaitGroup
	for i := range r.Workers {
		r.workers = append(r.workers, &slot{runner: r, number: uint64(i)})
	}
	for _, s := range r.workers {
		running.Go(func() { s.run(ctx) })
	}
	r.trouble(ctx)
	r.troubles.Wait()
	running.Wait()
}

// quiet waits until no call runs any more: the living have settled theirs, and those of the others were ended.
func (r *runner) quiet(ctx context.Context, db *gorm.DB) error {
	var running int64
	until := time.Now().Add(r.Patience)
	for {
		err := db.WithContext(ctx).Raw("SELECT count(*) FROM llm_executions WHERE status = 'running'").Scan(&running).Error
		switch {
		case err == nil && running == 0:
			return nil
		case time.Now().After(until) && err != nil:
			return fmt.Errorf("the database is not to be reached after the run: %w", err)
		case time.Now().After(until):
			r.violation("%d calls are still running %v after the last worker has ended", running, r.Patience)
			return nil
		}
		if !wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// summary says what happened, so that one sees whether the run had teeth.
func (r *runner) summary(journals []entry) string {
	told, outcomes, used := map[string]int{}, map[string]int{}, map[string]int{}
	for _, e := range journals {
		told[e.What]++
		switch e.What {
		case settled, released:
			outcomes[e.What+": "+e.Outcome]++
		case exhausted:
			used[e.Tenant+", "+e.Detail]++
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "seed %d, %v, %d processes x %d callers, %d tenants, days of %v\n", r.Seed, r.Duration, r.Workers, r.Goroutines, r.Cold+1, r.clock.zone)
	fmt.Fprintln(&s, "\ncalls, by what the workers were told:")
	for _, what := range []string{held, exhausted, contended, duplicate, ended, away, settled, released, pending, leaked, wrong} {
		fmt.Fprintf(&s, "  %-10s %6d\n", what, told[what])
	}
	for _, what := range sorted(outcomes) {
		fmt.Fprintf(&s, "  %-28s %6d\n", what, outcomes[what])
	}
	fmt.Fprintln(&s, "\nfrom the rows:")
	rows := []string{admissions, overruns, abandoned, corrected, stoppedLate, cancelled, windows, days, months, across, lateAcross, timed, audits}
	for _, what := range rows {
		fmt.Fprintf(&s, "  %-52s %6d\n", what, r.tally.of(what))
	}
	fmt.Fprintf(&s, "  %-52s %6d\n", "limits that were used up", len(used))
	fmt.Fprintln(&s, "\ntrouble:")
	kinds := []string{starts, kills, stops, breaks, sittings, raises, cuts, ambiguous, restarts, toEve, byDay, toChange, byHours}
	for _, what := range kinds {
		fmt.Fprintf(&s, "  %-52s %6d\n", what, r.tally.of(what))
	}
	var missing []string
	for _, what := range append(rows, kinds...) {
		never := what == ambiguous || (what == toChange && r.clock.untilChange(time.Now(), 0) == 0)
		if r.tally.of(what) == 0 && !never {
			missing = append(missing, what)
		}
	}
	for _, what := range []string{held, exhausted, contended, duplicate, ended, settled, released, leaked} {
		if told[what] == 0 {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(&s, "\nNOT TRIED: this run had none of: %s\n", strings.Join(missing, ", "))
	}
	return s.String()
}

func sorted(counts map[string]int) []string {
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// tail is the end of what a worker has said.
func tail(said []byte) []byte { return said[max(0, len(said)-4000):] }
