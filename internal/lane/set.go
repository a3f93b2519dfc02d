package lane

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// errBehind is what an operation waits for that comes after another one on the same execution.
var errBehind = errors.New("an earlier operation on the call is not on the books yet")

// Processes is where the processes that have the ledger open are kept.
type Processes interface {
	// Beat says, over a connection, that a process is alive, and will be for the time of its lease, and how it sees its time
	// zones. It returns the last heartbeats of all processes, its own too, and the database's time.
	Beat(ctx context.Context, conn sqldb.Conn, own book.Process) (all []book.Process, now time.Time, err error)

	// Lapsed returns some executions that are running although their deadline has passed or their process is gone: it is one
	// of these, or is not known.
	Lapsed(ctx context.Context, gone []book.Process, limit int) ([]book.Execution, error)

	// Leave says that a process has ended.
	Leave(ctx context.Context, id book.ID) error
}

// Config is what a set of lanes is made of.
type Config struct {
	ID        book.ID // of the process
	Store     store.Store
	Processes Processes
	Decide    decide.Config
	Lanes     int
	Lease     time.Duration // how long a process counts as alive after its last heartbeat
	Log       *slog.Logger

	// Refused is how long refusals wait for a call of their tenant that they can be written with. Defaults to 20 seconds.
	Refused time.Duration

	// Ended is told of the executions that were ended for processes that are gone.
	Ended func(decide.Outcome)

	// Ran is told of each transaction: its operations, how long it took, and its error. Swept is told of each sweep: how many
	// executions it has ended, and an error. Nil ones are not called.
	Ran   func(int, time.Duration, error)
	Swept func(int, error)

	// Check is called before anything is written; a nil one is not called. Prepare is called once, before the first task, with the
	// tables in place.
	Check, Prepare func(context.Context) error

	// Zones says how this process sees its time zones, and Living is told of the other processes that live, with each
	// heartbeat. Nil ones are not called.
	Zones  func() string
	Living func([]book.Process)

	// Idle is called beside each sweep for what has time, and ends with ctx. A nil one is not called.
	Idle func(ctx context.Context)
}

// Set is the lanes of one process on one database.
type Set struct {
	store     store.Store
	faults    fault.Reader // of the store
	processes Processes
	decide    decide.Config
	lease     time.Duration
	log       *slog.Logger
	ended     func(decide.Outcome)
	ran       func(int, time.Duration, error)
	swept     func(int, error)
	check     func(context.Context) error
	prepare   func(context.Context) error
	zones     func() string
	living    func([]book.Process)
	idle      func(context.Context)

	refusedWait time.Duration

	// ID is the process's.
	ID book.ID

	lanes   []*lane
	seed    maphash.Seed
	started atomic.Bool
	alone   atomic.Bool   // no other process was alive at the last heartbeat
	rooted  atomic.Bool   // all calls count for the root
	start   chan struct{} // held by whoever starts or closes the set
	closed  bool          // guarded by start

	chains chains
	doubts doubts
	beats  chan *beat

	ctx     context.Context //nolint:containedctx // of the goroutines, not of a call
	cancel  context.CancelFunc
	drain   chan struct{} // closed: no more tasks come
	quit    chan struct{} // closed: heartbeat and sweep end
	running sync.WaitGroup
	keepers sync.WaitGroup
}

// New makes the lanes. They start with the first task.
func New(c Config) *Set {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Set{
		store: c.Store, faults: c.Store.Classify, processes: c.Processes, decide: c.Decide, lease: c.Lease, log: c.Log, ended: c.Ended,
		check: c.Check, prepare: c.Prepare, ran: c.Ran, swept: c.Swept,
		zones: c.Zones, living: c.Living, idle: c.Idle, refusedWait: c.Refused,
		ID: c.ID, seed: maphash.MakeSeed(), start: make(chan struct{}, 1),
		beats: make(chan *beat), ctx: ctx, cancel: cancel, drain: make(chan struct{}), quit: make(chan struct{}),
	}
	if s.refusedWait == 0 {
		s.refusedWait = 20 * time.Second
	}
	for range max(c.Lanes, 1) {
		s.lanes = append(s.lanes, &lane{
			Set: s, session: c.Store.Session(), wake: make(chan struct{}, 1), refusals: map[book.HourKey]int64{},
			timeslices: map[book.ID]*timeslice{}, reported: map[book.ThresholdKey]bool{},
		})
	}
	return s
}

// Start makes sure that the process is known before it holds anything. It is called before every task, and does its
// work once.
func (s *Set) Start(ctx context.Context) error {
	if s.started.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	select {
	case s.start <- struct{}{}:
		defer func() { <-s.start }()
	case <-ctx.Done():
		return s.explain(ctx, ctx.Err())
	}
	if s.closed {
		return fault.ErrClosed
	}
	if s.started.Load() {
		return nil
	}
	if s.check != nil {
		if err := s.check(ctx); err != nil {
			return s.explain(ctx, err)
		}
	}
	// The first lane has a connection from now on, for the heartbeats that follow.
	var first beat
	for until := time.Now().Add(maxLocked); ; {
		err := s.send(ctx, s.lanes[0].session, &first)
		if err == nil {
			break
		}
		class := s.faults(err)
		if !class.Passes() || time.Now().After(until) || sqldb.Pause(ctx, minPoll) != nil {
			if class == fault.Fatal {
				err = &fault.RefusedError{Err: err}
			}
			return s.explain(ctx, err)
		}
	}
	if err := s.prepare(ctx); err != nil {
		return s.explain(ctx, err)
	}
	for _, l := range s.lanes {
		s.running.Add(1)
		go l.run()
	}
	s.keepers.Add(1)
	go s.keep(&first)
	s.started.Store(true)
	return nil
}

// Started reports whether the set takes tasks, as it does after Start and until Close.
func (s *Set) Started() bool { return s.started.Load() }

// explain gives an error the form in which callers get it.
func (s *Set) explain(ctx context.Context, err error) error {
	if s.Ended() {
		return fault.ErrClosed
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return s.faults.Of(err)
}

// Submit hands an operation to the lane of a route: the tenant's key, or nothing for calls without a tenant. The set
// must be started.
func (s *Set) Submit(op decide.Op, route string) *Task {
	return s.submit(&Task{op: op, route: route})
}

// After hands in an operation on the execution of an earlier task, which its outcome may not be known of: the operation
// finds what that one has done or may have done. To release what no attempt has begun asks nothing of the database.
func (s *Set) After(earlier *Task, op decide.Op) *Task {
	return s.submit(&Task{op: op, route: earlier.route, after: earlier})
}

func (s *Set) submit(t *Task) *Task {
	t.since, t.done, t.lane = time.Now(), make(chan struct{}), s.lane(t.route)
	if t.after != nil {
		t.lane = t.after.lane // in which it stands behind it
	}
	t.lane.push(t)
	return t
}

// lane is where the calls of a route go. All that share a balance go through one lane, as far as is known here: two
// would wait for each other's locks.
func (s *Set) lane(route string) *lane {
	if len(s.lanes) == 1 || s.rooted.Load() {
		return s.lanes[0]
	}
	if chain := s.chains.of(route); len(chain) > 0 {
		top := chain[len(chain)-1]
		return s.lanes[maphash.Bytes(s.seed, top[:])%uint64(len(s.lanes))]
	}
	return s.lanes[maphash.String(s.seed, route)%uint64(len(s.lanes))]
}

// learn remembers who stood above the tenant of a route at its last admission.
func (s *Set) learn(route string, parents []book.ID) {
	if n := len(parents); n > 0 && parents[n-1] == book.Root {
		parents = parents[:n-1] // of all the same
	}
	s.chains.set(route, parents)
}

// Context is what ends with the lanes.
func (s *Set) Context() context.Context { return s.ctx }

// Ended reports whether Close has ended the lanes: what is submitted now is not done any more.
func (s *Set) Ended() bool { return s.ctx.Err() != nil }

func (s *Set) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// Close ends the lanes when they have done what they were given, or when ctx ends. Whoever calls it sees to it that no
// more tasks come. What could not be done is answered with fault.ErrClosed.
func (s *Set) Close(ctx context.Context) error {
	select {
	case s.start <- struct{}{}:
	case <-ctx.Done():
		s.cancel() // whoever is starting the set gives up
		s.start <- struct{}{}
	}
	defer func() { <-s.start }()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.quit)
	close(s.drain)
	ended := make(chan struct{})
	go func() {
		s.keepers.Wait()
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.cancel()
	<-ended
	for _, l := range s.lanes {
		l.mu.Lock()
		l.over = true
		left := l.queue
		l.mu.Unlock()
		for _, tasks := range [][]*Task{left, l.waiting, l.aside, l.stuck.heads} {
			l.abandon(tasks)
		}
		for _, tasks := range l.stuck.behind {
			l.abandon(tasks)
		}
	}
	started := s.started.Swap(false)
	if !started {
		_ = s.lanes[0].session.Close() // a start that failed may have left it connected
	}
	if !started || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := s.processes.Leave(ctx, s.ID); err != nil && !s.faults.Unreachable(err) {
		s.log.Warn("tenant: the process's last heartbeat could not be taken back; it runs out by itself", "error", err)
	}
	return nil
}

// Queued returns how many tasks wait in each lane for its next batch.
func (s *Set) Queued() []int {
	queued := make([]int, len(s.lanes))
	for i, l := range s.lanes {
		l.mu.Lock()
		queued[i] = len(l.queue)
		l.mu.Unlock()
	}
	return queued
}
