package tenant

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

// OpenOption is an option of [Open].
type OpenOption func(*openOptions) error

type openOptions struct {
	prices      Prices
	limits      *Limits
	enforcement Enforcement
	counts      Counts
	root        *rootBudget
	zone        string
	weekStart   time.Weekday
	observers   []Observer
	told        bool // they are told of what happens with every call; see listens
	thresholds  []int64
	log         *slog.Logger
	lanes       int      // of each place
	places      []string // beside the home
	laneDB      *sql.DB
	readDB      *gorm.DB
	maxReadLag  time.Duration
	settleWait  time.Duration
	lease       time.Duration
	callTime    time.Duration
	keysKept    time.Duration
	tags        []string // that are rolled up
	clock       func() time.Time

	admitWhenUnavailable bool
	knownOnly            bool
	unsaved              bool
}

// WithPrices gives the ledger its price book. Defaults to none: every model is then without a price.
func WithPrices(p Prices) OpenOption {
	return func(o *openOptions) error {
		if p == nil {
			return fmt.Errorf("%w: WithPrices: the price book is nil", ErrInvalidOption)
		}
		o.prices = p
		return nil
	}
}

// WithDefaultLimits sets limits for every tenant that inherits and does not set the same limit itself. They are kept in
// the database, for all processes: the process that starts last decides them, and one that does not give this option
// leaves them as they are. Defaults to no limits.
func WithDefaultLimits(limits Limits) OpenOption {
	return func(o *openOptions) error {
		if _, err := limits.rows(); err != nil {
			return fmt.Errorf("%w: WithDefaultLimits: %w", ErrInvalidOption, err)
		}
		o.limits = &limits
		return nil
	}
}

// WithDefaultEnforcement sets the enforcement for every tenant that inherits and does not set its own. It is kept in the
// database like the default limits. Defaults to Soft.
func WithDefaultEnforcement(e Enforcement) OpenOption {
	return func(o *openOptions) error {
		if err := e.valid(); err != nil {
			return fmt.Errorf("%w: WithDefaultEnforcement: %w", ErrInvalidOption, err)
		}
		o.enforcement = e
		return nil
	}
}

// WithDefaultCounts sets what the limits of cost of every budget count that does not say so itself, the root's among them. It is
// kept in the database like the default limits. Defaults to CountsCharge: what tenants are charged.
func WithDefaultCounts(c Counts) OpenOption {
	return func(o *openOptions) error {
		if err := c.valid(); err != nil {
			return fmt.Errorf("%w: WithDefaultCounts: %w", ErrInvalidOption, err)
		}
		o.counts = c
		return nil
	}
}

// WithDefaultTimeZone sets the time zone, an IANA name such as "Europe/Berlin", in which the days and months of tenants
// without one of their own begin. All processes on one database must give the same; it is kept there for tools beside them (see
// [Ledger.SavedDays]). Defaults to UTC.
func WithDefaultTimeZone(name string) OpenOption {
	return func(o *openOptions) error {
		if _, err := period.LoadZone(name); err != nil {
			return fmt.Errorf("%w: WithDefaultTimeZone: %w", ErrInvalidOption, err)
		}
		o.zone = name
		return nil
	}
}

// WithWeekStart sets the day on which weeks begin, time.Monday or time.Sunday: those of limits, and those of questions about
// [ThisWeek] and [LastWeek]. All processes on one database must give
// the same. Defaults to time.Monday.
func WithWeekStart(day time.Weekday) OpenOption {
	return func(o *openOptions) error {
		if day != time.Monday && day != time.Sunday {
			return fmt.Errorf("%w: WithWeekStart: a week begins on Monday or on Sunday, and not on %s", ErrInvalidOption, day)
		}
		o.weekStart = day
		return nil
	}
}

// WithDefaultsUnsaved keeps out of the database what Open is given for all its tenants: default limits, enforcement and counting, the root's budget, the time
// zone and the start of weeks. It is for tools that open the ledger beside the programs whose defaults hold. Defaults to off.
func WithDefaultsUnsaved() OpenOption {
	return func(o *openOptions) error {
		o.unsaved = true
		return nil
	}
}

// WithLogger sets where the ledger reports what nobody waits for: a settle that goes on in the background, abandoned
// calls, usage that cannot be true. It never logs prompts, replies or credentials. Defaults to slog.Default().
func WithLogger(log *slog.Logger) OpenOption {
	return func(o *openOptions) error {
		if log == nil {
			return fmt.Errorf("%w: WithLogger: the logger is nil", ErrInvalidOption)
		}
		o.log = log
		return nil
	}
}

// WithLanes sets how many transactions the ledger runs at a time, each on a database connection of its own. More are
// not faster where tenants share rows. SQLite has one writer, and always one lane. With [WithPlaces] it is those of each place. Defaults to 2, and with
// places to 1.
func WithLanes(n int) OpenOption {
	return func(o *openOptions) error {
		if n < 1 || n > 64 {
			return fmt.Errorf("%w: WithLanes: %d is not between 1 and 64", ErrInvalidOption, n)
		}
		o.lanes = n
		return nil
	}
}

// WithLaneDB gives the ledger's write path a connection pool of its own on the same database, so that a host that uses
// up its pool does not hold up its calls. It is also the way for a host whose own pool is too small, or is not of pgx's
// connections, or of such that an instrument has wrapped and does not show. The caller closes it after the ledger. Defaults to the pool of the *gorm.DB.
func WithLaneDB(db *sql.DB) OpenOption {
	return func(o *openOptions) error {
		if db == nil {
			return fmt.Errorf("%w: WithLaneDB: the pool is nil", ErrInvalidOption)
		}
		o.laneDB = db
		return nil
	}
}

// WithReadDB names a replica of the database, a streaming one of PostgreSQL, for what may be a little old: lists, series, exports and the pages of
// package tenantui read it, so that a long report is not in the way of calls, and its snapshot keeps no row of the primary's from being cleaned
// up (leave hot_standby_feedback off). Admission, balances and what was spent are asked of the primary, always. [Ledger.ReadDB] is the handle; [WithMaxReadLag] says how far behind the
// replica may be. Open does not talk to it, and it need not be there: the primary answers then. The caller closes it after the ledger. Defaults to none.
func WithReadDB(replica *gorm.DB) OpenOption {
	return func(o *openOptions) error {
		if replica == nil || replica.Config == nil || replica.Statement == nil {
			return fmt.Errorf("%w: WithReadDB: the *gorm.DB is nil", ErrInvalidOption)
		}
		if name := replica.Name(); name != "postgres" {
			return fmt.Errorf("%w: WithReadDB: the database is %q, and only PostgreSQL has replicas", ErrInvalidOption, name)
		}
		o.readDB = replica
		return nil
	}
}

// WithMaxReadLag sets how far the replica of [WithReadDB] may be behind; beyond that the primary answers. Defaults to 30 seconds.
func WithMaxReadLag(d time.Duration) OpenOption {
	return func(o *openOptions) error { return positive(&o.maxReadLag, "WithMaxReadLag", d) }
}

// WithSettleWait sets how long a finished call waits for its cost to be on the books. After that its reply is handed out
// as pending, its hold standing for it, and the booking goes on; [Ledger.Record] is answered in the same way. Defaults to 2 seconds.
func WithSettleWait(d time.Duration) OpenOption {
	return func(o *openOptions) error { return positive(&o.settleWait, "WithSettleWait", d) }
}

// WithLease sets how long this process counts as alive after its last heartbeat. When it is gone for longer, other
// processes end the calls that it had running, and charge their holds. Defaults to 30 seconds.
func WithLease(d time.Duration) OpenOption {
	return func(o *openOptions) error { return positive(&o.lease, "WithLease", d) }
}

// WithMaxCallTime sets how long one call may run. A call that was neither settled nor released by then is abandoned, and
// its hold is charged. Defaults to 1 hour.
func WithMaxCallTime(d time.Duration) OpenOption {
	return func(o *openOptions) error { return positive(&o.callTime, "WithMaxCallTime", d) }
}

// WithAdmitWhenUnavailable admits calls while the database cannot be reached, instead of refusing them with
// [ErrUnavailable]. It is outside of what the ledger promises, for hosts to whom a call that is not made is worse than a
// limit that is passed:
//
//   - No budget is asked. However much the tenant has spent, also under [Hard], whether it is suspended, whether the
//     model has a price: the call gets all that it asks for, and its [Hold] is Unbooked.
//   - An idempotency key does not stop a second call with the same key. Of the two, the one that is booked first keeps it.
//   - Nothing is durable. What such a call cost is kept in this process's memory until the database is back, and then
//     booked in the background; the Settle says Pending before that. A process that dies before that takes it along, and
//     nobody will know. [Ledger.Close] waits for it until its ctx ends, and then names it in an [*UnsettledError].
//   - The call belongs to the day and the month in which it is booked, by the database's clock, unless its hold turns out
//     to have been committed after all, just before the connection broke: then it is settled like any other.
//   - A tenant that turns out not to exist, or to have its id taken by another record, cannot be charged: the call is
//     booked without a tenant, and reported to the logger as an error.
//
// The first calls of an outage wait for 2 to 3 seconds, for the database may be back at once; those that come after one was
// admitted wait for 0.3 seconds, until the database has answered again. The logger is told once when an outage begins, and
// once when it is over and how many calls were admitted in it.
//
// A call that waits for a lock of somebody else's, one whose tables are missing, and one whose ctx ends is refused as
// ever. [Ledger.Record] and questions fail with ErrUnavailable as ever. A pool in which the host leaves no connection
// over looks to the ledger like a database that does not answer: [WithLaneDB] gives it one of its own. Defaults to off.
func WithAdmitWhenUnavailable() OpenOption {
	return func(o *openOptions) error {
		o.admitWhenUnavailable = true
		return nil
	}
}

// WithKeysKept sets for how long an idempotency key stays taken, from the admission of its call on. It does so in any case
// until the call is pruned ([Ledger.Prune]), which is also what frees keys. Defaults to 365 days.
func WithKeysKept(d time.Duration) OpenOption {
	return func(o *openOptions) error { return positive(&o.keysKept, "WithKeysKept", d) }
}

// WithClock sets this process's clock, which chooses the price that is in effect. Windows, leases and deadlines go by the
// database's clock alone, so that processes whose clocks differ decide alike. It is called from many goroutines, at least
// once a call. Defaults to time.Now.
func WithClock(now func() time.Time) OpenOption {
	return func(o *openOptions) error {
		if now == nil {
			return fmt.Errorf("%w: WithClock: the clock is nil", ErrInvalidOption)
		}
		o.clock = now
		return nil
	}
}

func positive(to *time.Duration, option string, d time.Duration) error {
	if d < time.Millisecond {
		return fmt.Errorf("%w: %s: %v is less than a millisecond", ErrInvalidOption, option, d)
	}
	*to = d
	return nil
}

// AgentOption is an option of [NewAgent]. The options of its calls are among them: each is the default of the agent's calls.
type AgentOption interface {
	applyAgent(*Agent) error
}

// CallOption is an option of [Agent.Call]. Those of a [Ledger.Reserve] are among them.
type CallOption interface {
	AgentOption
	applyCall(*callOptions) error
}

// ReserveOption is an option of [Ledger.Reserve], and of calls that are made through package tenanthttp. Those of a
// [Ledger.Record] are among them.
type ReserveOption interface {
	CallOption
	ofReserve()
}

// RecordOption is an option of whatever leaves an execution on the books: [Ledger.Record], [Ledger.Credit] and
// [Ledger.Debit], and so of [Ledger.Reserve] and of [Agent.Call] too.
type RecordOption interface {
	ReserveOption
	ofRecord()
}

type callOptions struct {
	tenant      Tenant
	hasTenant   bool
	agent       string
	params      map[string]any
	tags        map[string]string
	idempotency string
	wait        time.Duration
	maxTokens   int64
	system      string
	messages    []Message
	images      []Image
	temperature *float64
	stop        []string
	schema      *Schema
}

// DefaultWait is how long a call waits for room that running calls hold, where it does not say.
const DefaultWait = 10 * time.Second

func newCallOptions() callOptions { return callOptions{wait: DefaultWait} }

// applyAll applies the options of a verb.
func applyAll[O CallOption](o *callOptions, verb string, options []O) error {
	for _, option := range options {
		if any(option) == nil {
			return nilOption[O](verb)
		}
		if err := option.applyCall(o); err != nil {
			return err
		}
	}
	return nil
}

// nilOption is the error of a verb that was given a nil option.
func nilOption[O any](verb string) error {
	return fmt.Errorf("%w: %s: a nil %s", ErrInvalidOption, verb, reflect.TypeFor[O]().Name())
}

// clone returns options that can be changed without changing these.
func (o *callOptions) clone() callOptions {
	c := *o
	c.params, c.tags = maps.Clone(o.params), maps.Clone(o.tags)
	return c
}

type (
	callOption    func(*callOptions) error
	reserveOption struct{ callOption }
	recordOption  struct{ reserveOption }
)

func (f callOption) applyCall(o *callOptions) error { return f(o) }
func (f callOption) applyAgent(a *Agent) error      { return f(&a.defaults) }
func (reserveOption) ofReserve()                    {}
func (recordOption) ofRecord()                      {}

func forReserve(f callOption) ReserveOption { return reserveOption{f} }
func forRecord(f callOption) RecordOption   { return recordOption{reserveOption{f}} }

// WithTenant says whom the call is made for. A nil Tenant is no tenant, also where the context has one. Defaults to the
// context's tenant ([ContextWithTenant]).
func WithTenant(t Tenant) CallOption {
	return callOption(func(o *callOptions) error {
		o.tenant, o.hasTenant = t, true
		return nil
	})
}

// WithAgent names the part of the program that makes the call, such as "support". It is at most 255 bytes. Defaults to
// none.
func WithAgent(name string) RecordOption {
	return forRecord(func(o *callOptions) error {
		o.agent = name
		return text.Valid(ErrInvalidOption, "name in WithAgent", name, false)
	})
}

// WithParam gives the call a parameter for the agent's own code, such as its tenant function; see [Param]. Parameters
// are not stored. Defaults to none.
func WithParam(name string, value any) CallOption {
	return callOption(func(o *callOptions) error {
		if o.params == nil {
			o.params = map[string]any{}
		}
		o.params[name] = value
		return nil
	})
}

const maxTags = 32

// WithTag stores a name and a value with the execution, at most 32 of them, each of at most 255 bytes. Do not store
// secrets in them. Given more than once, each adds a tag, and the last of a name counts. Defaults to none.
func WithTag(name, value string) RecordOption {
	return forRecord(func(o *callOptions) error {
		if err := text.Valid(ErrInvalidOption, "name in WithTag", name, true); err != nil {
			return err
		}
		if err := text.Valid(ErrInvalidOption, "value in WithTag", value, false); err != nil {
			return err
		}
		if o.tags == nil {
			o.tags = map[string]string{}
		}
		o.tags[name] = value
		if len(o.tags) > maxTags {
			return fmt.Errorf("%w: WithTag: more than %d tags", ErrInvalidOption, maxTags)
		}
		return nil
	})
}

func (o *callOptions) tagJSON() (string, error) {
	if len(o.tags) == 0 {
		return "", nil
	}
	b, err := json.Marshal(o.tags)
	return string(b), err
}

// WithIdempotencyKey makes sure that one call is made for the key, at most: a second one, from whatever process, gets a
// [*DuplicateError] while the first is running and after it was made. A call that failed or was not made frees its key.
// A key stays taken when its call was pruned; see [WithKeysKept].
// Keys are the tenant's own, of at most 255 bytes. Defaults to none: every call is made.
func WithIdempotencyKey(key string) RecordOption {
	return forRecord(func(o *callOptions) error {
		o.idempotency = key
		return text.Valid(ErrInvalidOption, "key in WithIdempotencyKey", key, true)
	})
}

// WithWait sets how long the call waits for room that running calls hold and may not use. It never waits past its
// context, and not at all for a budget that is used up. Zero does not wait. Defaults to [DefaultWait].
func WithWait(d time.Duration) ReserveOption {
	return forReserve(func(o *callOptions) error {
		if d < 0 {
			return fmt.Errorf("%w: WithWait: %v is negative", ErrInvalidOption, d)
		}
		o.wait = d
		return nil
	})
}

// WithMaxTokens sets how many tokens of output the model may produce. The budget may shorten it. Defaults to what the
// model says, otherwise to [DefaultMaxTokens].
func WithMaxTokens(n int64) CallOption {
	return callOption(func(o *callOptions) error {
		if n < 1 || n > maxPlausibleTokens {
			return fmt.Errorf("%w: WithMaxTokens: %d is not between 1 and 2^40", ErrInvalidOption, n)
		}
		o.maxTokens = n
		return nil
	})
}

// WithSystem sets the system prompt. Defaults to none.
func WithSystem(prompt string) CallOption {
	return callOption(func(o *callOptions) error {
		o.system = prompt
		return nil
	})
}
