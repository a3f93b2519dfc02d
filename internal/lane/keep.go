package lane

import (
	"context"
	"errors"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/process"
	"github.com/llmtenant/tenant/internal/sqldb"
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
	return session.Do(ctx, func(ctx context.Context, conn sqldb.Conn) (err error) {
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

// beatOnce has a lane send a heartbeat. Where all of them are busy for too long, it goes over a connection of its own; where none is to
// be had, it waits for a lane all the same: there may be one lane only, and somebody else's locks keep it.
func (s *Set) beatOnce(ctx context.Context) (*beat, error) {
	b := &beat{answer: make(chan error, 1)}
	busy := time.NewTimer(s.lease / 8)
	defer busy.Stop()
	select {
	case s.beats <- b:
		return b.sent(ctx)
	case <-busy.C:
	case <-ctx.Done():
		return b, ctx.Err()
	}
	session := s.store.Session()
	defer func() { _ = session.Close() }()
	err := s.send(ctx, session, b)
	if !errors.Is(err, fault.ErrConnect) {
		return b, err
	}
	select {
	case s.beats <- b:
		return b.sent(ctx)
	case <-ctx.Done():
		return b, err
	}
}

// sent waits for a heartbeat that a lane has taken.
func (b *beat) sent(ctx context.Context) (*beat, error) {
	select {
	case err := <-b.answer:
		return b, err
	case <-ctx.Done():
		return &beat{}, ctx.Err()
	}
}

// heartbeat sends a heartbeat, by another lane where the connection of the first one is gone. A database that somebody else
// has locked is tried again for a while: SQLite's may be.
func (s *Set) heartbeat(ctx context.Context) (*beat, error) {
	for tries, until := 1, time.Now().Add(maxLocked); ; tries++ {
		b, err := s.beatOnce(ctx)
		switch class := s.faults(err); {
		case err == nil, time.Now().After(until):
			return b, err
		case class != fault.Locked && tries > 2*len(s.lanes):
			return b, err
		}
		if sqldb.Pause(ctx, minPoll) != nil {
			return b, err
		}
	}
}

// keep sends the process's heartbeat, and ends the executions of processes that send none any more.
func (s *Set) keep(first *beat) {
	defer s.keepers.Done()
	var (
		watch  process.Watch
		swept  = time.Now()
		ticker = time.NewTicker(s.lease / 4)
		ended  chan struct{} // closed when the last sweep is over
	)
	defer ticker.Stop()
	see := func(b *beat) (reached bool, gone []book.Process) {
		var living []book.Process
		living, gone, reached = watch.See(s.ID, b.all, b.now, time.Now(), s.lease)
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
			watch.Reset()
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
			if s.idle != nil {
				s.idle(s.ctx)
			}
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

const maxSweep = 500

// sweep ends executions whose deadline has passed or whose process is gone.
func (s *Set) sweep(gone []book.Process) {
	abandoned, err := s.expire(gone)
	if s.swept != nil {
		s.swept(abandoned, err)
	}
}

// expire returns how many it has ended, and an error of them.
func (s *Set) expire(gone []book.Process) (abandoned int, failed error) {
	ctx, cancel := context.WithTimeout(s.ctx, batchTimeout)
	defer cancel()
	lapsed, err := s.processes.Lapsed(ctx, gone, maxSweep)
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("tenant: looking for abandoned calls failed", "error", err)
		}
		return 0, err
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
			return abandoned, failed
		}
		out, err := t.Outcome()
		if err != nil {
			failed = err
			s.log.Error("tenant: ending an abandoned call failed", "execution", lapsed[i].ID, "error", err)
		} else if out.Code == decide.Expired {
			abandoned++
			s.log.Warn("tenant: a call was abandoned by its process; its hold is charged",
				"execution", out.Exec.ID, "tenant", out.Exec.TenantKey, "process", out.Exec.Process)
			if s.ended != nil {
				s.ended(out)
			}
		}
	}
	return abandoned, failed
}
