package tenantui

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

// Customer is whose page the portal shows.
type Customer struct {
	// Tenant is the customer's: the page is of it and of those below it, and of nobody else. Nil sees nothing.
	Tenant tenant.Tenant

	// Actor says who of the customer's people it is: with whatever he changes. At most 255 bytes.
	Actor string

	// Configure lets him change the limits of the tenants below his own, suspend them and let them go on; never his own. It needs
	// an Actor. Defaults to off: he looks.
	Configure bool
}

// PortalOptions are those of [NewPortal].
type PortalOptions struct {
	// Session says whose page a request is for, by the host's own session. It is called for each request and required. An error,
	// like a Customer without a Tenant, is answered with 403; the error goes to the log.
	Session func(*http.Request) (Customer, error)

	// Name is that of the host's product, in the title and at the top. Defaults to "Usage".
	Name string

	// Theme sets CSS variables: --tu-accent and --tu-on-accent, the colour of links and bars and that of text on it, both with -dark
	// for the dark theme, --tu-font and --tu-radius. An accent without one for the dark theme gets a lighter one there. Defaults to
	// the dashboard's own.
	Theme map[string]string

	// FrameAncestors are the origins whose pages may show the portal in a frame, such as "https://app.example.com". Defaults to
	// none but its own.
	FrameAncestors []string

	// URL is the address at which browsers find the portal, for the links of the fragment: "/account/usage/". Defaults to the
	// folder of the fragment's own address.
	URL string

	// Prefix, TrustedOrigins and Log are like those of [Options].
	Prefix         string
	TrustedOrigins []string
	Log            *slog.Logger
}

var (
	variable    = regexp.MustCompile(`^--tu-[a-z-]{1,32}$`)
	styleValue  = regexp.MustCompile(`^[a-zA-Z0-9#%.,()"' -]{1,200}$`)
	frameOrigin = regexp.MustCompile(`^https?://[a-zA-Z0-9.*-]+(:[0-9]{1,5})?$`)
)

// NewPortal returns the page that a host shows its customers, scoped to one tenant and those below it: what they were charged, their
// limits, the lines of their invoices, and the same as JSON below api/, which openapi.json describes. What calls cost the host is
// nowhere in it. The page fragment is the same without a frame, for a page of the host's own.
//
// Errors: [tenant.ErrInvalidOption], for a ledger that is nil, for options without Session, and for an option that is invalid.
func NewPortal(ledger *tenant.Ledger, o PortalOptions) (http.Handler, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: tenantui.NewPortal: "+format, append([]any{tenant.ErrInvalidOption}, args...)...)
	}
	if o.Session == nil {
		return nil, invalid("PortalOptions.Session is nil: it says whose page it is")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Theme)) {
		if !variable.MatchString(name) || !styleValue.MatchString(o.Theme[name]) {
			return nil, invalid("Theme: %q: %q is no variable that begins with --tu-, or its value has other characters than colours, lengths and fonts need", name, o.Theme[name])
		}
	}
	ancestors := "'self'"
	for _, origin := range o.FrameAncestors {
		if !frameOrigin.MatchString(origin) {
			return nil, invalid("FrameAncestors: %q is no origin such as https://app.example.com", origin)
		}
		ancestors += " " + origin
	}
	s, err := newSite("tenantui.NewPortal", ledger, o.Prefix, o.TrustedOrigins, o.Log)
	if err != nil {
		return nil, err
	}
	p := &portal{site: s, options: o}
	if p.options.Name == "" {
		p.options.Name = "Usage"
	}
	s.portal = p
	s.authorize = func(r *http.Request) (Viewer, error) {
		c, err := o.Session(r)
		v := Viewer{Actor: c.Actor}
		if c.Tenant != nil {
			v.Tenants = []tenant.Tenant{c.Tenant}
		}
		if c.Configure {
			v.Roles = []Role{Configure}
		}
		return v, err
	}
	s.grants = func(q *request, act string, id tenant.ID) bool {
		own, err := q.keys()
		return err == nil && slices.Contains([]string{"limits", "suspend", "resume"}, act) && !slices.Contains(own, string(id))
	}
	s.pages = map[string]func(*request) error{
		"GET /": p.usage, "GET /tenant": p.usage, "GET /invoice": p.invoice, "GET /fragment": p.fragment,
		"GET /act": s.act, "POST /act": s.act, "GET /theme.css": p.theme, "GET /openapi.json": p.openAPI,
		"GET /api/usage": p.apiUsage, "GET /api/limits": p.apiLimits, "GET /api/invoice": p.apiInvoice, "GET /api/tenants": p.apiTenants,
	}
	return s.protect(s, ancestors), nil
}

// portal is the customers' pages.
type portal struct {
	*site
	options PortalOptions
}

type portalBody struct {
	tenantBody
	Own     bool
	Invoice string
	Base    string // of the fragment's links
	Style   []string
}

// customer is the tenant that a page of the portal is about: the customer's own, or the one of the address that stands below it.
func (q *request) customer() (tenant.ID, bool, error) {
	own, err := q.keys()
	if err != nil {
		return "", false, err
	}
	if len(own) == 0 {
		return "", false, errNotFound
	}
	id := q.query("id")
	if id == "" {
		return tenant.ID(own[0]), true, nil
	}
	seen, err := q.own(id)
	return seen, slices.Contains(own, id), err
}

func (p *portal) usage(q *request) error {
	body, zone, err := p.body(q)
	if err != nil {
		return err
	}
	t := page{Title: body.Name, Nav: "usage", Zone: zone.String(), Body: body, Done: doneText(q.query("done"))}
	return q.show("portal", t, body.Limits, body.Models, body.Agents, body.Below, body.Spend.Table)
}

func (p *portal) body(q *request) (*portalBody, *time.Location, error) {
	id, own, err := q.customer()
	if err != nil {
		return nil, nil, err
	}
	b, zone, err := q.about(id)
	if err != nil {
		return nil, nil, err
	}
	body := &portalBody{tenantBody: *b, Own: own, Invoice: address("invoice", "id", q.query("id"))}
	if body.Below != nil { // the list of tenants is the dashboard's
		body.Below.Next = ""
	}
	return body, zone, nil
}

// fragment is the page without a frame. Its links lead to the portal.
func (p *portal) fragment(q *request) error {
	body, zone, err := p.body(q)
	if err != nil {
		return err
	}
	base := p.options.URL
	if base == "" {
		asked, _, _ := strings.Cut(q.RequestURI, "?")
		base = (&url.URL{Path: path.Dir(asked)}).String()
	}
	body.Base = strings.TrimRight(base, "/") + "/"
	body.Style = []string{body.Base + "assets/style.css?v=" + q.version}
	if len(p.options.Theme) > 0 {
		body.Style = append(body.Style, body.Base+"theme.css")
	}
	for _, t := range []*table{body.Limits, body.Spend.Table} {
		if len(t.Rows) > 0 {
			t.CSV = body.Base + strings.TrimPrefix(address("./", "csv", t.ID, "id", q.query("id")), "./")
		}
		for _, row := range t.Rows {
			for i := range row {
				if row[i].Link != "" {
					row[i].Link = body.Base + row[i].Link
				}
			}
		}
	}
	return q.show("fragment", page{Title: body.Name, Zone: zone.String(), Body: body})
}

// theme is the host's colours.
func (p *portal) theme(q *request) error {
	q.w.Header().Set("Content-Type", "text/css; charset=utf-8")
	theme := maps.Clone(p.options.Theme)
	if accent, set := theme["--tu-accent"]; set && theme["--tu-accent-dark"] == "" {
		theme["--tu-accent-dark"] = "color-mix(in oklab, " + accent + " 45%, white)"
	}
	var b strings.Builder
	b.WriteString(":root {\n")
	for _, name := range slices.Sorted(maps.Keys(theme)) {
		b.WriteString("  " + name + ": " + theme[name] + ";\n")
	}
	b.WriteString("}\n")
	_, err := q.w.Write([]byte(b.String()))
	return err
}

type invoiceBody struct {
	Name   string
	Back   string
	Months []choice
	Lines  *table
	Total  string
}

// invoiced is what a customer was charged in a month.
type invoiced struct {
	month  time.Time
	name   string
	answer tenant.UsageAnswer
}

const months = 12 // that can be chosen

// invoiceOf is the month that the address asks for.
func (q *request) invoiceOf(id tenant.ID, zone *time.Location) (invoiced, error) {
	now := q.now.In(zone)
	i := invoiced{month: time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, zone)}
	if m := q.query("month"); m != "" {
		month, err := time.ParseInLocation("2006-01", m, zone)
		if err != nil || month.Year() < 2000 || month.Year() > 9000 {
			return i, bad("%.40q is no month such as 2026-03", m)
		}
		i.month = month
	}
	last := i.month.AddDate(0, 1, -1)
	i.name = i.month.Format("January 2006")
	a := asking{tenant: id, zone: zone}
	query := a.query(tenant.Date(i.month.Year(), i.month.Month(), 1).Through(last.Year(), last.Month(), last.Day()), tenant.ByTenant, tenant.ByModel)
	query.OrderBy = tenant.ChargeMeasure
	var err error
	i.answer, err = q.ask(query)
	return i, err
}

// lineName is what a line of an invoice is for.
func lineName(model string) string {
	if model == "" {
		return "credits, debits and calls without a model"
	}
	return model
}

func (p *portal) invoice(q *request) error {
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
	t := &table{ID: "lines", Caption: "Lines of " + i.name, Head: heads("For", "Model", "#Calls", "#Tokens in", "#Tokens out", "#US dollars"), Empty: "Nothing was used in this month."}
	for _, r := range i.answer.Rows {
		if r.Charge.IsZero() && r.Calls == 0 {
			continue
		}
		t.Rows = append(t.Rows, []cell{
			text(r.Keys[0]).whole(), text(lineName(r.Keys[1])).whole(), number(r.Calls), number(r.Usage.InputTokens()), number(r.Usage.OutputTokens()), exact(r.Charge),
		})
	}
	if len(t.Rows) > 0 {
		total := i.answer.Total
		t.Rows = append(t.Rows, []cell{text("Total"), named("", ""), number(total.Calls), number(total.Usage.InputTokens()), number(total.Usage.OutputTokens()), exact(total.Charge)})
	}
	body := invoiceBody{Name: display(string(id)), Back: address("tenant", "id", q.query("id")), Lines: t, Total: dollars(i.answer.Total.Charge)}
	if q.query("id") == "" {
		body.Back = "./"
	}
	first := time.Date(q.now.In(zone).Year(), q.now.In(zone).Month(), 1, 0, 0, 0, 0, zone)
	for n := range months {
		m := first.AddDate(0, -n, 0)
		body.Months = append(body.Months, choice{m.Format("Jan 2006"), q.with("month", m.Format("2006-01")), m.Equal(i.month)})
	}
	return q.show("invoice", page{Title: "Invoice lines", Nav: "invoice", Zone: zone.String(), Body: body}, t)
}

// openAPI is the description of what is below api/.
func (p *portal) openAPI(q *request) error {
	b, err := files.ReadFile("assets/openapi.json")
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "application/json")
	_, err = q.w.Write(b)
	return err
}

// plainDecimal is an amount as it stands in JSON: text, because many readers take a number for a float.
func plainDecimal(d decimal.Decimal) string { return d.String() }
