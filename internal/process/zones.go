package process

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
)

// Zones are the time zones of tenants, loaded once each.
type Zones struct {
	Load     func(name string) (*time.Location, error) // period.LoadZone where it is nil
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

// Init loads the zone of tenants that have none of their own.
func (z *Zones) Init(name string, log *slog.Logger) error {
	if z.Load == nil {
		z.Load = period.LoadZone
	}
	loc, err := z.Load(name)
	z.fallback, z.log, z.told = loc, log, map[string]bool{}
	z.loaded.Store(name, loadedZone{loc, true})
	return err
}

// Location returns the zone of a name. One that another process could load, but this one cannot, is a matter for the
// log: windows that are open keep the end that is stored with them.
func (z *Zones) Location(name string) *time.Location {
	if name == "" {
		return z.fallback
	}
	if loc, ok := z.loaded.Load(name); ok {
		return loc.(loadedZone).Location
	}
	loc, err := z.Load(name)
	if err != nil {
		z.log.Error("tenant: a tenant's time zone cannot be loaded; the ledger's is used", "zone", name, "error", err)
		loc = z.fallback
	}
	z.loaded.Store(name, loadedZone{loc, err == nil})
	return loc
}

// yearsAhead is how far processes compare their time zones, beyond the present year.
const yearsAhead = 5

// Seen is how a process sees the time zones that it uses: by name, the offsets of the present year and of those after it,
// after the year in which they begin; empty where it does not know the zone.
type Seen map[string]string

// Seen returns how this process sees its zones at a time.
func (z *Zones) Seen(now time.Time) Seen {
	s := Seen{}
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

// Differences returns the zones that two processes use and see otherwise, with the first year in which they do; 0 where
// one of the two does not know the zone.
func (s Seen) Differences(other Seen) map[string]int {
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

// byYear takes a text of Seen apart.
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

// SeenBy is how another process has stored that it sees its zones.
func SeenBy(p book.Process) Seen {
	var s Seen
	if json.Unmarshal([]byte(p.Zones), &s) != nil {
		return nil // of a version that stores none, or otherwise
	}
	return s
}

// Text is how it is stored with a heartbeat.
func (s Seen) Text() string {
	text, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(text)
}

// Tell reports whether nothing was told of a zone so far.
func (z *Zones) Tell(name string) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.told[name] {
		return false
	}
	z.told[name] = true
	return true
}
