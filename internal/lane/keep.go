package lane

import (
	"context"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/store"
)

// A beat is a heartbeat that a lane sends over its own connection, so that none more has to be had.
type beat struct {
	answer chan error // has room for it
	all    []book.Process
	now    time.Time
}

// maxLocked is how long a heartbeat tries to get past somebody else's lock.
const maxLocked = 5 * time.Second

// send sends a heartbeat over a session.
func (s *Set) send(ctx context.Context, session store.Session, b *beat) error {
	own := book.Process{ID: s.ID, Lease: s.lease}
	if s.zones != nil {
		own.Zones = s.zones()
	}
	return session.Do(ctx, func(ctx context.Context, conn store.Conn) (err error) {
		b.all, b.now, err = s.processes.Beat(ctx, conn, own)
		return err
	})
}

// beat sends a heartbeat in the lane's goroutine.
func (l *lane) beat(b *beat) {
	ctx, cancel := context.WithTimeout(l.ctx, batchTimeout)
	defer cancel()
	b.answer <- l.send(ctx, l.session, b)
}

// beatOnce has a lane send a heartbeat. Where all of them are busy for too long, it goes over a connection of its own.
func (s *Set) beatOnce(ctx context.Context) (*beat, error) {
	b := &beat{answer: make(chan error, 1)}
	busy := time.NewTimer(s.lease / 8)
	defer busy.Stop()
	select {
	case s.beats <- b:
		select {
		case err := <-b.answer:
			return b, err
		case <-ctx.Done():
			return &beat{}, ctx.Err()
		}
	case <-busy.C:
		session := s.store.Session()
		defer func() { _ = session.Close() }()
		return b, s.send(ctx, session, b)
	case <-ctx.Done():
		return b, ctx.Err()
	}
}

// heartbeat sends a heartbeat, by another lane where the connection of the first one is gone. A database that somebody else
// has locked is tried again for a while: SQLite's may be.
func (s *Set) heartbeat(ctx context.Context) (*beat, error) {
	for tries, until := 1, time.Now().Add(maxLocked); ; tries++ {
		b, err := s.beatOnce(ctx)
		switch class := s.store.Classify(err); {
		case err == nil, time.Now().After(until):
			return b, err
		case class != store.Locked && tries > 2*len(s.lanes):
			return b, err
		}
		if store.Pause(ctx, minPoll) != nil {
			return b, err
		}
	}
}

// keep sends the process's heartbeat, and ends the executions of processes that send none any more.
func (s *Set) keep(first *beat) {
	defer s.keepers.Done()
	var (
		watch  watch
		swept  = time.Now()
		ticker = time.NewTicker(s.lease / 4)
		ended  chan struct{} // closed when the last sweep is over
	)
	defer ticker.Stop()
	see := func(b *beat) (reached bool, gone []book.Process) {
		var living []book.Process
		living, gone, reached = watch.see(s.ID, b.all, b.now, time.Now(), s.lease)
		s.alone.Store(len(living) == 0)
		if s.living != nil {
			s.living(living)
		}
		return reached, gone
	}
	see(first)
	for {
		select {
		case <-ticker.C:
		case <-s.quit:
			return
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, max(s.lease/2, time.Second))
		b, err := s.heartbeat(ctx)
		cancel()
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Warn("tenant: the heartbeat failed; other processes may end this one's calls", "error", err)
			}
			watch.reset()
			continue
		}
		reached, gone := see(b)
		if !reached || time.Since(swept) < s.lease/2 || ended != nil && !isClosed(ended) {
			continue
		}
		swept, ended = time.Now(), make(chan struct{})
		s.keepers.Add(1)
		go func() {
			defer s.keepers.Done()
			defer close(ended)
			s.sweep(gone)
		}()
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// watch is what a process has seen of the heartbeats of the others, by its own clock, which only goes forward. That of the
// database may be set back or forward, or be another one after a failover: a heartbeat is not compared with it.
type watch struct {
	began time.Time // since when the database answers without a gap; zero where it does not
	last  time.Time // when it was looked last
	seen  map[book.ID]sighting
}

type sighting struct {
	beat  time.Time // by the database's clock
	since time.Time // by the own clock
	fresh bool      // it was seen to change
}

// reset forgets what was seen: while the database is away, nobody's heartbeat changes.
func (w *watch) reset() { *w = watch{} }

// see takes in the heartbeats of all processes at a time of the own clock, and by now of the database's. It returns the others
// that are alive, and those that have sent none for as long as their lease, if the database was reached for a lease without a
// gap: after an outage every heartbeat is old, and whoever sweeps gives the others time to come back first.
func (w *watch) see(own book.ID, all []book.Process, now, at time.Time, lease time.Duration) (living, gone []book.Process, reached bool) {
	if w.began.IsZero() || at.Sub(w.last) > lease { // or this process was stopped
		*w = watch{began: at}
	}
	w.last = at
	seen := make(map[book.ID]sighting, len(all))
	for _, p := range all {
		if p.ID == own {
			continue
		}
		before, met := w.seen[p.ID]
		switch {
		case !met:
			before = sighting{beat: p.BeatAt, since: at}
		case !before.beat.Equal(p.BeatAt):
			before = sighting{beat: p.BeatAt, since: at, fresh: true}
		}
		seen[p.ID] = before
		switch silent := at.Sub(before.since) >= p.Lease; {
		case silent:
			gone = append(gone, p)
		case before.fresh, now.Sub(p.BeatAt) < p.Lease: // one that was not watched yet counts by the database's clock
			living = append(living, p)
		}
	}
	w.seen = seen
	reached = at.Sub(w.began) >= lease
	if !reached {
		gone = nil
	}
	return living, gone, reached
}

const maxSweep = 500

// sweep ends executions whose deadline has passed or whose process is gone.
func (s *Set) sweep(gone []book.Process) {
	ctx, cancel := context.WithTimeout(s.ctx, batchTimeout)
	defer cancel()
	lapsed, err := s.processes.Lapsed(ctx, gone, maxSweep)
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("tenant: looking for abandoned calls failed", "error", err)
		}
		return
	}
	beats := make(map[book.ID]time.Time, len(gone))
	for _, p := range gone {
		beats[p.ID] = p.BeatAt
	}
	tasks := make([]*Task, len(lapsed))
	for i, e := range lapsed {
		tasks[i] = s.Submit(decide.Op{Kind: decide.Expire, Exec: e, LastBeat: beats[e.Process]}, e.TenantKey)
	}
	for i, t := range tasks {
		select {
		case <-t.Done():
		case <-s.quit:
			return
		}
		out, err := t.Outcome()
		if err != nil {
			s.log.Error("tenant: ending an abandoned call failed", "execution", lapsed[i].ID, "error", err)
		} else if out.Code == decide.Expired {
			s.log.Warn("tenant: a call was abandoned by its process; its hold is charged",
				"execution", out.Exec.ID, "tenant", out.Exec.TenantKey, "process", out.Exec.Process)
			if s.ended != nil {
				s.ended(out)
			}
		}
	}
}
