package tenantui

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/llmtenant/tenant"
)

// request is a request for a page of a viewer's.
type request struct {
	*site
	*http.Request
	w      http.ResponseWriter
	viewer Viewer
	now    time.Time
	status int      // of the answer, where it is not 200
	owned  []string // see keys
}

// page is what a template is given.
type page struct {
	Title string
	Nav   string // which part of the dashboard it belongs to
	Body  any

	// Zone is the name of the zone that the page's times are in.
	Zone string

	// Done says what was just done.
	Done string

	// Set by show.
	Actor   string
	Version string
	All     bool
	Portal  bool
	Brand   string // the name of the portal
	Theme   bool   // of the portal
}

// show renders a page, or the one of its tables that is asked for as a CSV.
func (q *request) show(name string, p page, tables ...*table) error {
	if id := q.URL.Query().Get("csv"); id != "" && q.status == 0 {
		for _, t := range tables {
			if t != nil && t.ID == id {
				return writeCSV(q.w, t)
			}
		}
		return errNotFound
	}
	for _, t := range tables {
		if t != nil && t.CSV == "" && len(t.Rows) > 0 && q.Method == http.MethodGet {
			t.CSV = q.with("csv", t.ID)
		}
	}
	p.Actor, p.Version, p.All = q.viewer.Actor, q.version, q.viewer.All
	if q.portal != nil {
		p.Portal, p.Brand, p.Theme = true, q.portal.options.Name, len(q.portal.options.Theme) > 0
	}
	var b bytes.Buffer // an error must not come in the middle of a page
	if err := q.templates.ExecuteTemplate(&b, name+".html", p); err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if q.status != 0 {
		q.w.WriteHeader(q.status)
	}
	_, err := q.w.Write(b.Bytes())
	return err
}

// with is the address of this page with one parameter changed; an empty value takes it away.
func (q *request) with(name, value string) string {
	v := q.URL.Query()
	for _, transient := range []string{"csv", "done"} {
		v.Del(transient)
	}
	if value == "" {
		v.Del(name)
	} else {
		v.Set(name, value)
	}
	base := "." + q.URL.Path
	if len(v) == 0 {
		return base
	}
	return base + "?" + v.Encode()
}

// see sends the browser to another page, after something was done.
func (q *request) see(page string, parameters ...string) error {
	// Not http.Redirect: it would make an absolute path of it, and the prefix may be taken off.
	q.w.Header().Set("Location", address(page, parameters...))
	q.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// own is the tenant that a page is about. It is one that the viewer sees: what an address says is not trusted.
func (q *request) own(id string) (tenant.ID, error) {
	if id == "" {
		return "", errNotFound
	}
	ok, err := q.allowed(q.Context(), tenant.ID(id))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", errNotFound
	}
	return tenant.ID(id), nil
}

// allowed reports whether a viewer sees a tenant: one of his own, or one that stands below one of them.
func (q *request) allowed(ctx context.Context, id tenant.ID) (bool, error) {
	if q.viewer.All {
		if id == tenant.Root {
			return true, nil
		}
		_, err := tenant.UUIDFor(ctx, q.db, id)
		return exists(err)
	}
	own, err := q.keys()
	if err != nil {
		return false, err
	}
	for range maxDepth {
		if slices.Contains(own, string(id)) {
			return true, nil
		}
		b, err := tenant.BudgetFor(ctx, q.db, id)
		if ok, err := exists(err); !ok {
			return false, err
		}
		if b.ParentID == "" {
			return false, nil
		}
		id = tenant.ID(b.ParentID)
	}
	return false, nil
}

// keys are the ids of the viewer's own tenants: those of records may have a namespace before what the records say.
func (q *request) keys() ([]string, error) {
	if q.owned == nil {
		q.owned = []string{}
		for _, t := range q.viewer.Tenants {
			if t == nil {
				continue
			}
			e, err := tenant.EffectiveBudget(q.Context(), q.db, t)
			if ok, err := exists(err); err != nil {
				return nil, err
			} else if ok && e.TenantID != "" {
				q.owned = append(q.owned, e.TenantID)
			}
		}
	}
	return q.owned, nil
}

// maxDepth is more than how many tenants can stand above each other.
const maxDepth = 16

// exists tells the errors that say that there is no such tenant from those that say nothing about it.
func exists(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, tenant.ErrNoBudget), errors.Is(err, tenant.ErrInvalidTenant), errors.Is(err, tenant.ErrUnknownTenant):
		return false, nil
	}
	return false, err
}

// zone is the one that a tenant's days and months begin in; that of the ledger without a tenant.
func (q *request) zone(t tenant.Tenant) (*time.Location, error) {
	e, err := tenant.EffectiveBudget(q.Context(), q.db, t)
	if err != nil {
		return nil, err
	}
	return time.LoadLocation(e.TimeZone)
}

// query is a parameter of the address.
func (q *request) query(name string) string { return q.URL.Query().Get(name) }
