package tenantui_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/tenantui"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

// portalPages are all addresses of the portal that show something of a tenant.
var portalPages = []string{"", "tenant", "invoice", "fragment", "api/usage", "api/limits", "api/invoice", "api/tenants"}

func TestNewPortal_RefusesWhatIsInvalid(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	session := func(*http.Request) (tenantui.Customer, error) { return tenantui.Customer{}, nil }
	for want, o := range map[string]tenantui.PortalOptions{
		"PortalOptions.Session is nil":       {},
		`Theme: "--accent"`:                  {Session: session, Theme: map[string]string{"--accent": "red"}},
		`Theme: "--tu-accent": "red;}body{`:  {Session: session, Theme: map[string]string{"--tu-accent": "red;}body{"}},
		`FrameAncestors: "app.example.com"`:  {Session: session, FrameAncestors: []string{"app.example.com"}},
		`FrameAncestors: "https://a.b; x y"`: {Session: session, FrameAncestors: []string{"https://a.b; x y"}},
	} {
		_, err := tenantui.NewPortal(ledger, o)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
}

func TestPortal_WithoutASessionShowsNothing(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	c := portal(t, ledger, tenantui.Customer{Actor: "x", Configure: true})
	for _, page := range append(portalPages, "openapi.json", "theme.css", "assets/style.css", "act?do=limits&id=acme") {
		require.Equal(t, http.StatusForbidden, c.get(page).status, page)
	}
}

func TestPortal_ReachesNothingOfAnotherTenantOnAnyRoute(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.Root, func(b *tenant.Budget) error {
		b.Limits.MonthlyCost = tenant.USD("123456")
		return nil
	}))
	uuid, err := tenant.UUIDFor(t.Context(), db, tenant.ID("globex"))
	require.NoError(t, err)
	page, err := tenant.ListTenants(t.Context(), db, tenant.TenantList{})
	require.NoError(t, err)
	for _, own := range []tenant.ID{"acme", "acme-support", "stark"} {
		c := portal(t, ledger, tenantui.Customer{Tenant: own, Actor: "jo", Configure: true})
		ids := []string{string(tenant.Root), string(uuid), "nobody", string(own) + " ", strings.ToUpper(string(own)), "\x00", strings.Repeat("x", 300)}
		for _, l := range page {
			if l.TenantID != string(own) && l.ParentID != string(own) {
				ids = append(ids, l.TenantID)
			}
		}
		require.Greater(t, len(ids), 12)
		for _, id := range ids {
			for _, route := range append(slices.Clone(portalPages), "act") {
				for _, query := range []url.Values{
					{"id": {id}}, {"id": {id}, "csv": {"limits"}}, {"id": {id}, "csv": {"lines"}}, {"id": {id}, "by": {"tenant"}}, {"id": {id}, "do": {"limits"}}, {"id": {id}, "do": {"suspend"}},
				} {
					r := c.get(route + "?" + query.Encode())
					require.Equal(t, http.StatusNotFound, r.status, "%s of %s: %q", route, own, id)
					require.NotContains(t, r.body, "$")
				}
			}
			for _, do := range []string{"limits", "suspend", "resume", "rename", "credit", "debit", "topup"} {
				r := c.post("act", url.Values{"do": {do}, "id": {id}, "reason": {"x"}, "sum": {"1"}, "to": {"y"}, "step": {"apply"}})
				require.Equal(t, http.StatusNotFound, r.status)
			}
		}
		for _, route := range append(slices.Clone(portalPages), "api/usage?by=tenant,model&from=2020-01-01&to=2030-01-01", "invoice?csv=lines", "?csv=limits", "api/tenants?after=a") {
			body := c.ok(route)
			for _, l := range page {
				if l.TenantID != string(own) && l.ParentID != string(own) {
					require.NotContains(t, body, `"`+l.TenantID+`"`, route)
					require.NotContains(t, body, ">"+l.TenantID+"<", route)
				}
			}
			require.NotContains(t, body, "123,456", route)
			require.NotContains(t, body, "llm_root", route)
		}
		for _, missing := range []string{"executions", "execution?id=x", "prices", "health", "tenants", "near", "audit?id=" + string(own)} {
			require.Equal(t, http.StatusNotFound, c.get(missing).status, "the dashboard's pages are not there")
		}
	}
}

func TestPortal_IsReadOnlyUnlessGranted(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	limits := func(id string) url.Values {
		return url.Values{"do": {"limits"}, "id": {id}, "window": {"day"}, "metric": {"cost"}, "amount": {"3"}, "agent": {""}, "model": {""}, "reason": {"less"}, "step": {"apply"}, "inherit": {"yes"}, "enforcement": {"hard"}}
	}
	for _, v := range []tenantui.Customer{{Tenant: tenant.ID("acme"), Actor: "jo"}, {Tenant: tenant.ID("acme"), Configure: true}} {
		c := portal(t, ledger, v)
		require.NotContains(t, c.ok("tenant?id=acme-support"), "act?do")
		require.Equal(t, http.StatusForbidden, c.post("act", limits("acme-support")).status)
	}
	c := portal(t, ledger, tenantui.Customer{Tenant: tenant.ID("acme"), Actor: "jo@acme.example", Configure: true})
	require.Equal(t, http.StatusForbidden, c.post("act", limits("acme")).status, "never his own")
	require.NotContains(t, c.ok(""), "act?do")
	for _, do := range []string{"topup", "credit", "debit", "rename"} {
		require.Equal(t, http.StatusForbidden, c.get("act?do="+do+"&id=acme-support").status, do)
	}
	require.Contains(t, c.ok("tenant?id=acme-support"), "act?do=limits")
	r := c.post("act", limits("acme-support"))
	require.Equal(t, http.StatusSeeOther, r.status, r.body)
	require.Equal(t, "tenant?done=limits&id=acme-support", r.header.Get("Location"))
	b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme-support"))
	require.NoError(t, err)
	require.Equal(t, "3", b.Limits.DailyCost.Decimal().String())
	require.Equal(t, "jo@acme.example", lastAudit(t, db, "acme-support").Actor)
}

func TestPortal_FiguresAddUp(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	c := portal(t, ledger, tenantui.Customer{Tenant: tenant.ID("acme")})
	answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Tenant: tenant.ID("acme"), Descendants: true, Period: tenant.ThisMonth, TimeZone: "Europe/Berlin"})
	require.NoError(t, err)
	var invoice struct {
		Lines []struct{ Charge string }
		Total string
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("api/invoice")), &invoice))
	require.Equal(t, answer.Total.Charge.String(), invoice.Total)
	sum := decimalOf(0, 0)
	for _, l := range invoice.Lines {
		sum = sum.Add(decimalText(t, l.Charge))
	}
	require.Equal(t, invoice.Total, sum.String())
	rows := c.rows("invoice?csv=lines")
	require.Equal(t, invoice.Total, rows[len(rows)-1][5])
	require.Len(t, rows, len(invoice.Lines)+2)
	require.Contains(t, c.ok(""), "<dt>This month</dt><dd>$"+answer.Total.Charge.StringFixed(2)+"</dd>")
	for page, want := range map[string]string{"invoice?month=2026-13": "is no month", "api/usage?by=secret": "the group", "api/usage?by=day,hour": "both of time", "api/usage?from=x": "is no date"} {
		r := c.get(page)
		require.Equal(t, http.StatusBadRequest, r.status, page)
		require.Contains(t, r.body, want)
	}
}

func TestPortal_SaysNothingOfWhatCallsCostTheHost(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.TenantTerms("acme", pricing.Terms{Factor: "1.37"}))
	require.NoError(t, err)
	_, ledger := uitest.Open(t, tenant.WithPrices(book))
	s, err := ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: "gpt-5.6-luna", Usage: tenant.Usage{Input: 123_457, Output: 7_001}})
	require.NoError(t, err)
	require.NotEqual(t, s.Cost.String(), s.Charge.String())
	c := portal(t, ledger, tenantui.Customer{Tenant: tenant.ID("acme")})
	for _, page := range append(slices.Clone(portalPages), "invoice?csv=lines", "?csv=models", "?csv=spend-table", "api/usage?by=model") {
		body := c.ok(page)
		require.NotContains(t, body, s.Cost.String(), page)
		require.NotContains(t, body, s.Cost.StringFixed(4), page)
		require.NotContains(t, strings.ToLower(body), "margin", page)
	}
	require.Contains(t, c.ok("api/invoice"), s.Charge.String())
	require.Contains(t, dashboard(t, ledger, staff).ok("execution?tenant=acme&id="+s.ExecutionID), s.Cost.String(), "staff sees both")
}

// fits says what does not fit a schema of the OpenAPI file.
func fits(t *testing.T, schemas map[string]any, schema map[string]any, value any, where string) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema, _ = schemas[ref[strings.LastIndex(ref, "/")+1:]].(map[string]any)
		require.NotNil(t, schema, ref)
	}
	if all, ok := schema["allOf"].([]any); ok {
		for _, s := range all {
			fits(t, schemas, s.(map[string]any), value, where)
		}
		return
	}
	switch v := value.(type) {
	case map[string]any:
		require.Equal(t, "object", schema["type"], where)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			require.Contains(t, v, name, where)
		}
		properties, _ := schema["properties"].(map[string]any)
		additional, _ := schema["additionalProperties"].(map[string]any)
		for name, of := range v {
			s, known := properties[name].(map[string]any)
			if !known {
				s = additional
			}
			if s != nil {
				fits(t, schemas, s, of, where+"."+name)
			}
		}
	case []any:
		require.Equal(t, "array", schema["type"], where)
		for _, of := range v {
			fits(t, schemas, schema["items"].(map[string]any), of, where+"[]")
		}
	case string:
		require.Contains(t, []any{"string", nil}, first(schema["type"]), where)
		if pattern, ok := schema["pattern"].(string); ok {
			require.Regexp(t, pattern, v, where)
		}
	case float64:
		require.Equal(t, "integer", schema["type"], where)
	case bool:
		require.Equal(t, "boolean", schema["type"], where)
	}
}

func first(v any) any {
	if list, ok := v.([]any); ok {
		return list[0]
	}
	return v
}

func TestPortal_AnswersAsItsOpenAPIFileSays(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	c := portal(t, ledger, tenantui.Customer{Tenant: tenant.ID("acme")})
	var api struct {
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("openapi.json")), &api))
	require.Len(t, api.Paths, 4)
	for path, methods := range api.Paths {
		for _, query := range []string{"", "?id=acme-support", "?by=day,model"} {
			r := c.get(strings.TrimPrefix(path, "/") + query)
			require.Equal(t, http.StatusOK, r.status, path)
			require.Equal(t, "application/json", r.header.Get("Content-Type"))
			require.NotContains(t, r.body, "margin")
			require.NotContains(t, r.body, `"cost":`, "what it costs the host is not the customer's to know")
			var value any
			require.NoError(t, json.Unmarshal([]byte(r.body), &value))
			schema := methods["get"]["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
			fits(t, api.Components.Schemas, schema, value, path)
		}
		r := c.get(strings.TrimPrefix(path, "/") + "?id=globex")
		require.Equal(t, http.StatusNotFound, r.status)
		require.JSONEq(t, `{"error": "There is no such page, or it is not yours to see."}`, r.body)
	}
}

func TestPortal_WearsTheHostsNameAndColours(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	h, err := tenantui.NewPortal(ledger, tenantui.PortalOptions{
		Session: func(*http.Request) (tenantui.Customer, error) {
			return tenantui.Customer{Tenant: tenant.ID("acme")}, nil
		},
		Name: "Acme <AI>", Theme: map[string]string{"--tu-accent": "#7a3e9d"}, FrameAncestors: []string{"https://app.example.com"}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/account/usage/", http.StripPrefix("/account/usage", h))
	c := client{t, mux}
	r := c.get("account/usage/")
	require.Contains(t, r.body, "Acme &lt;AI&gt;")
	require.Contains(t, r.body, `href="theme.css"`)
	require.Contains(t, r.header.Get("Content-Security-Policy"), "frame-ancestors 'self' https://app.example.com")
	require.Empty(t, r.header.Get("X-Frame-Options"))
	require.Equal(t, ":root {\n  --tu-accent: #7a3e9d;\n  --tu-accent-dark: color-mix(in oklab, #7a3e9d 45%, white);\n}\n", c.ok("account/usage/theme.css"))

	fragment := c.ok("account/usage/fragment")
	require.NotContains(t, fragment, "<html")
	require.NotContains(t, fragment, "<script")
	require.Contains(t, fragment, `<section class="tu fragment"`)
	for _, l := range links(fragment) {
		require.True(t, strings.HasPrefix(l, "/account/usage/"), "%q does not lead to the portal from wherever the fragment is", l)
		require.Equal(t, http.StatusOK, c.get(strings.TrimPrefix(l, "/")).status, l)
	}
}
