package tenant

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("the time zone %q is not an IANA name such as Europe/Berlin or UTC", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("the time zone %q is not known here: %w", name, err)
	}
	return loc, nil
}

// zones are the time zones of tenants, loaded once each.
type zones struct {
	fallback *time.Location
	log      *slog.Logger
	loaded   sync.Map // name → *time.Location
}

func (z *zones) init(name string, log *slog.Logger) error {
	loc, err := loadZone(name)
	z.fallback, z.log = loc, log
	return err
}

// location returns the zone of a name. One that another process could load, but this one cannot, is a matter for the
// log: windows that are open keep the end that is stored with them.
func (z *zones) location(name string) *time.Location {
	if name == "" {
		return z.fallback
	}
	if loc, ok := z.loaded.Load(name); ok {
		return loc.(*time.Location)
	}
	loc, err := loadZone(name)
	if err != nil {
		z.log.Error("tenant: a tenant's time zone cannot be loaded; the ledger's is used", "zone", name, "error", err)
		loc = z.fallback
	}
	z.loaded.Store(name, loc)
	return loc
}
