package main

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The kinds of trouble, as they are counted.
const (
	kills      = "workers killed"
	stops      = "workers stopped for longer than their lease"
	restarts   = "immediate restarts of Postgres"
	pooled     = "immediate restarts of Postgres behind a pgpool-II"
	breaks     = "connections broken"
	sittings   = "host transactions that sat on a tenant's balances"
	raises     = "limits raised"
	cuts       = "limits cut"
	ambiguous  = "limit changes with no answer"
	toEve      = "jumps of the database's clock to the end of a month"
	byDay      = "jumps of the database's clock by more than a day"
	turned     = "times that the database's clock went back by hours"
	toChange   = "jumps of the database's clock to a change of the zone's clocks"
	injected   = "statements that were made to fail"
	unanswered = "requests that were carried out and not answered"
	led        = "logins that were led to a database that there is not"
	pgpooled   = "sessions that were ended in the words of pgpool-II"
	byHours    = "jumps of the database's clock by hours"
)

// trouble makes all kinds of trouble until ctx ends.
func (r *runner) trouble(ctx context.Context) {
	start := func(stream uint64, least, most time.Duration, make func(context.Context, *rand.Rand)) {
		rng := rand.New(rand.NewPCG(r.Seed, stream))
		r.troubles.Go(func() {
			for wait(ctx, least+time.Duration(rng.Int64N(int64(most-least)))) {
				make(ctx, rng)
			}
		})
	}
	if r.Jump > 0 {
		r.troubles.Go(func() { r.passTime(ctx) })
	}
	start(1, 400*time.Millisecond, time.Second, r.kill)
	for stream := range uint64(3) {
		start(11+stream, 100*time.Millisecond, 500*time.Millisecond, r.stop)
	}
	start(3, 500*time.Millisecond, 1500*time.Millisecond, r.breakConnections)
	start(4, 200*time.Millisecond, 1500*time.Millisecond, r.sit)
	start(2, 200*time.Millisecond, 500*time.Millisecond, r.audit)
	if r.Places > 0 {
		start(24, 100*time.Millisecond, 400*time.Millisecond, r.move)
	}
	start(5, 50*time.Millisecond, 300*time.Millisecond, r.changeLimits)
	if r.Restart != nil {
		start(6, 3*time.Second, 6*time.Second, r.restart)
	}
	if r.Faults {
		r.troubles.Go(func() { r.fail(ctx) })
		if r.Restart != nil {
			start(23, 6*time.Second, 12*time.Second, r.full)
		}
	}
}

// kill kills a worker. Its slot starts another at once.
func (r *runner) kill(_ context.Context, rng *rand.Rand) {
	if r.workers[rng.IntN(len(r.workers))].kill() {
		r.tally.add(kills)
	}
}

// stop stops a worker that has calls for longer than its lease, sometimes for longer than its calls may last, until the
// others have ended them. It lets nobody kill the worker before, nor for a while afterwards, so that it settles them late.
func (r *runner) stop(ctx context.Context, rng *rand.Rand) {
	s := r.workers[rng.IntN(len(r.workers))]
	d := 2*lease + time.Duration(rng.Int64N(int64(2*lease)))
	if !r.mayFail() {
		return
	}
	defer r.calm.RUnlock()
	if !s.protect() {
		return
	}
	defer s.expose()
	for range 20 { // it may have none for long, and somebody may want calm
		if len(s.open()) > 0 || !wait(ctx, 50*time.Millisecond) {
			break
		}
	}
	if len(s.open()) == 0 || !wait(ctx, time.Duration(rng.Int64N(int64(lease/4)))) || !s.send(syscall.SIGSTOP) {
		return
	}
	open := s.open()
	r.stopped(open)
	began := time.Now()
	until(ctx, func() bool { return r.hush.Load() || time.Since(began) >= d })
	whole := until(ctx, func() bool {
		if r.hush.Load() {
			return true
		}
		var running int64
		err := r.rows.WithContext(ctx).Raw("SELECT count(*) FROM llm_executions WHERE CAST(id AS text) IN ? AND status = 'running'", open).Scan(&running).Error
		return err == nil && running == 0
	})
	if s.send(syscall.SIGCONT) && whole && !r.hush.Load() {
		r.tally.add(stops)
	}
	awake := time.Now()
	until(ctx, func() bool { return r.hush.Load() || time.Since(awake) >= 2*lease })
}

// until reports false if ctx ends before something is so.
func until(ctx context.Context, so func() bool) bool {
	for !so() {
		if !wait(ctx, 50*time.Millisecond) {
			return false
		}
	}
	return true
}

// restart loses all sessions, and what was not committed, as a loss of power does. Every other time the workers are told
// of it as pgpool-II does.
func (r *runner) restart(ctx context.Context, rng *rand.Rand) {
	if !r.mayFail() {
		return
	}
	defer r.calm.RUnlock()
	r.server.Lock()
	defer r.server.Unlock()
	if rng.IntN(2) == 0 && r.Faults {
		r.proxy.do(harm{pgpool: true})
		defer func() {
			wait(ctx, 200*time.Millisecond)
			r.proxy.do(harm{})
		}()
		defer r.tally.add(pooled)
	}
	// It is not to end half way: those who check need the server.
	if err := r.Restart(context.WithoutCancel(ctx)); err != nil {
		r.fatal(err)
		return
	}
	r.tally.add(restarts)
}

// session opens a connection of the host's. An error may be another trouble's doing.
func (r *runner) session(ctx context.Context, use func(*pgx.Conn) error) error {
	return r.at(ctx, r.URL, use)
}

func (*runner) at(ctx context.Context, url string, use func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return use(conn)
}

// breakConnections ends the sessions of some backends.
func (r *runner) breakConnections(ctx context.Context, rng *rand.Rand) {
	if !r.mayFail() {
		return
	}
	defer r.calm.RUnlock()
	all := r.servers()
	_ = r.at(ctx, all[rng.IntN(len(all))], func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY backend_start, pid`)
		if err != nil {
			return err
		}
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil {
			return err
		}
		for range min(len(pids), 1+rng.IntN(3)) {
			var ended bool
			if err := conn.QueryRow(ctx, "SELECT pg_terminate_backend(CAST($1 AS integer))", pids[rng.IntN(len(pids))]).Scan(&ended); err != nil {
				return err
			}
			if ended {
				r.tally.add(breaks)
			}
		}
		return nil
	})
}

// sit locks all balances of a tenant for a while, as a host's transaction may.
func (r *runner) sit(ctx context.Context, rng *rand.Rand) {
	key := hot
	if rng.IntN(3) > 0 {
		key = cold(rng.IntN(r.Cold))
	}
	d := time.Duration(rng.Int64N(int64(2 * time.Second)))
	_ = r.session(ctx, func(conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		var id string
		if err := tx.QueryRow(ctx, `SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = $1`, key).Scan(&id); err != nil {
			return err
		}
		for _, place := range r.schemas() {
			if _, err := tx.Exec(ctx, `SELECT 1 FROM `+place+`llm_balances b WHERE b.tenant = CAST($1 AS uuid) ORDER BY b.window_unit FOR UPDATE`, id); err != nil {
				return err
			}
		}
		r.tally.add(sittings)
		wait(ctx, d)
		return tx.Rollback(context.WithoutCancel(ctx))
	})
}

// changeLimits raises or cuts limits of a tenant.
func (r *runner) changeLimits(ctx context.Context, rng *rand.Rand) {
	key, amounts, err := r.limits.next(ctx, rng, r.Cold)
	if err != nil {
		return // the server is being restarted
	}
	var whats []string
	for of, amount := range amounts {
		if amount < r.limits.last(key, of) {
			whats = append(whats, cuts)
		} else {
			whats = append(whats, raises)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if r.limits.configure(ctx, key, amounts) != nil {
		whats = []string{ambiguous}
	}
	for _, what := range whats {
		r.tally.add(what)
	}
}
