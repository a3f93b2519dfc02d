package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// hot is the tenant that half of all calls are for.
const hot = "hot"

// cold is one of the tenants that share the other half.
func cold(i int) string { return fmt.Sprintf("cold-%02d", i) }

// rule is what a limit limits.
type rule struct{ window, metric string }

func (r rule) String() string { return r.window + " " + r.metric }

// rules are all that a tenant can have.
var rules = []rule{{"day", "cost"}, {"month", "cost"}, {"day", "tokens"}, {"month", "tokens"}, {"day", "calls"}, {"month", "calls"}}

// set sets the limit of a rule. The unit is nano-dollars, tokens or calls.
func (r rule) set(l *tenant.Limits, amount int64) {
	switch r {
	case rules[0]:
		l.DailyCost = nano(amount)
	case rules[1]:
		l.MonthlyCost = nano(amount)
	case rules[2]:
		l.DailyTokens = tenant.Count(amount)
	case rules[3]:
		l.MonthlyTokens = tenant.Count(amount)
	case rules[4]:
		l.DailyCalls = tenant.Count(amount)
	case rules[5]:
		l.MonthlyCalls = tenant.Count(amount)
	}
}

// calls returns what about so many calls need of the rule's metric.
func (r rule) calls(n int64) int64 {
	switch r.metric {
	case "cost":
		return n * 1e7
	case "tokens":
		return n * 1200
	}
	return n
}

// change is an amount that a limit was given, or may have been: whoever gave it may have lost the answer.
type change struct {
	began  time.Time // no admission before it was decided by this amount
	done   time.Time // every admission after it was, up to the next change; zero: nobody knows
	amount int64
}

// limits are those of all tenants, with their history. All times are the database's.
type limits struct {
	db   *gorm.DB
	rows *gorm.DB // which finds the rows of all places

	mu      sync.Mutex
	history map[string]map[rule][]change // in order; a tenant's are made by one goroutine at a time
}

// now asks the database for the time, until it answers.
func (l *limits) now(ctx context.Context) (time.Time, error) {
	for {
		var now time.Time
		if err := l.db.WithContext(ctx).Raw("SELECT clock_timestamp()").Scan(&now).Error; err == nil {
			return now, nil
		} else if !wait(ctx, 10*time.Millisecond) {
			return now, err
		}
	}
}

// configure gives a tenant's limits other amounts.
func (l *limits) configure(ctx context.Context, key string, amounts map[rule]int64) error {
	began, err := l.now(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.history == nil {
		l.history = map[string]map[rule][]change{}
	}
	if l.history[key] == nil {
		l.history[key] = map[rule][]change{}
	}
	for r, amount := range amounts {
		l.history[key][r] = append(l.history[key][r], change{began: began, amount: amount})
	}
	l.mu.Unlock()
	err = tenant.ConfigureBudget(ctx, l.db, tenant.ID(key), func(b *tenant.Budget) error {
		b.Enforcement = tenant.Hard
		b.Limits.AllowLargerShort = true // a long run cuts a month below a day
		for r, amount := range amounts {
			r.set(&b.Limits, amount)
		}
		return nil
	})
	if err != nil {
		return err
	}
	done, err := l.now(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range amounts {
		h := l.history[key][r]
		h[len(h)-1].done = done
	}
	return nil
}

// last is the amount that a limit was given last.
func (l *limits) last(key string, r rule) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.history[key][r]
	return h[len(h)-1].amount
}

// of returns the rules that a tenant has, in an order that is the same in every run.
func (l *limits) of(key string) []rule {
	l.mu.Lock()
	defer l.mu.Unlock()
	var of []rule
	for _, r := range rules {
		if len(l.history[key][r]) > 0 {
			of = append(of, r)
		}
	}
	return of
}

// largest returns the largest amount that may have been in force at a time, of a history in order.
func largest(history []change, at time.Time) int64 {
	var possible []int64
	for _, c := range history {
		if c.began.After(at) {
			break
		}
		if !c.done.IsZero() && !c.done.After(at) {
			possible = nil
		}
		possible = append(possible, c.amount)
	}
	if len(possible) == 0 {
		return 0
	}
	return slices.Max(possible)
}

// largestWithin returns the largest amount that may have been in force at any time between two.
func largestWithin(history []change, from, to time.Time) int64 {
	most := largest(history, from)
	for _, c := range history {
		if c.began.After(from) && !c.began.After(to) {
			most = max(most, c.amount)
		}
	}
	return most
}

// first draws a tenant's first limits: small, so that they are used up within seconds.
func first(rng *rand.Rand, key string) map[rule]int64 {
	amounts := map[rule]int64{}
	if key == hot {
		amounts[rules[0]] = rules[0].calls(200)
		amounts[rules[3]] = rules[3].calls(300)
		amounts[rules[4]] = rules[4].calls(200)
		return amounts
	}
	for range 1 + rng.IntN(3) {
		r := rules[rng.IntN(len(rules))]
		amounts[r] = r.calls(10 + rng.Int64N(80))
	}
	return amounts
}

// next draws new limits for a tenant: around what is spent, so that they are soon used up again, and sometimes below.
func (l *limits) next(ctx context.Context, rng *rand.Rand, tenants int) (key string, amounts map[rule]int64, err error) {
	key = hot
	least, most := int64(-60), int64(300)
	if rng.IntN(10) < 5 {
		key = cold(rng.IntN(tenants))
		least, most = -8, 50
	}
	of := l.of(key)
	if rng.IntN(2) == 0 {
		i := rng.IntN(len(of))
		of = of[i : i+1]
	}
	amounts = map[rule]int64{}
	for _, r := range of {
		var spent int64
		if err := l.rows.WithContext(ctx).Raw(`SELECT coalesce(max(b.spent_`+r.metric+`), 0)
			FROM `+balances+` b JOIN llm_tenants t ON t.id = b.tenant
			WHERE t.tenant_id = ? AND b.window_unit = ? AND b.agent = '' AND b.model = ''`, key, r.window).Scan(&spent).Error; err != nil {
			return "", nil, err
		}
		amounts[r] = max(0, spent+r.calls(least+rng.Int64N(most-least)))
	}
	return key, amounts, nil
}
