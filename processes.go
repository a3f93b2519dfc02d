package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Process is a process that has made calls on a ledger's database, and has not closed its ledger.
type Process struct {
	ID        string
	Own       bool // it is the one that asks
	StartedAt time.Time
	BeatAt    time.Time     // when its last heartbeat was, by the database's clock
	Lease     time.Duration // see WithLease
	Alive     bool          // its last heartbeat is no older than its lease; its calls are ended by others otherwise

	// OtherTimeZones are those that this process and the one that asks both use, and in which they have other days, because
	// their zone data are of different versions. See [TimeZoneDiffersEvent].
	OtherTimeZones []string
}

// Processes returns the processes that have the ledger of db open, and those that were killed and are not forgotten yet, the
// oldest first: for status pages. It writes nothing, and reads where [Cost] reads.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func Processes(ctx context.Context, db *gorm.DB) ([]Process, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	processes, err := q.processes(ctx)
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	return processes, nil
}

func (q *question) processes(ctx context.Context) ([]Process, error) {
	rows, err := q.books.Conn.QueryContext(ctx, `SELECT CAST(p.id AS text), p.started_at, p.beat_at, p.lease_ms, p.zones, `+q.dialect.Clock+`
		FROM llm_processes p ORDER BY p.started_at, p.id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	own := q.zones.seen(time.Now())
	var all []Process
	for rows.Next() {
		var (
			p     Process
			row   book.Process
			lease int64
			now   time.Time
		)
		if err := rows.Scan(&p.ID, sqldb.Instant(&p.StartedAt), sqldb.Instant(&p.BeatAt), &lease, &row.Zones, sqldb.Instant(&now)); err != nil {
			return nil, err
		}
		if row.ID, err = uuid.Parse(p.ID); err != nil {
			return nil, fmt.Errorf("the id of a process: %w", err)
		}
		p.Own, p.Lease = row.ID == q.lanes.ID, time.Duration(lease)*time.Millisecond
		p.Alive = now.Sub(p.BeatAt) < p.Lease
		p.OtherTimeZones = sortedKeys(own.differences(seenBy(row)))
		all = append(all, p)
	}
	return all, rows.Err()
}

// zones are the time zones of tenants, loaded once each.
type zones struct {
	load     func(name string) (*time.Location, error)
	fallback *time.Location
	log      *slog.Logger
	loaded   sync.Map // name → loadedZone

	mu   sync.Mutex
	told map[string]bool // those that another process was found to see otherwise
}

type loadedZone struct {
	*time.Location
	known bool
}

func (z *zones) init(name string, log *slog.Logger) error {
	if z.load == nil {
		z.load = period.LoadZone
	}
	loc, err := z.load(name)
	z.fallback, z.log, z.told = loc, log, map[string]bool{}
	z.loaded.Store(name, loadedZone{loc, true})
	return err
}

// location returns the zone of a name. One that another process could load, but this one cannot, is a matter for the
// log: windows that are open keep the end that is stored with them.
func (z *zones) location(name string) *time.Location {
	if name == "" {
		return z.fallback
	}
	if loc, ok := z.loaded.Load(name); ok {
		return loc.(loadedZone).Location
	}
	loc, err := z.load(name)
	if err != nil {
		z.log.Error("tenant: a tenant's time zone cannot be loaded; the ledger's is used", "zone", name, "error", err)
		loc = z.fallback
	}
	z.loaded.Store(name, loadedZone{loc, err == nil})
	return loc
}

// yearsAhead is how far processes compare their time zones, beyond the present year.
const yearsAhead = 5

// zonesSeen is how a process sees the time zones that it uses: by name, the offsets of the present year and of those after it,
// after the year in which they begin; empty where it does not know the zone.
type zonesSeen map[string]string

// seen returns how this process sees its zones at a time.
func (z *zones) seen(now time.Time) zonesSeen {
	s := zonesSeen{}
	year := now.UTC().Year()
	z.loaded.Range(func(name, loc any) bool {
		text := ""
		if zone := loc.(loadedZone); zone.known {
			text = fmt.Sprint(year, " ", strings.Join(period.Offsets(zone.Location, year, 1+yearsAhead), " "))
		}
		s[name.(string)] = text
		return true
	})
	return s
}

// differences returns the zones that two processes use and see otherwise, with the first year in which they do; 0 where
// one of the two does not know the zone.
func (s zonesSeen) differences(other zonesSeen) map[string]int {
	found := map[string]int{}
	for name, own := range s {
		theirs, both := other[name]
		if !both || own == theirs {
			continue
		}
		if own == "" || theirs == "" {
			found[name] = 0
			continue
		}
		mine := byYear(own)
		for year, text := range byYear(theirs) {
			first, met := found[name]
			if before, same := mine[year]; same && before != text && (!met || year < first) {
				found[name] = year
			}
		}
	}
	return found
}

// byYear takes a text of zonesSeen apart.
func byYear(text string) map[int]string {
	years := map[int]string{}
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return years
	}
	first, err := strconv.Atoi(fields[0])
	if err != nil {
		return years // of a later version
	}
	for i, offsets := range fields[1:] {
		years[first+i] = offsets
	}
	return years
}

// seenBy is how another process has stored that it sees its zones.
func seenBy(p book.Process) zonesSeen {
	var s zonesSeen
	if json.Unmarshal([]byte(p.Zones), &s) != nil {
		return nil // of a version that stores none, or otherwise
	}
	return s
}

// seenText is how this process sees its zones, as it is stored with its heartbeat.
func (l *Ledger) seenText() string {
	text, err := json.Marshal(l.zones.seen(time.Now()))
	if err != nil {
		return ""
	}
	return string(text)
}

// TimeZoneDiffersEvent says that another living process on this ledger's database has other days in a time zone: their
// zone data are of different versions. It comes once for each zone in each of the two, and the ledger's logger has it too.
// Until both have the same zone data, a window ends where its stored end is, and the next one ends where whichever process
// opens it sees the end of the day.
type TimeZoneDiffersEvent struct {
	TimeZone string // an IANA name

	// Year is the first one in which the offsets differ; 0 where one of the two processes does not know the zone.
	Year int

	// ProcessID and OtherProcessID are those of [Process].
	ProcessID, OtherProcessID string
}

func (*TimeZoneDiffersEvent) event() {}

// compareZones looks at how other living processes see the zones that this one uses.
func (l *Ledger) compareZones(living []book.Process) {
	own := l.zones.seen(time.Now())
	for _, p := range living {
		differences := own.differences(seenBy(p))
		for _, name := range sortedKeys(differences) {
			if !l.zones.tell(name) {
				continue
			}
			e := &TimeZoneDiffersEvent{TimeZone: name, Year: differences[name], ProcessID: l.lanes.ID.String(), OtherProcessID: p.ID.String()}
			l.options.log.Warn("tenant: another process has other days in a time zone, by zone data of another version; "+
				"a window ends where its stored end is: give both the same zone data",
				"zone", e.TimeZone, "year", e.Year, "process", e.ProcessID, "other", e.OtherProcessID)
			l.observe(context.Background(), e)
		}
	}
}

// tell reports whether nothing was told of a zone so far.
func (z *zones) tell(name string) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.told[name] {
		return false
	}
	z.told[name] = true
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
