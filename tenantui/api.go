package tenantui

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

// answer writes what a program has asked for.
func (q *request) answer(v any) error {
	q.w.Header().Set("Content-Type", "application/json")
	if q.status != 0 {
		q.w.WriteHeader(q.status)
	}
	return json.NewEncoder(q.w).Encode(v)
}

// program reports whether the request is one of a program, which reads JSON.
func (q *request) program() bool { return strings.HasPrefix(q.URL.Path, "/api/") }

// apiFigures are sums over calls, as a customer sees them: what they cost the host is not among them.
type apiFigures struct {
	Charge   string           `json:"charge"`
	Tokens   int64            `json:"tokens"`
	Calls    int64            `json:"calls"`
	Errors   int64            `json:"errors"`
	Refusals int64            `json:"refusals"`
	Classes  map[string]int64 `json:"classes"`
}

func figuresOf(m tenant.Measures) apiFigures {
	f := apiFigures{plainDecimal(m.Charge), m.Tokens, m.Calls, m.Errors, m.Refusals, map[string]int64{}}
	u := m.Usage
	for _, c := range usageClasses {
		if n := *c.of(&u); n != 0 {
			f.Classes[classKey(c.name)] = n
		}
	}
	for unit, n := range u.Units.All() {
		f.Classes[string(unit)] = n
	}
	return f
}

// classKey is the name of a class for programs.
func classKey(name string) string { return strings.NewReplacer(", ", "_", " ", "_").Replace(name) }

type apiRow struct {
	Keys map[string]string `json:"keys"`
	apiFigures
}

type apiUsageAnswer struct {
	Tenant   string     `json:"tenant"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	TimeZone string     `json:"time_zone"`
	Rows     []apiRow   `json:"rows"`
	Total    apiFigures `json:"total"`
}

// apiGroups are the groups that a program may ask for, by name.
var apiGroups = map[string]tenant.Group{
	"tenant": tenant.ByTenant, "agent": tenant.ByAgent, "model": tenant.ByModel, "hour": tenant.ByHour, "day": tenant.ByDay, "week": tenant.ByWeek, "month": tenant.ByMonth,
}

func (p *portal) apiUsage(q *request) error {
	id, _, err := q.customer()
	if err != nil {
		return err
	}
	zone, err := q.zone(id)
	if err != nil {
		return err
	}
	period, err := q.dates(zone)
	if err != nil {
		return err
	}
	if period == nil {
		period = spansOfTime[1].period(q.now, zone)
	}
	var names []string
	if by := q.query("by"); by != "" {
		names = strings.Split(by, ",")
	}
	query := asking{tenant: id, zone: zone}.query(period)
	query.OrderBy = tenant.ChargeMeasure
	for _, name := range names {
		g, ok := apiGroups[name]
		if !ok {
			return bad("by: the group %.40q is none", name)
		}
		query.By = append(query.By, g)
	}
	answer, err := q.ask(query)
	if err != nil {
		if mistake(err) {
			err = badRequest{err}
		}
		return err
	}
	out := apiUsageAnswer{Tenant: string(id), From: answer.From, To: answer.To, TimeZone: answer.TimeZone, Rows: []apiRow{}, Total: figuresOf(answer.Total)}
	for _, r := range answer.Rows {
		row := apiRow{map[string]string{}, figuresOf(r.Measures)}
		for i, name := range names {
			row.Keys[name] = r.Keys[i]
		}
		out.Rows = append(out.Rows, row)
	}
	return q.answer(out)
}

type apiLimit struct {
	Tenant    string     `json:"tenant"`
	Window    string     `json:"window"`
	Metric    string     `json:"metric"`
	Agent     string     `json:"agent"`
	Model     string     `json:"model"`
	Limit     string     `json:"limit"`
	Spent     string     `json:"spent"`
	Held      string     `json:"held"`
	Remaining string     `json:"remaining"`
	ResetsAt  *time.Time `json:"resets_at"`
}

type apiLimitsAnswer struct {
	Tenant      string     `json:"tenant"`
	Enforcement string     `json:"enforcement"`
	Suspended   bool       `json:"suspended"`
	Limits      []apiLimit `json:"limits"`
}

func (p *portal) apiLimits(q *request) error {
	id, _, err := q.customer()
	if err != nil {
		return err
	}
	status, err := tenant.BudgetStatus(q.Context(), q.db, id)
	if err != nil {
		return err
	}
	out := apiLimitsAnswer{string(id), string(status.Enforcement), status.Suspended, []apiLimit{}}
	for _, l := range status.Limits {
		if seen, err := q.allowed(q.Context(), tenant.ID(l.TenantID)); err != nil {
			return err
		} else if !seen {
			continue
		}
		limit := apiLimit{
			l.TenantID, string(l.Window), string(l.Metric), l.Agent, l.Model, plainDecimal(l.Limit), plainDecimal(l.Spent), plainDecimal(l.Held), plainDecimal(l.Remaining), nil,
		}
		if !l.ResetsAt.IsZero() {
			at := l.ResetsAt
			limit.ResetsAt = &at
		}
		out.Limits = append(out.Limits, limit)
	}
	return q.answer(out)
}

type apiLine struct {
	Tenant       string `json:"tenant"`
	Model        string `json:"model"`
	Calls        int64  `json:"calls"`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	Charge       string `json:"charge"`
}

type apiInvoiceAnswer struct {
	Tenant   string    `json:"tenant"`
	Month    string    `json:"month"`
	TimeZone string    `json:"time_zone"`
	Lines    []apiLine `json:"lines"`
	Total    string    `json:"total"`
}

func (p *portal) apiInvoice(q *request) error {
	id, _, err := q.customer()
	if err != nil {
		return err
	}
	zone, err := q.zone(id)
	if err != nil {
		return err
	}
	i, err := q.invoiceOf(id, zone)
	if err != nil {
		return err
	}
	out := apiInvoiceAnswer{string(id), i.month.Format("2006-01"), zone.String(), []apiLine{}, plainDecimal(i.answer.Total.Charge)}
	for _, r := range i.answer.Rows {
		if r.Charge.IsZero() && r.Calls == 0 {
			continue
		}
		out.Lines = append(out.Lines, apiLine{r.Keys[0], r.Keys[1], r.Calls, r.Usage.InputTokens(), r.Usage.OutputTokens(), plainDecimal(r.Charge)})
	}
	return q.answer(out)
}

type apiTenant struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Parent    string `json:"parent"`
	Suspended bool   `json:"suspended"`
}

type apiTenantsAnswer struct {
	Tenants []apiTenant `json:"tenants"`
	Next    string      `json:"next"`
}

// apiTenants lists those below the customer's own, page by page.
func (p *portal) apiTenants(q *request) error {
	id, _, err := q.customer()
	if err != nil {
		return err
	}
	page, err := tenant.ListTenants(q.Context(), q.db, tenant.TenantList{Below: id, After: q.query("after"), Limit: listed})
	if err != nil {
		return err
	}
	out := apiTenantsAnswer{Tenants: []apiTenant{}}
	for _, l := range page {
		out.Tenants = append(out.Tenants, apiTenant{l.TenantID, l.Name, l.ParentID, l.Suspended})
	}
	if len(page) == listed {
		out.Next = page[listed-1].TenantID
	}
	return q.answer(out)
}

// apiError is what is answered in the place of what was asked for.
type apiError struct {
	Error string `json:"error"`
}

func (q *request) failProgram(status int, text string) {
	q.status = status
	if !slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusForbidden, http.StatusServiceUnavailable}, status) {
		text = "something went wrong"
	}
	_ = q.answer(apiError{text})
}
