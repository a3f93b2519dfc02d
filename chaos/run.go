package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
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
	Places              int // see WithPlaces

	RestartNode string // the command that kills a node of Citus and starts it again

	Faults bool // of the database: it refuses logins, statements fail, tables are gone

	Apart time.Duration // how far a process's clock may be from the database's
	Jump  time.Duration // about how often the database's clock is put forward; zero: never, it is left alone

	// Patience is how long the end of all calls is waited for.
	Patience time.Duration
}

// farewell is how long a worker may take to end when the run is over: longer than it tries to book what is left, so that
// only a machine without any time for it lets it come to this.
const farewell = closing + 30*time.Second

// runner is a run.
type runner struct {
	config
	dir      string // of the journals
	limits   limits
	ledger   *tenant.Ledger // of the run itself
	rows     *gorm.DB       // which finds the rows of all places
	audited  []*gorm.DB     // those of one moment
	clock    clock
	tally    tally
	workers  []*slot
	troubles sync.WaitGroup
	abort    context.CancelCauseFunc
	unsound  bool // an audit has found a wrong sum

	proxy  *proxy       // between the workers and the database
	nodes  []*node      // of Citus, that have places
	server sync.Mutex   // held by whoever has the database fail
	calm   sync.RWMutex // held by whoever wants nothing else to go wrong
	hush   atomic.Bool  // somebody is about to want that

	mu          sync.Mutex
	crowded     []stretch // in which no further connection was to be had, and nothing else went wrong
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

	// Places come first: the clock is found before everything else, and tables would be made beside it.
	leave, err := r.findNodes(ctx)
	defer func() { err = errors.Join(err, leave()) }()
	if err != nil {
		return nil, err
	}
	if err := r.makePlaces(ctx); err != nil {
		return nil, err
	}
	if err := r.makeClock(ctx); err != nil {
		return nil, err
	}
	if err := r.makeWorkers(ctx); err != nil {
		return nil, err
	}
	if r.proxy, err = startProxy(r.URL, rand.New(rand.NewPCG(r.Seed, 21)), r.tally.add); err != nil {
		return nil, err
	}
	defer r.proxy.close()
	db, ledger, err := open(r.URL, r.clock.zone.String(), r.Places, time.Now)
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
	r.limits.db, r.ledger = db, ledger
	if r.rows, err = r.openRows(db); err != nil {
		return nil, err
	}
	defer func() {
		for _, rows := range append(r.audited, r.rows) {
			if pool, failed := rows.DB(); failed == nil && rows != db {
				err = errors.Join(err, pool.Close())
			}
		}
	}()
	if r.audited, err = r.openAudited(db); err != nil {
		return nil, err
	}
	r.limits.rows = r.rows
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
	if err := r.quiet(ctx, r.rows); err != nil {
		return nil, err
	}
	journals, err := readJournals(r.dir)
	if err != nil {
		return nil, err
	}
	if err := r.check(ctx, r.rows, ledger, journals); err != nil {
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
//
// The last worker does not end: when all others have, it is killed, and at once the database's clock goes back by hours,
// as in a failover to a server whose clock is slow. What it held is to be ended all the same.
func (r *runner) makeTrouble(ctx context.Context) {
	troubled, cancel := context.WithTimeout(ctx, r.Duration)
	defer cancel()
	lasting, doom := context.WithCancel(ctx)
	defer doom()
	var running, doomed sync.WaitGroup
	for i := range r.Workers {
		s := &slot{runner: r, number: uint64(i), spared: i < r.Workers/3, doomed: r.Faults && r.Jump > 0 && i == r.Workers-1}
		r.workers = append(r.workers, s)
		if s.doomed {
			doomed.Go(func() { s.run(lasting) })
		} else {
			running.Go(func() { s.run(troubled) })
		}
	}
	r.trouble(troubled)
	r.troubles.Wait()
	if err := r.endPrepared(ctx); err != nil {
		r.fatal(err)
	}
	running.Wait()
	if last := r.workers[len(r.workers)-1]; last.doomed {
		waiting, cancel := context.WithTimeout(ctx, r.Patience)
		defer cancel()
		r.makeRoom(waiting)
		until(waiting, func() bool { return len(last.open()) > 0 })
		doom()
		doomed.Wait()
		r.turnBack(ctx, last.open())
	}
}

// makeRoom raises the limits of the hot tenant far above what is spent.
func (r *runner) makeRoom(ctx context.Context) {
	amounts := map[rule]int64{}
	for _, of := range r.limits.of(hot) {
		amounts[of] = r.limits.last(hot, of) + of.calls(10_000)
	}
	for r.limits.configure(ctx, hot, amounts) != nil && wait(ctx, 100*time.Millisecond) {
	}
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

// tail is the end of what a worker has said.
func tail(said []byte) []byte { return said[max(0, len(said)-4000):] }
