package books

import (
	"context"
	"time"

	"github.com/llmtenant/tenant/internal/period"
)

// The hours since the last folded day are folded too, but of everybody only: a question about all tenants would otherwise add up all
// that they have used since, row by row, and there are more of these rows the more calls there are. They are those of UTC, as the
// roll-up's are, and go when their day is folded.

const hoursZone = "UTC"

// mostHours is how far back hours are folded, where days are not.
const mostHours = 48 * time.Hour

func hoursOfEverybody() record {
	return record{tenant: Everybody, zone: hoursZone, unit: period.Hour}
}

// hasHours reports whether a question can be answered from folded hours.
func (q *Question) hasHours() bool {
	of := hoursOfEverybody()
	return q.Everybody && q.tag() == of.tag && (len(q.By) < 2 || q.By[0].Dimension != ByTenant && q.By[1].Dimension != ByTenant)
}

// hours folds those that are over since the last day that is folded. It reports whether there are more to fold.
func (f *folder) hours(ctx context.Context, until time.Time) (more bool, err error) {
	of := hoursOfEverybody()
	r := f.record(&of)
	from := f.until.Add(-mostHours)
	if days := f.record(&record{tenant: Everybody, zone: f.zones.Ledger, unit: period.Day}); days != nil && days.to.After(from) {
		from = days.to
	}
	if from = ceil(from, time.Hour); r.from.Before(from) {
		left := from
		if r.from.IsZero() {
			left = latest // what a record has left that is gone
		}
		if _, err := f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_windows WHERE time_zone = ? AND window_unit = ? AND tag = ? AND window_start < ?`),
			r.zone, r.unit.String(), r.tag, f.Time(left)); err != nil {
			return false, err
		}
		if r.from = from; r.to.Before(from) {
			r.to = from
		}
		if err := f.store(ctx, r); err != nil {
			return false, err
		}
	}
	for {
		at, err := f.nextHour(ctx, r)
		if err != nil || at.IsZero() {
			return false, err
		}
		end := at.Add(time.Hour)
		if end.After(f.until) {
			return false, nil
		}
		if time.Now().After(until) {
			return true, nil
		}
		if _, err := f.fold(ctx, r, []time.Time{at, end}); err != nil {
			return false, err
		}
		r.to = end
		if err := f.store(ctx, r); err != nil {
			return false, err
		}
	}
}
