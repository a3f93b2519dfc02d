package tenantui

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/llmtenant/tenant"
)

type healthBody struct {
	Figures   []figure
	Processes *table
	Lanes     *table
	Verify    []pair
	Running   bool // a verify of this process
	Found     *table
	May       bool
}

// figure is one of the large ones at the top of a page.
type figure struct{ Name, Value, Note string }

// pair is a name and what it stands for.
type pair struct {
	Name string
	cell
}

// verifying is a Verify that was begun on a page: it can last for minutes, so that nobody waits for it.
type verifying struct {
	mu      sync.Mutex
	running bool
	err     error
	found   []tenant.Difference
	ended   time.Time
}

func (d *dashboard) health(q *request) error {
	if !q.viewer.All {
		return errNotFound
	}
	zone, err := q.zone(nil)
	if err != nil {
		return err
	}
	running, err := tenant.Running(q.Context(), q.db)
	if err != nil {
		return err
	}
	processes, err := tenant.Processes(q.Context(), q.db)
	if err != nil {
		return err
	}
	last, verified, err := tenant.LastVerify(q.Context(), q.db)
	if err != nil {
		return err
	}
	body := healthBody{May: q.viewer.may(Operate)}
	oldest := "none runs"
	if !running.Oldest.IsZero() {
		oldest = "the oldest for " + lasting(q.now.Sub(running.Oldest))
	}
	if running.Overdue > 0 {
		oldest += "; " + count(running.Overdue) + " past their deadline"
	}
	pending := d.ledger.Pending()
	waits := "everything is on the books"
	if pending.Bookings > 0 {
		waits = "the oldest since " + exactly(pending.Since, zone)
		if pending.Err != nil {
			waits += "; the database refuses it: the log says why"
		}
	}
	living := 0
	body.Processes = &table{ID: "processes", Caption: "Processes", Head: heads("Process", "Started", "Last heartbeat", "#Lease", "State", "Zones that differ"),
		Empty: "No process has made a call yet."}
	for _, p := range processes {
		state := cell{Text: "gone", Badge: "bad"}
		if p.Alive {
			living++
			state = cell{Text: "alive", Badge: "good"}
		}
		if p.Own {
			state.Text += ", this one"
		}
		zones := cell{Text: "—", Value: " "}
		if len(p.OtherTimeZones) > 0 {
			zones = text(p.OtherTimeZones[0])
			if n := len(p.OtherTimeZones) - 1; n > 0 {
				zones.Text += " and " + strconv.Itoa(n) + " more"
			}
		}
		body.Processes.Rows = append(body.Processes.Rows, []cell{
			{Text: p.ID, Class: "id"}, {Text: exactly(p.StartedAt, zone), Value: p.StartedAt.Format(time.RFC3339Nano), Class: "one"},
			{Text: exactly(p.BeatAt, zone), Value: p.BeatAt.Format(time.RFC3339Nano), Class: "one"},
			{Text: lasting(p.Lease), Value: strconv.FormatFloat(p.Lease.Seconds(), 'f', -1, 64)}, state, zones,
		})
	}
	body.Lanes = &table{ID: "lanes", Caption: "Lanes of this process", Head: heads("Lane", "#Operations that wait")}
	queued := int64(0)
	places, lanes := d.ledger.Places(), d.ledger.Lanes()
	if len(places) > 0 {
		body.Lanes.Head = heads("Lane", "Place", "#Operations that wait")
		places = append([]string{"the home"}, places...)
	}
	for i, n := range lanes {
		queued += int64(n)
		row := []cell{number(int64(i + 1))}
		if len(places) > 0 {
			row = append(row, text(places[i*len(places)/len(lanes)]))
		}
		body.Lanes.Rows = append(body.Lanes.Rows, append(row, number(int64(n))))
	}
	body.Figures = []figure{
		{"Running calls", count(running.Calls), oldest},
		{"Held by them", dollars(running.Cost), count(running.Tokens) + " tokens"},
		{"Not booked yet", count(int64(pending.Bookings)), waits},
		{"Processes alive", count(int64(living)), "of " + count(int64(len(processes))) + " that are known"},
	}
	if reads, ok := d.ledger.ReadStatus(q.Context()); ok {
		body.Figures = append(body.Figures, readFigure(reads))
	}
	body.Verify = []pair{{"Last verify", text("never: no process has checked the books yet")}}
	if verified {
		result := cell{Text: "the books agree with the executions", Badge: "good"}
		if last.Differences > 0 {
			result = cell{Text: count(int64(last.Differences)) + " differences", Badge: "bad"}
		}
		body.Verify = []pair{
			{"Last verify", text(exactly(last.EndedAt, zone))}, {"Result", result}, {"Took", text(lasting(last.Took))}, {"By", named(last.Actor, "a program")},
		}
	}
	body.Running, body.Found = d.verifying.state(zone)
	title := page0("Health", "health", zone.String(), body)
	if q.query("done") != "" {
		title.Done = "The books are being verified. Come back here to see the result."
	}
	return q.show("health", title, body.Processes, body.Lanes, body.Found)
}

// readFigure says where lists and usage are read.
func readFigure(r tenant.ReadStatus) figure {
	most := "; it may be " + lasting(r.MaxLag) + " behind"
	switch {
	case r.Replica && r.Lag == 0:
		return figure{"Lists are read from", "the replica", "which has everything" + most}
	case r.Replica:
		return figure{"Lists are read from", "the replica", lasting(r.Lag) + " behind" + most}
	case r.Lag > 0:
		return figure{"Lists are read from", "the primary", "the replica is " + lasting(r.Lag) + " behind" + most}
	}
	return figure{"Lists are read from", "the primary", "the replica does not answer, or is none; the log says why"}
}

// state says what a page shows of the Verify of this process.
func (v *verifying) state(zone *time.Location) (running bool, found *table) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil && len(v.found) == 0 {
		return v.running, nil
	}
	t := &table{ID: "differences", Caption: "What the verify of " + exactly(v.ended, zone) + " found", Head: heads("Tenant", "Where", "Figure", "#Stands", "#Should be"),
		Empty: "It did not come to its end; the log says why."}
	for _, f := range v.found[:min(len(v.found), 200)] {
		t.Rows = append(t.Rows, []cell{named(f.TenantID, "no tenant, or a deleted one"), text(f.Where), text(f.Column), number(f.Have), number(f.Want)})
	}
	return v.running, t
}

// verify begins to verify the books.
func (d *dashboard) verify(q *request) error {
	if !q.viewer.All {
		return errNotFound
	}
	if !q.viewer.may(Operate) {
		return errNotYours
	}
	v := &d.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.running {
		v.running = true
		ctx := tenant.ContextWithActor(context.WithoutCancel(q.Context()), q.viewer.Actor)
		go func() {
			found, err := d.ledger.Verify(ctx)
			if err != nil {
				d.log.ErrorContext(ctx, "tenantui: Verify did not come to its end", "error", err)
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.running, v.found, v.err, v.ended = false, found, err, time.Now()
		}()
	}
	return q.see("health", "done", "verify")
}
