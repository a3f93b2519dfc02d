package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The faults of the database, as they are counted.
const (
	passwords = "times that the workers' password was another"
	nologins  = "times that the workers could not log in"
	closings  = "times that the database took no connections"
	strays    = "times that logins were led to another database"
	revokes   = "times that the workers could not insert"
	raising   = "times that a trigger raised"
	renames   = "times that a table had another name"
	crowds    = "times that no further connection was to be had"
	storms    = "times that statements were made to fail"
	cutting   = "times that requests were not answered"
)

const (
	worker   = "chaos_worker" // the role that workers log in as
	password = "the workers' own"
)

// A fault is what goes wrong with the database for a while, and is mended then.
type fault struct {
	what   string
	lasts  time.Duration // at most
	server bool          // it takes a server of the run's own
	begin  func(context.Context, *rand.Rand) error
	end    func(context.Context) error
}

// faults returns all that there are.
func (r *runner) faults() []fault {
	begin := func(sql string) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, _ *rand.Rand) error { return r.administer(ctx, sql) }
	}
	end := func(sql string) func(context.Context) error {
		return func(ctx context.Context) error { return r.administer(ctx, sql) }
	}
	harmed := func(draw func(rng *rand.Rand) harm) func(context.Context, *rand.Rand) error {
		return func(_ context.Context, rng *rand.Rand) error {
			all := r.proxies()
			all[rng.IntN(len(all))].do(draw(rng))
			return nil
		}
	}
	well := func(context.Context) error {
		for _, p := range r.proxies() {
			p.do(harm{})
		}
		return nil
	}
	const ended = "; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + worker + "'"
	t := table{runner: r}
	all := []fault{
		{passwords, 2 * time.Second, true, begin("ALTER ROLE " + worker + " PASSWORD 'another'" + ended), end("ALTER ROLE " + worker + " PASSWORD " + literal(password))},
		{nologins, 2 * time.Second, true, begin("ALTER ROLE " + worker + " NOLOGIN" + ended), end("ALTER ROLE " + worker + " LOGIN")},
		{closings, 2 * time.Second, true, begin("ALTER DATABASE tenant ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tenant'"), end("ALTER DATABASE tenant ALLOW_CONNECTIONS true")},
		{strays, time.Second, false, func(context.Context, *rand.Rand) error {
			r.proxy.do(harm{astray: true})
			r.proxy.end()
			return nil
		}, well},
		{revokes, 2 * time.Second, true, t.revoke, t.mend},
		{raising, 2 * time.Second, false, t.raise, t.mend},
		{renames, 2 * time.Second, false, t.rename, t.mend},
		{storms, 2 * time.Second, false, harmed(storm), well},
		{cutting, time.Second, false, harmed(func(rng *rand.Rand) harm { return harm{cutIn: 5 + rng.IntN(60)} }), well},
		{storms, time.Second, false, harmed(storm), well},
	}
	if len(r.nodes) > 0 { // whose tables take no triggers
		all = slices.DeleteFunc(all, func(f fault) bool { return f.what == raising })
		all = append(all, r.clusterFaults()...)
	}
	return all
}

// fail makes one fault after the other, in an order that is drawn anew each time.
func (r *runner) fail(ctx context.Context) {
	rng := rand.New(rand.NewPCG(r.Seed, 20))
	all := r.faults()
	for {
		for _, i := range rng.Perm(len(all)) {
			if !wait(ctx, time.Duration(rng.Int64N(int64(500*time.Millisecond)))) {
				return
			}
			if f := &all[i]; r.Restart != nil || !f.server {
				r.make(ctx, rng, f)
			}
		}
	}
}

// mayFail reports whether something may go wrong now. Whoever it tells so gives calm back.
func (r *runner) mayFail() bool { return !r.hush.Load() && r.calm.TryRLock() }

// make makes a fault, and mends it. Nothing ends before it is mended.
func (r *runner) make(ctx context.Context, rng *rand.Rand, f *fault) {
	if !r.mayFail() {
		return
	}
	defer r.calm.RUnlock()
	r.server.Lock()
	defer r.server.Unlock()
	if err := f.begin(ctx, rng); err == nil {
		r.tally.add(f.what)
		wait(ctx, f.lasts/4+time.Duration(rng.Int64N(int64(f.lasts*3/4))))
	}
	mending := context.WithoutCancel(ctx)
	for f.end(mending) != nil && wait(mending, 20*time.Millisecond) {
	}
}

// full leaves the workers the connections that they have, and none more, for longer than a lease: as a server does whose
// max_connections are used up. Nothing else goes wrong meanwhile.
func (r *runner) full(ctx context.Context, _ *rand.Rand) {
	r.hush.Store(true)
	defer r.hush.Store(false)
	if !until(ctx, r.calm.TryLock) {
		return
	}
	defer r.calm.Unlock()
	if !wait(ctx, 2*lease) { // whoever was cut off comes back
		return
	}
	limit := func(ctx context.Context, n int) error {
		return r.administer(ctx, fmt.Sprint("ALTER ROLE ", worker, " CONNECTION LIMIT ", n))
	}
	if limit(ctx, 0) == nil {
		r.tally.add(crowds)
		r.observed(ctx, 4*lease)
	}
	mending := context.WithoutCancel(ctx)
	for limit(mending, -1) != nil && wait(mending, 20*time.Millisecond) {
	}
}

// stretch is a time of the database's clock and of the machine's.
type stretch struct{ from, to, machineFrom, machineTo time.Time }

// observed waits, and notes how long no further connection was to be had for longer than a lease.
func (r *runner) observed(ctx context.Context, lasts time.Duration) {
	s := stretch{machineFrom: time.Now()}
	if !wait(ctx, lease+lease/2) || r.ask(ctx, &s.from) != nil || !wait(ctx, lasts-lease-lease/2) || r.ask(ctx, &s.to) != nil {
		return
	}
	s.machineTo = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crowded = append(r.crowded, s)
}

// ask asks for the database's time, on a connection that is reserved.
func (r *runner) ask(ctx context.Context, now *time.Time) error {
	return r.session(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(now) })
}

// makeWorkers makes the role that workers log in as, which owns nothing, and may do what a ledger does. On a server that
// is not the run's own they log in as everybody else.
func (r *runner) makeWorkers(ctx context.Context) error {
	if r.Restart == nil {
		return nil
	}
	schemas := "public"
	if r.Jump > 0 {
		schemas = "public, chaos"
	}
	for _, name := range placeNames(r.Places) {
		schemas += ", " + name
	}
	return r.session(ctx, func(conn *pgx.Conn) error {
		for _, sql := range []string{
			"CREATE ROLE " + worker + " LOGIN PASSWORD " + literal(password),
			"GRANT USAGE ON SCHEMA " + schemas + " TO " + worker,
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + schemas + " TO " + worker,
			"GRANT USAGE ON ALL SEQUENCES IN SCHEMA " + schemas + " TO " + worker,
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("make the workers' role: %w", err)
			}
		}
		return nil
	})
}

// workersURL is the database as workers reach it.
func (r *runner) workersURL() (string, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", err
	}
	if r.Restart != nil {
		u.User = url.UserPassword(worker, password)
	}
	return r.proxy.through(u.String())
}

// administer runs statements on the server of the run, at another database.
func (r *runner) administer(ctx context.Context, sql string) error {
	u, err := url.Parse(r.URL)
	if err != nil {
		return err
	}
	u.Path, u.RawQuery = "/postgres", "sslmode=disable"
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for statement := range strings.SplitSeq(sql, ";") { // some may be in no transaction
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// code is the SQLSTATE of an error; none if it is none of the server's.
func code(err error) string {
	if said := (*pgconn.PgError)(nil); errors.As(err, &said) {
		return said.Code
	}
	return ""
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// codes are those that servers and poolers were seen to answer with, of all classes but that of success.
var codes = strings.Fields(`
	28P01 28000 55000 3D000 XX000 42501 P0001 42P01 25P04 42P05 26000 53300 53100 53200 53400 40001 40P01 55P03 57014 57P01
	57P02 57P03 57P04 57P05 0A000 08000 08003 08006 08P01 25006 25001 25P02 25P03 XX001 XX002 42703 42883 42601 58030 58000
	54000 54001 22021 22003 22P02 23505 23502 23514 23503 21000 34000 3B001 3F000 F0000 HV000 P0002 P0004 72000 2BP01 38001`)

// storm draws what statements fail with: a few codes that are known, or any that can be.
func storm(rng *rand.Rand) harm {
	h := harm{oneIn: 2 + rng.IntN(60)}
	for range 1 + rng.IntN(4) {
		h.codes = append(h.codes, codes[rng.IntN(len(codes))])
	}
	if rng.IntN(3) == 0 {
		const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		code := []byte("XXXXX")
		for i := range code {
			code[i] = digits[rng.IntN(len(digits))]
		}
		if !strings.HasPrefix(string(code), "0") { // success, warnings and the like are no errors
			h.codes = append(h.codes, string(code))
		}
	}
	return h
}

// table is a fault of one of the ledger's tables.
type table struct {
	*runner
	undo []string
}

// tables are those that calls need, the two that the books are made of more often.
var tables = []string{"llm_executions", "llm_usage", "llm_executions", "llm_usage", "llm_balances", "llm_processes", "llm_tenants"}

// change makes a change that has to come through at once, or not at all: whoever waits for a table holds up all others.
func (t *table) change(ctx context.Context, undo []string, statements ...string) error {
	t.undo = undo
	return t.run(ctx, statements)
}

func (t *table) run(ctx context.Context, statements []string) error {
	return t.session(ctx, func(conn *pgx.Conn) error {
		for _, sql := range append([]string{"SET lock_timeout = '300ms'"}, statements...) {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// mend takes back what is left to take back.
func (t *table) mend(ctx context.Context) error {
	for len(t.undo) > 0 {
		if err := t.run(ctx, t.undo[:1]); err != nil {
			return err
		}
		t.undo = t.undo[1:]
	}
	return nil
}

func (t *table) revoke(ctx context.Context, rng *rand.Rand) error {
	name := t.anywhere(rng, tables[rng.IntN(len(tables))])
	if rng.IntN(3) == 0 {
		name = "ALL TABLES IN SCHEMA public"
	}
	right := "INSERT"
	if rng.IntN(4) == 0 {
		right = "UPDATE"
	}
	return t.change(ctx, []string{"GRANT " + right + " ON " + name + " TO " + worker}, "REVOKE "+right+" ON "+name+" FROM "+worker)
}

func (t *table) raise(ctx context.Context, rng *rand.Rand) error {
	table := tables[rng.IntN(5)] // calls write the others rarely
	name := t.anywhere(rng, table)
	event := []string{"INSERT", "UPDATE", "INSERT OR UPDATE"}[rng.IntN(3)]
	which := ""
	if table != "llm_processes" && rng.IntN(2) == 0 { // only one tenant's
		which = " WHEN (NEW.tenant = " + literal(t.id(ctx, []string{hot, cold(0), cold(1)}[rng.IntN(3)])) + ")"
	}
	undo := []string{"DROP TRIGGER IF EXISTS chaos_raises ON " + name}
	return t.change(ctx, undo, `CREATE OR REPLACE FUNCTION chaos_raise() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'chaos: a trigger of the host raises'; END $$`,
		"CREATE TRIGGER chaos_raises BEFORE "+event+" ON "+name+" FOR EACH ROW"+which+" EXECUTE FUNCTION chaos_raise()")
}

// id is that of a tenant; nobody's where it is not to be had.
func (t *table) id(ctx context.Context, key string) string {
	id := "00000000-0000-0000-0000-000000000000"
	_ = t.session(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = $1", key).Scan(&id)
	})
	return id
}

func (t *table) rename(ctx context.Context, rng *rand.Rand) error {
	table := tables[rng.IntN(len(tables))]
	name := t.anywhere(rng, table)
	undo := []string{"ALTER TABLE IF EXISTS " + name + "_away RENAME TO " + table}
	return t.change(ctx, undo, "ALTER TABLE "+name+" RENAME TO "+table+"_away")
}
