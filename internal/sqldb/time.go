package sqldb

import (
	"context"
	"fmt"
	"time"
)

// layout is how SQLite keeps times: of one length, so that they sort as text.
const layout = "2006-01-02 15:04:05.000000+00:00"

// Text returns a time as it is stored, in UTC and whole microseconds. Bind this, not a time.Time: drivers write those
// without trailing zeros, which compares wrongly where both are of the same second.
func Text(t time.Time) string { return t.UTC().Format(layout) }

// Instant is the target to scan a stored time into, whichever way the driver hands it out. NULL is the zero time.
func Instant(t *time.Time) any { return (*instant)(t) }

// Times returns times as an array of PostgreSQL's.
func Times(times []time.Time) string {
	b := []byte{'{'}
	for i, t := range times {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), Text(t)...), '"')
	}
	return string(append(b, '}'))
}

// Ranges returns the ranges that begin at some times, each of which ends where the next one begins, and which together lie
// between two times, as a document of JSON.
func Ranges(starts []time.Time, from, to time.Time) string {
	b := []byte{'['}
	for i, start := range starts {
		end := to
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		if start.Before(from) {
			start = from
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(append(append(b, `["`...), Text(start)...), `","`...), Text(end)...), `"]`...)
	}
	return string(append(b, ']'))
}

type instant time.Time

// Scan implements sql.Scanner.
func (i *instant) Scan(value any) error {
	var text string
	switch v := value.(type) {
	case nil:
		*i = instant{}
		return nil
	case time.Time:
		*i = instant(v.UTC())
		return nil
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("a time is stored as %T", value)
	}
	t, err := time.Parse("2006-01-02 15:04:05.999999999Z07:00", text)
	if err != nil {
		return fmt.Errorf("a time is stored in another form than %s: %w", layout, err)
	}
	*i = instant(t.UTC())
	return nil
}

// Pause waits, or returns the error of the context that has ended.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
