package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

// patience bounds what is waited for, also on a loaded machine.
const patience = 5 * time.Minute

var shelf uitest.Shelf

// site is the pages on books of the test's own.
type site struct {
	url    string
	db     *gorm.DB
	ledger *tenant.Ledger
}

var everyRole = []tenantui.Role{tenantui.Configure, tenantui.Adjust, tenantui.Operate}

// open serves the dashboard below /llm, for a viewer who sees nothing below /nothing, for one of a single tenant below /own, and
// the portal of acme below /account. Books are filled, or empty.
func open(t *testing.T, filled bool) site {
	t.Helper()
	var s site
	if filled {
		s.db, s.ledger = shelf.Books(t)
	} else {
		s.db, s.ledger = uitest.Open(t)
	}
	mux := http.NewServeMux()
	for at, v := range map[string]tenantui.Viewer{
		"/llm": {Actor: "ops@example.com", All: true, Roles: everyRole}, "/nothing": {Actor: "x", Roles: everyRole}, "/own": {Actor: "jo@stark.example", Tenants: []tenant.Tenant{tenant.ID("stark")}},
	} {
		h, err := tenantui.New(s.ledger, tenantui.Options{
			Authorize: func(*http.Request) (tenantui.Viewer, error) { return v, nil }, Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		mux.Handle(at+"/", http.StripPrefix(at, h))
	}
	portal, err := tenantui.NewPortal(s.ledger, tenantui.PortalOptions{
		Session: func(*http.Request) (tenantui.Customer, error) {
			return tenantui.Customer{Tenant: tenant.ID("acme"), Actor: "jo@acme.example", Configure: true}, nil
		},
		Name: "Northwind AI", Theme: map[string]string{"--tu-accent": "#7a3e9d"}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	mux.Handle("/account/", http.StripPrefix("/account", portal))
	// A page of the host's, which shows the fragment as a part of its own.
	mux.HandleFunc("/host", func(w http.ResponseWriter, r *http.Request) {
		inner := httptest.NewRecorder()
		part := r.Clone(r.Context())
		part.URL.Path, part.RequestURI = "/fragment", "/account/fragment"
		portal.ServeHTTP(inner, part)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!doctype html><html lang="en"><head><title>Host</title><link rel="icon" href="data:,"><style>h2 { color: rgb(200, 0, 0); font-size: 40px } table { width: 99px }</style></head>
<body><main><h1>Host</h1><h2 id="hosts">Account</h2><table id="hosttable"><tr><td>x</table>%s</main></body></html>`, inner.Body.String())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// tab is a tab of the browser, and what went wrong in it.
type tab struct {
	*testing.T
	ctx context.Context //nolint:containedctx // a tab is its context
	mu  sync.Mutex
	bad []string
}

// newTab opens a tab that notes console errors, exceptions and reports of the content security policy.
func newTab(t *testing.T) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx)) // the tab lives as long as the context of its first step
	within, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	b := &tab{T: t, ctx: within}
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.bad = append(b.bad, fmt.Sprintf(format, args...))
	}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			if slices.Contains([]string{"error", "warning", "assert"}, e.Type.String()) {
				note("console: %s %v", e.Type, e.Args)
			}
		case *runtime.EventExceptionThrown:
			note("exception: %v", e.ExceptionDetails)
		case *cdplog.EventEntryAdded:
			if slices.Contains([]string{"error", "warning"}, string(e.Entry.Level)) {
				note("log: %s %s", e.Entry.Text, e.Entry.URL)
			}
		case *audits.EventIssueAdded:
			if e.Issue.Details.ContentSecurityPolicyIssueDetails != nil {
				note("content security policy: %+v", e.Issue.Details.ContentSecurityPolicyIssueDetails)
			}
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, "http://127.0.0.1:") && !strings.HasPrefix(e.Request.URL, "data:") && !strings.HasPrefix(e.Request.URL, "about:") {
				note("something is loaded from elsewhere: %s", e.Request.URL)
			}
		}
	}))
	call(b, audits.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Berlin"})
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	require.NoError(b, chromedp.Do(b.ctx, steps...))
}

// call runs a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], parameters P) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, command, parameters)
	require.NoError(b, err)
}

// get runs an action that has a result.
func get[T any](b *tab, action chromedp.Action[T]) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, action)
	require.NoError(b, err)
	return value
}

// see opens a page, and fails if anything is amiss with it.
func (b *tab) see(url string) {
	b.Helper()
	b.do(chromedp.Navigate(url), chromedp.WaitReady(chromedp.CSS("body")))
	b.quiet(url)
}

// expect forgets that a page was answered with a status, which the browser reports.
func (b *tab) expect(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = slices.DeleteFunc(b.bad, func(s string) bool { return strings.Contains(s, fmt.Sprintf("responded with a status of %d", status)) })
}

// quiet fails if something went wrong in the tab since the last time.
func (b *tab) quiet(where string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b, b.bad, where)
}

// view sets the size of the window, and whether the system is dark.
func (b *tab) view(width, height int64, dark bool) {
	b.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do(chromedp.EmulateViewport(width, height))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// script runs a script in the page and returns what it comes to.
func script[T any](b *tab, source string) T {
	b.Helper()
	return get(b, chromedp.Evaluate[T](source))
}

// text is the text of the page.
func (b *tab) text() string {
	b.Helper()
	return script[string](b, "document.body.innerText")
}

// accessible fails where axe finds what is serious.
func (b *tab) accessible(where string) {
	b.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	found := get(b, chromedp.Evaluate[string](`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
		.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html.slice(0, 160) + " " + (n.any[0]?.message || "")).slice(0, 3).join(" | "))))`, chromedp.EvalAwaitPromise))
	var violations []string
	require.NoError(b, json.Unmarshal([]byte(found), &violations))
	require.Empty(b, violations, where)
}

// click clicks on what a selector finds, and waits for the page that comes.
func (b *tab) click(selector string) {
	b.Helper()
	response, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(selector)))
	require.NoError(b, err, selector)
	require.NotNil(b, response, selector)
}
