package process

import (
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// Watch is what a process has seen of the heartbeats of the others, by its own clock, which only goes forward. That of the
// database may be set back or forward, or be another one after a failover: a heartbeat is not compared with it.
type Watch struct {
	began time.Time // since when the database answers without a gap; zero where it does not
	last  time.Time // when it was looked last
	seen  map[book.ID]sighting
}

type sighting struct {
	beat  time.Time // by the database's clock
	since time.Time // by the own clock
	fresh bool      // it was seen to change
}

// Reset forgets what was seen: while the database is away, nobody's heartbeat changes.
func (w *Watch) Reset() { *w = Watch{} }

// See takes in the heartbeats of all processes at a time of the own clock, and by now of the database's. It returns the others
// that are alive, and those that have sent none for as long as their lease, if the database was reached for a lease without a
// gap: after an outage every heartbeat is old, and whoever sweeps gives the others time to come back first.
func (w *Watch) See(own book.ID, all []book.Process, now, at time.Time, lease time.Duration) (living, gone []book.Process, reached bool) {
	if w.began.IsZero() || at.Sub(w.last) > lease { // or this process was stopped
		*w = Watch{began: at}
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
