package directory

import (
	"context"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Days says in which time zone the days of tenants without one of their own begin, and on which day weeks do. They stand in the row of
// the ledger's defaults, where they are others than UTC and Monday, or once were.
type Days struct {
	Zone      string
	WeekStart time.Weekday
}

// Days returns what is saved.
func (d Directory) Days(ctx context.Context, c sqldb.Conn) (Days, error) {
	saved := Days{"UTC", time.Monday}
	err := sqldb.EachRow(ctx, c, d.Bind(`SELECT time_zone, week_start FROM llm_tenants WHERE id = ?`), []any{book.Defaults.String()}, func(row sqldb.Row) error {
		var zone, start string
		err := row.Scan(&zone, &start)
		if zone != "" {
			saved.Zone = zone
		}
		if start == weekStart(time.Sunday) {
			saved.WeekStart = time.Sunday
		}
		return err
	})
	return saved, err
}

// SaveDays saves them, where others are saved. It runs in a transaction of its caller.
func (d Directory) SaveDays(ctx context.Context, c sqldb.Conn, days Days) error {
	was, err := d.Days(ctx, c)
	if err != nil || was == days {
		return err
	}
	id := book.Defaults.String()
	if _, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, time_zone, week_start, updated_at) VALUES (?, ?, ?, `+d.Clock+`) ON CONFLICT (id) DO UPDATE
		SET time_zone = excluded.time_zone, week_start = excluded.week_start, updated_at = excluded.updated_at`), id, days.Zone, weekStart(days.WeekStart)); err != nil {
		return err
	}
	return d.Audit(ctx, c, Change{Tenant: id, Action: "Open", Was: was.state(), Became: days.state()})
}

func (d Days) state() state {
	return state{"time_zone": d.Zone, "week_start": weekStart(d.WeekStart)}
}

func weekStart(day time.Weekday) string { return strings.ToLower(day.String()) }
