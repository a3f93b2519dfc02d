package tenantui_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

// pages are all addresses of the dashboard.
var pages = []string{"", "tenants", "near", "tenant?id=acme", "audit?id=acme", "executions", "prices", "health", "act?do=limits&id=acme"}

func TestNew_NeedsToKnowWhoMaySeeWhat(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	_, err := tenantui.New(ledger, tenantui.Options{})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "Options.Authorize is nil")
	all := func(*http.Request) (tenantui.Viewer, error) { return staff, nil }
	_, err = tenantui.New(nil, tenantui.Options{Authorize: all})
	require.ErrorContains(t, err, "the ledger is nil")
	_, err = tenantui.New(ledger, tenantui.Options{Authorize: all, Prefix: "llm"})
	require.ErrorContains(t, err, `Prefix: "llm" does not begin with a slash`)
	_, err = tenantui.New(ledger, tenantui.Options{Authorize: all, TrustedOrigins: []string{"admin.example.com"}})
	require.ErrorContains(t, err, "TrustedOrigins")
}

func TestAuthorize_DeniesByDefault(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	for name, authorize := range map[string]func(*http.Request) (tenantui.Viewer, error){
		"nobody": func(*http.Request) (tenantui.Viewer, error) { return tenantui.Viewer{}, nil },
		"roles alone": func(*http.Request) (tenantui.Viewer, error) {
			return tenantui.Viewer{Actor: "x", Roles: everyRole}, nil
		},
		"an error beside all": func(*http.Request) (tenantui.Viewer, error) { return staff, errors.New("the session has ended") },
	} {
		h, err := tenantui.New(ledger, tenantui.Options{Authorize: authorize, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		c := client{t, h}
		for _, page := range append(pages, "assets/style.css", "nothing") {
			r := c.get(page)
			require.Equal(t, http.StatusForbidden, r.status, "%s: %s", name, page)
			require.Equal(t, "You may not see this page.\n", r.body)
		}
		require.Equal(t, http.StatusForbidden, c.post("act", url.Values{"do": {"suspend"}, "id": {"acme"}, "reason": {"x"}, "step": {"apply"}}).status)
	}
}

// other is what belongs to others than acme, as it would stand on a page.
var other = []string{"globex", "Globex", "initech", "Initech", "umbrella", "llm_root", "onerror"}

func TestViewer_ReachesNothingOfAnotherTenantOnAnyRoute(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.Root, func(b *tenant.Budget) error {
		b.Limits.MonthlyCost = tenant.USD("123456")
		return nil
	}))
	uuid, err := tenant.UUIDFor(t.Context(), db, tenant.ID("globex"))
	require.NoError(t, err)
	foreign, err := tenant.ExecutionsPage(t.Context(), db, tenant.ExecutionQuery{Tenant: tenant.ID("globex")}, 1)
	require.NoError(t, err)
	nobodys, err := tenant.ExecutionsPage(t.Context(), db, tenant.ExecutionQuery{}, 1)
	require.NoError(t, err)
	ids := []string{"globex", "umbrella", uitest.Hostile, string(tenant.Root), string(uuid), "nobody", "acme ", "ACME", "acme\x00", "../acme", strings.Repeat("x", 300)}
	below := tenantui.Viewer{Actor: "jo@acme.example", Tenants: []tenant.Tenant{tenant.ID("acme")}, Roles: everyRole}
	leaf := below
	leaf.Tenants = []tenant.Tenant{tenant.ID("acme-support")}
	for _, v := range []struct {
		viewer tenantui.Viewer
		ids    []string
	}{{below, ids}, {leaf, append([]string{"acme", "acme-research"}, ids...)}} {
		c := dashboard(t, ledger, v.viewer)
		for _, id := range v.ids {
			for _, route := range []string{"tenant?id=", "audit?id=", "executions?tenant=", "tenants?below=", "act?do=limits&id=", "act?do=credit&id=", "execution?id=" + foreign.Executions[0].ID + "&tenant="} {
				for _, suffix := range []string{"", "&csv=executions", "&csv=limits"} {
					r := c.get(route + url.QueryEscape(id) + suffix)
					require.Equal(t, http.StatusNotFound, r.status, "%s%q", route, id)
				}
			}
			for _, do := range []string{"limits", "topup", "credit", "debit", "suspend", "rename"} {
				r := c.post("act", url.Values{"do": {do}, "id": {id}, "reason": {"x"}, "sum": {"1"}, "to": {"y"}, "step": {"apply"}})
				require.Equal(t, http.StatusNotFound, r.status, "%s of %q", do, id)
			}
		}
		own := v.viewer.Tenants[0].LLMTenantID()
		for _, e := range []string{foreign.Executions[0].ID, nobodys.Executions[0].ID} {
			require.Equal(t, http.StatusNotFound, c.get("execution?tenant="+own+"&id="+e).status)
			require.Equal(t, http.StatusNotFound, c.get("execution?id="+e).status)
		}
		for _, page := range []string{"prices", "health"} {
			require.Equal(t, http.StatusNotFound, c.get(page).status, "they are of all tenants")
		}
		require.Equal(t, http.StatusNotFound, c.post("verify", nil).status)
		for _, page := range []string{"", "tenants", "near", "executions", "tenant?id=" + own, "audit?id=" + own, "executions?csv=executions"} {
			body := c.ok(page)
			for _, o := range other {
				require.NotContains(t, body, o, page)
			}
			require.NotContains(t, body, "123,456", "the root's limit says what all tenants spend")
		}
	}
	require.Contains(t, dashboard(t, ledger, staff).ok("tenant?id=acme"), "$123,456.00", "who sees all sees that too")
	require.Contains(t, dashboard(t, ledger, below).ok("tenant?id=acme-support"), "acme-support")
	require.NotContains(t, dashboard(t, ledger, leaf).ok("tenant?id=acme-support"), `href="tenant?id=acme"`, "nor who stands above it")
}

func TestRoles_SayWhatCanBeDone(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	acts := map[string]tenantui.Role{
		"limits": tenantui.Configure, "suspend": tenantui.Configure, "rename": tenantui.Configure, "topup": tenantui.Adjust, "credit": tenantui.Adjust, "debit": tenantui.Adjust,
	}
	for _, v := range []tenantui.Viewer{
		{Actor: "x", All: true}, {All: true, Roles: everyRole}, {Actor: "x", All: true, Roles: []tenantui.Role{tenantui.Configure}}, {Actor: "x", All: true, Roles: []tenantui.Role{tenantui.Adjust}},
	} {
		c := dashboard(t, ledger, v)
		page := c.ok("tenant?id=acme")
		for do, role := range acts {
			may := v.Actor != "" && len(v.Roles) == 1 && v.Roles[0] == role
			want := http.StatusForbidden
			if may {
				want = http.StatusOK
			}
			require.Equal(t, want, c.get("act?id=acme&do="+do).status, "%v: %s", v, do)
			require.Equal(t, may, strings.Contains(page, "act?do="+do), "%v: %s", v, do)
			if !may {
				require.Equal(t, http.StatusForbidden, c.post("act", url.Values{"do": {do}, "id": {"acme"}, "reason": {"x"}, "step": {"apply"}}).status)
			}
		}
		require.Equal(t, http.StatusForbidden, c.post("verify", nil).status)
		require.NotContains(t, c.ok("health"), "Verify the books now")
	}
}

func TestForms_FromAnotherSiteChangeNothing(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	c := dashboard(t, ledger, staff)
	form := url.Values{"do": {"suspend"}, "id": {"acme"}, "reason": {"x"}, "step": {"apply"}}.Encode()
	for _, headers := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/act", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		require.Equal(t, http.StatusForbidden, c.send(r).status, headers)
	}
	b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.False(t, b.Suspended)
	require.Equal(t, http.StatusNotFound, c.get("verify").status, "a link does nothing")
}

var inline = regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+="|<script>|<style|javascript:|src="(?:https?:)?//|href="(?:https?:)?//`)

func TestPages_LoadNothingElseAndRunNothingInline(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	c := dashboard(t, ledger, staff)
	hostile := url.QueryEscape(uitest.Hostile)
	for _, page := range append(pages, "tenant?id="+hostile, "act?do=rename&id="+hostile, "act?do=credit&id="+hostile, "?days=365&tag=feature", "tenant?id=nobody&done=<script>",
		"executions?tenant="+hostile, "audit?id="+hostile, "executions?agent="+hostile, "tenants?search="+hostile) {
		r := c.get(page)
		require.NotRegexp(t, inline, strings.ReplaceAll(r.body, `&#34;`, ``), page)
		require.NotContains(t, r.body, "<img", page)
		policy := r.header.Get("Content-Security-Policy")
		require.NotContains(t, policy, "unsafe")
		for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			require.Contains(t, policy, directive, page)
		}
		require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	}
	css := c.ok("assets/style.css")
	require.NotContains(t, css, "url(")
	require.NotContains(t, css, "@import")
	require.Equal(t, http.StatusNotFound, c.get("assets/..%2fdoc.go").status)
}

func TestHandler_IsMountedUnderAnyPrefix(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	open := func(prefix string) http.Handler {
		h, err := tenantui.New(ledger, tenantui.Options{Prefix: prefix, Authorize: func(*http.Request) (tenantui.Viewer, error) { return staff, nil }})
		require.NoError(t, err)
		return h
	}
	stripped, left := http.NewServeMux(), http.NewServeMux()
	stripped.Handle("/ops/llm/", http.StripPrefix("/ops/llm", open("")))
	stripped.Handle("/ops/llm", http.StripPrefix("/ops/llm", open("")))
	left.Handle("/ops/", open("/ops/llm/"))
	for _, h := range []http.Handler{stripped, left} {
		c := client{t, h}
		require.Contains(t, c.ok("ops/llm/"), "Overview")
		require.Contains(t, c.ok("ops/llm/tenants"), "No tenant has a budget yet")
		require.Equal(t, http.StatusOK, c.get("ops/llm/assets/style.css").status)
		r := c.get("ops/llm")
		require.Equal(t, http.StatusPermanentRedirect, r.status)
		require.Equal(t, "./llm/", r.header.Get("Location"), "relative, whatever a proxy has taken off")
	}
	require.Equal(t, http.StatusNotFound, client{t, left}.get("ops/llmother").status)
	for _, l := range links(client{t, stripped}.ok("ops/llm/")) {
		require.False(t, strings.HasPrefix(l, "/"), "%q is not below the prefix", l)
	}
}
