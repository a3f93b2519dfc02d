package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// ownClock gives a database a clock that can be put forward, and back. Whoever has the schema in its search path before Postgres's
// own finds this function where it asks for the time, so that the ledger has to be asked nothing. How far it is ahead is
// a row: it is committed, and so is not lost with the power either, as which a restart counts. The row is
// read by its key, because a ledger's transactions shun whole tables.
const ownClock = `
CREATE SCHEMA chaos;
CREATE TABLE chaos.clock (one boolean PRIMARY KEY CHECK (one), ahead bigint NOT NULL); -- microseconds
INSERT INTO chaos.clock VALUES (true, 0);
CREATE FUNCTION chaos.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE plpgsql AS $$
BEGIN
	RETURN pg_catalog.clock_timestamp() + (SELECT ahead FROM chaos.clock WHERE one) * interval '1 microsecond';
END $$`

// clock is the database's, as the run has it.
type clock struct {
	calendar
	ahead atomic.Int64 // of the machine's own, in microseconds, as far as is known
}

// zones are whole hours from UTC, half an hour off, and far from it on both sides; the last three have a date without a
// midnight in each year, and one with two.
var zones = []string{
	"UTC", "Europe/Berlin", "Asia/Kolkata", "America/Los_Angeles", "Pacific/Auckland", "America/Santiago", "Atlantic/Azores", "America/Havana",
}

// makeClock makes the clock of the run, on an empty database.
func (r *runner) makeClock(ctx context.Context) (err error) {
	rng := rand.New(rand.NewPCG(r.Seed, 8))
	if r.clock.zone, err = time.LoadLocation(zones[rng.IntN(len(zones))]); err != nil || r.Jump <= 0 {
		return err
	}
	conn, err := pgx.Connect(ctx, r.URL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, ownClock); err != nil {
		return fmt.Errorf("give the database a clock: %w", err)
	}
	if r.URL, err = searching(r.URL, "chaos,public,pg_catalog"); err != nil {
		return err
	}
	// Somewhere in the years to come, so that months of all lengths and the ends of years have their turn.
	return r.putForward(ctx, conn, time.Duration(rng.IntN(4*365))*24*time.Hour)
}

// searching returns the URL of a database with another search path.
func searching(dsn, path string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	if u.Scheme == "" {
		return "", fmt.Errorf("%q is not the URL of a database", dsn)
	}
	q := u.Query()
	q.Set("search_path", path)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func (r *runner) putForward(ctx context.Context, conn *pgx.Conn, by time.Duration) error {
	var ahead int64
	if err := conn.QueryRow(ctx, `UPDATE chaos.clock SET ahead = ahead + $1 WHERE one RETURNING ahead`, by.Microseconds()).Scan(&ahead); err != nil {
		return err
	}
	r.clock.ahead.Store(ahead)
	return nil
}

// jump is a way to put the clock forward.
type jump struct {
	what string
	far  func(now time.Time, c *calendar, rng *rand.Rand) time.Duration
}

// The jumps end all calls that run, whose processes then settle them late. After the first two kinds, a day and a month
// end, or the clocks change, with calls in the middle of them that are settled in time.
var jumps = [...]jump{
	{toEve, func(now time.Time, c *calendar, rng *rand.Rand) time.Duration { return c.eve(now, shortly(rng)) }},
	{byDay, func(time.Time, *calendar, *rand.Rand) time.Duration { return 26 * time.Hour }},
	{toChange, func(now time.Time, c *calendar, rng *rand.Rand) time.Duration {
		return c.untilChange(now, shortly(rng))
	}},
	{byHours, func(_ time.Time, _ *calendar, rng *rand.Rand) time.Duration {
		return time.Hour + time.Duration(rng.Int64N(int64(7*time.Hour)))
	}},
}

// shortly is the time for which calls are made before a jump's end.
func shortly(rng *rand.Rand) time.Duration {
	return 1500*time.Millisecond + time.Duration(rng.Int64N(int64(1500*time.Millisecond)))
}

// passTime puts the database's clock forward, in one way after the other, until ctx ends.
func (r *runner) passTime(ctx context.Context) {
	rng := rand.New(rand.NewPCG(r.Seed, 10))
	for n := 0; ; n++ {
		j := jumps[n%len(jumps)]
		for r.jump(ctx, rng, j) != nil { // the server may be being restarted
			if !wait(ctx, 50*time.Millisecond) {
				return
			}
		}
		if !wait(ctx, r.Jump*2/3+time.Duration(rng.Int64N(int64(r.Jump*2/3)))) {
			return
		}
	}
}

var (
	errIdle = errors.New("no call is running")
	errCalm = errors.New("nothing is to go wrong now")
)

// jump puts the database's clock forward, if calls are running.
func (r *runner) jump(ctx context.Context, rng *rand.Rand, j jump) error {
	if !r.mayFail() {
		return errCalm
	}
	defer r.calm.RUnlock()
	return r.session(ctx, func(conn *pgx.Conn) error {
		var (
			now  time.Time
			busy bool
		)
		if err := conn.QueryRow(ctx, `SELECT clock_timestamp(), EXISTS (SELECT FROM `+r.all()+`llm_executions WHERE status = 'running')`).Scan(&now, &busy); err != nil {
			return err
		}
		if !busy {
			return errIdle
		}
		by := j.far(now, &r.clock.calendar, rng)
		if by == 0 {
			return nil
		}
		if err := r.putForward(ctx, conn, by); err != nil {
			return err
		}
		r.tally.add(j.what)
		return nil
	})
}

// turnBack puts the database's clock back by hours, right after a worker that held calls was killed.
func (r *runner) turnBack(ctx context.Context, held []string) {
	rng := rand.New(rand.NewPCG(r.Seed, 22))
	by := time.Hour + time.Duration(rng.Int64N(int64(7*time.Hour)))
	err := r.patiently(ctx, func() error {
		return r.session(ctx, func(conn *pgx.Conn) error { return r.putForward(ctx, conn, -by) })
	})
	if err != nil {
		r.fatal(fmt.Errorf("put the clock back: %w", err))
		return
	}
	r.tally.add(turned)
	for range held {
		r.tally.add(orphaned)
	}
}

// ahead returns how far the clock of a worker process is ahead of the machine's: about as far as the database's, but
// each some hours before or after it.
func (r *runner) ahead(worker uint64) time.Duration {
	apart := r.Apart
	if r.Workers > 1 {
		apart = -r.Apart + 2*r.Apart*time.Duration(worker)/time.Duration(r.Workers-1)
	}
	return time.Duration(r.clock.ahead.Load())*time.Microsecond + apart
}
