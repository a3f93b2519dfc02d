package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

const (
	// workerVariable makes the program, or the test binary, a worker: it holds the worker's order.
	workerVariable = "TENANT_CHAOS_WORKER"

	// lease and callTime are short, so that calls of the dead, the stopped and the forgetful are ended within a run.
	lease    = time.Second
	callTime = 3 * time.Second

	// closing is how long a ledger may take to book what is left, and hurried how long one of a worker that may be killed.
	closing = 40 * time.Second
	hurried = 2 * time.Second

	// exitBroken is the exit code of a worker that could not do its work; a worker that was told to end has 0.
	exitBroken = 3
)

// order is what a worker is started with.
type order struct {
	URL        string
	Journal    string
	Seed       uint64
	Slot, Life uint64 // which worker it is, and how often it was started before
	Goroutines int
	Cold       int
	Zone       string        // in which days begin
	Ahead      time.Duration // how far the worker's clock is ahead of the machine's
	Spared     bool          // nobody kills it, and it books all that there is to book
	Places     int           // in which tenants' books are; zero: all is in the home
}

// now is the time by the worker's clock.
func (o *order) now() time.Time { return time.Now().Add(o.Ahead) }

// prices is a price book with one model, at 1 and 10 dollars for a million tokens, and in every other term at 1 and 12.
type prices struct{}

// term is how long a price holds. An hour is no multiple of it, so that clocks which are hours apart have different
// prices.
const term = 7 * time.Second

func (prices) Price(_, model string, at time.Time) (tenant.Price, bool) {
	output := int64(10e9)
	if at.Unix()/int64(term/time.Second)%2 == 1 {
		output = 12e9
	}
	return tenant.Price{Model: model, Rates: tenant.Rates{Input: 1e9, Output: output}}, model == "priced"
}

// costs returns what a usage may cost a call that ran from one time to another.
func (p prices) costs(u tenant.Usage, from, to time.Time) []int64 {
	last, _ := p.Price("", "priced", to)
	costs := []int64{inNano(last.Cost(u))}
	for at := from; at.Before(to); at = at.Add(term) {
		price, _ := p.Price("", "priced", at)
		costs = append(costs, inNano(price.Cost(u)))
	}
	return costs
}

// open opens a ledger at a database that may be down at the moment.
func open(url, zone string, places int, clock func() time.Time) (*gorm.DB, *tenant.Ledger, error) {
	db, err := gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(8)
	options := []tenant.OpenOption{
		tenant.WithPrices(prices{}), tenant.WithLease(lease), tenant.WithMaxCallTime(callTime), tenant.WithDefaultTimeZone(zone), tenant.WithClock(clock),
		tenant.WithSettleWait(time.Second), tenant.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if places > 0 {
		options = append(options, tenant.WithPlaces(placeNames(places)...))
	}
	ledger, err := tenant.Open(db, options...)
	return db, ledger, err
}

// isWorker reports whether this process was started as a worker.
func isWorker() bool { return os.Getenv(workerVariable) != "" }

// workerMain is the main function of a worker.
func workerMain() int {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(workerVariable)), &o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: the worker's order:", err)
		return exitBroken
	}
	journal, err := openJournal(o.Journal)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitBroken
	}
	db, ledger, err := open(o.URL, o.Zone, o.Places, o.now)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitBroken
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if pool, err := db.DB(); err == nil && o.Slot%2 == 1 {
		pool.SetMaxIdleConns(-1) // it has a connection for as long as it uses it, but for those of the lanes
	}
	go func() {
		// A line says that the run is over; the end of the input, that whoever started it is gone.
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			os.Exit(exitBroken)
		}
		stop()
	}()
	transport, err := tenanthttp.NewTransport(ledger, provider{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return exitBroken
	}
	var wg sync.WaitGroup
	for i := range o.Goroutines {
		wg.Go(func() {
			c := caller{
				order: &o, db: db, ledger: ledger, transport: transport, journal: journal, number: i,
				rng: rand.New(rand.NewPCG(o.Seed, o.Slot<<40|o.Life<<16|uint64(i))),
			}
			for ctx.Err() == nil {
				if c.chance(25) {
					c.ask(ctx)
				} else {
					c.call(ctx)
				}
			}
		})
	}
	for wait(ctx, lease/10) {
		journal.write(entry{What: alive, At: time.Now()})
	}
	wg.Wait()
	closeLedger(ledger, &o, journal)
	return 0
}

// closeLedger books what is left, and writes down what cannot be booked: others end it.
func closeLedger(ledger *tenant.Ledger, o *order, journal *journal) {
	patience := hurried
	if o.Spared {
		patience = closing
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := ledger.Close(ctx)
	if left := (*tenant.UnsettledError)(nil); errors.As(err, &left) {
		for _, u := range left.Unsettled {
			e := entry{What: unsettled, Tenant: u.TenantID, ID: u.ExecutionID}
			if o.Spared { // all faults were mended long before
				e.What, e.Detail = wrong, fmt.Sprintf("close: it is not on the books %v after the run", closing)
			}
			journal.write(e)
		}
	} else if err != nil {
		journal.write(entry{What: wrong, Detail: "close: " + err.Error()})
	}
	journal.write(entry{What: closed})
}

// caller makes one call after the other.
type caller struct {
	*order
	db        *gorm.DB
	ledger    *tenant.Ledger
	transport *tenanthttp.Transport
	journal   *journal
	rng       *rand.Rand
	number    int // of the caller in its worker
	calls     int // through the transport
}

// chance is true in n of 100 cases.
func (c *caller) chance(n int) bool { return c.rng.IntN(100) < n }

// between returns a number of the closed interval.
func (c *caller) between(least, most int64) int64 { return least + c.rng.Int64N(most-least+1) }

// tenant draws whom a call is for.
func (c *caller) tenant() string {
	if c.chance(45) {
		return cold(c.rng.IntN(c.Cold))
	}
	return hot
}

func (c *caller) call(stop context.Context) {
	key := c.tenant()
	estimate := tenant.Estimate{InputTokens: c.between(100, 2000), OutputTokens: c.between(300, 3000)}
	if fixed := c.chance(50); fixed {
		estimate.Model = "fixed"
		estimate.Cost = nano(c.between(1e6, 4e7))
		if c.chance(10) {
			estimate.Cost = nano(0)
		}
	} else {
		estimate.Model = "priced"
	}
	options := []tenant.ReserveOption{tenant.WithWait(time.Duration(c.between(0, 1000)) * time.Millisecond), tenant.WithAgent(fmt.Sprint("agent-", c.rng.IntN(3)))}
	idempotent := ""
	if c.chance(10) {
		// Few enough at a time that processes meet on them.
		idempotent = fmt.Sprint("key-", time.Now().Unix()/2, "-", c.rng.IntN(4))
		options = append(options, tenant.WithIdempotencyKey(idempotent))
	}
	// What ends a worker does not end its calls.
	ctx := context.WithoutCancel(stop)
	if c.chance(10) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.between(0, 100_000))*time.Microsecond)
		defer cancel()
	}
	timed, began := c.chance(20), c.now()
	since := c.time(timed)
	hold, err := c.ledger.Reserve(ctx, tenant.ID(key), estimate, options...)
	if err != nil {
		c.refused(stop, key, err)
		return
	}
	e := entry{Tenant: key, ID: hold.ExecutionID, Key: idempotent}
	given := e
	given.What, given.Cost, given.Tokens = held, nanos(hold.Cost), hold.Tokens
	given.Since, given.Until = since, c.time(timed)
	c.journal.write(given)

	c.work(stop)
	switch p := c.rng.IntN(100); {
	case p < 3 && !c.Spared: // whose Close would wait for it
		e.What = leaked
		c.journal.write(e)
	case p < 13:
		s, err := c.ledger.Release(ctx, hold)
		c.answered(e, released, s, err, nil)
	default:
		c.settle(ctx, e, hold, estimate, began)
	}
}

// work is the time for which the model is at work: mostly short, sometimes more than a call may take.
func (c *caller) work(stop context.Context) {
	most := 500 * time.Millisecond
	switch p := c.rng.IntN(100); {
	case p >= 97:
		most = callTime + time.Second
	case p >= 80:
		most = 2 * time.Second
	}
	c.pause(stop, time.Duration(c.rng.Int64N(int64(most))))
}

// time asks the database for the time. It is zero where that is not wanted, or not to be had.
func (c *caller) time(wanted bool) time.Time {
	if !wanted {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var now time.Time
	if err := c.db.WithContext(ctx).Raw("SELECT clock_timestamp()").Scan(&now).Error; err != nil {
		return time.Time{}
	}
	return now
}

// settle settles a call that began at a time of the worker's clock.
func (c *caller) settle(ctx context.Context, e entry, hold *tenant.Hold, estimate tenant.Estimate, began time.Time) {
	actual := tenant.Actual{Usage: tenant.Usage{Input: estimate.InputTokens, Output: hold.OutputTokens}}
	share := int64(100)
	switch p := c.rng.IntN(100); {
	case p < 85:
		share = c.between(5, 95)
	case p >= 97:
		share = c.between(101, 180)
	}
	actual.Usage.Output = actual.Usage.Output * share / 100
	if c.chance(5) {
		actual.ErrorCode = "chaos"
	}
	var want []int64
	if estimate.Model == "fixed" {
		want = []int64{nanos(hold.Cost) * share / 100}
		actual.Cost = nano(want[0])
	}
	timed := c.chance(20)
	e.Since = c.time(timed)
	s, err := c.ledger.Settle(ctx, hold, actual)
	e.Until = c.time(timed)
	if estimate.Model == "priced" {
		want = prices{}.costs(actual.Usage, began, c.now())
	}
	c.answered(e, settled, s, err, want)
	if err == nil && s.Outcome != tenant.Pending && c.chance(3) {
		actual.Cost = nano(1) // must not be booked
		again, err := c.ledger.Settle(ctx, hold, actual)
		// A settle that was tried twice takes what it finds for its own doing, so that only its cost tells.
		if err == nil && again.Outcome != tenant.Pending && !again.Cost.Equal(s.Cost) {
			err = fmt.Errorf("a second settle got %+v after %+v", again, s)
		}
		if err != nil {
			e.What, e.Detail = wrong, "settle twice: "+err.Error()
			c.journal.write(e)
		}
	}
}

// answered writes down the answer to a settle or a release, and of a settle, whether its cost is one of those that it may
// have.
func (c *caller) answered(e entry, what string, s tenant.Settlement, err error, want []int64) {
	e.What, e.Outcome, e.Cost, e.Tokens = what, string(s.Outcome), nanos(s.Cost), s.Tokens
	switch {
	case err != nil:
		e.What, e.Detail = wrong, what+": "+err.Error()
	case s.Outcome == tenant.Pending:
		e.What, e.Release = pending, what == released
	case what == settled && !slices.Contains(want, e.Cost):
		e.What, e.Detail = wrong, fmt.Sprintf("a settle that may cost %v was answered with a cost of %d", want, e.Cost)
	}
	c.journal.write(e)
}

// refused writes down why there is no hold, and gives way for a moment.
func (c *caller) refused(stop context.Context, key string, err error) {
	e := entry{Tenant: key}
	var exceeded *tenant.BudgetExceededError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.What = ended
	case errors.As(err, &exceeded):
		e.What = exhausted
		if exceeded.Contended {
			e.What = contended
		}
		e.Detail = fmt.Sprint(exceeded.Limit.Window, " ", exceeded.Limit.Metric)
	case errors.Is(err, tenant.ErrDuplicate):
		e.What = duplicate
	case errors.Is(err, tenant.ErrUnavailable):
		e.What, e.Detail = away, err.Error()
	case code(err) != "", errors.Is(err, tenant.ErrNotMigrated):
		e.What, e.Detail = failed, err.Error()
	default:
		e.What, e.Detail = wrong, "reserve: "+err.Error()
	}
	c.journal.write(e)
	c.pause(stop, time.Duration(c.between(20, 200))*time.Millisecond)
}

func (c *caller) pause(ctx context.Context, d time.Duration) { wait(ctx, d) }

// wait reports false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func nano(n int64) tenant.Money { return tenant.USDFrom(decimal.New(n, -9)) }

func nanos(dollars decimal.Decimal) int64 { return dollars.Shift(9).IntPart() }

// inNano is an amount in nano-dollars.
func inNano(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
