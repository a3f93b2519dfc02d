package tenantui_test

import (
	"bytes"
	"encoding/csv"
	"html"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

var everyRole = []tenantui.Role{tenantui.Configure, tenantui.Adjust, tenantui.Operate}

// staff sees and does everything.
var staff = tenantui.Viewer{Actor: "ops@example.com", All: true, Roles: everyRole}

// client asks one of the handlers.
type client struct {
	testing.TB
	handler http.Handler
}

type reply struct {
	status int
	header http.Header
	body   string
}

// dashboard is the dashboard of a ledger, for one viewer.
func dashboard(t testing.TB, ledger *tenant.Ledger, v tenantui.Viewer) client {
	t.Helper()
	h, err := tenantui.New(ledger, tenantui.Options{
		Authorize: func(*http.Request) (tenantui.Viewer, error) { return v, nil }, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return client{t, h}
}

// portal is the portal of a ledger, for one customer.
func portal(t testing.TB, ledger *tenant.Ledger, c tenantui.Customer) client {
	t.Helper()
	h, err := tenantui.NewPortal(ledger, tenantui.PortalOptions{
		Session: func(*http.Request) (tenantui.Customer, error) { return c, nil }, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return client{t, h}
}

func (c client) send(r *http.Request) reply {
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	require.NoError(c, err)
	return reply{w.Code, w.Header(), string(b)}
}

func (c client) get(address string) reply {
	return c.send(httptest.NewRequestWithContext(c.Context(), http.MethodGet, "/"+address, nil))
}

func (c client) post(address string, form url.Values) reply {
	r := httptest.NewRequestWithContext(c.Context(), http.MethodPost, "/"+address, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return c.send(r)
}

// ok is a page that has to be there.
func (c client) ok(address string) string {
	c.Helper()
	r := c.get(address)
	require.Equal(c, http.StatusOK, r.status, "%s: %s", address, r.body)
	return r.body
}

// rows are the lines of a CSV.
func (c client) rows(address string) [][]string {
	c.Helper()
	r := c.get(address)
	require.Equal(c, http.StatusOK, r.status, address)
	require.Equal(c, "text/csv; charset=utf-8", r.header.Get("Content-Type"))
	lines, err := csv.NewReader(strings.NewReader(r.body)).ReadAll()
	require.NoError(c, err)
	return lines
}

var linkOf = regexp.MustCompile(`(?:href|action)="([^"]*)"`)

// links are the addresses that a page links to.
func links(body string) []string {
	var all []string
	for _, m := range linkOf.FindAllStringSubmatch(body, -1) {
		all = append(all, strings.TrimPrefix(html.UnescapeString(m[1]), "./"))
	}
	return all
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// confirmation is the form of a confirmation, as a browser sends it.
func confirmation(body string) url.Values {
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(body, -1) {
		form.Add(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	form.Set("step", "apply")
	return form
}

var shelf uitest.Shelf

// books are filled books of the test's own.
func books(t testing.TB) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	return shelf.Books(t)
}

// Conditions are waited for, with a bound that a loaded machine does not meet.
const (
	patience = time.Minute
	tick     = 20 * time.Millisecond
)

func decimalOf(n int64, exponent int32) decimal.Decimal { return decimal.New(n, exponent) }

func decimalText(t testing.TB, s string) decimal.Decimal {
	t.Helper()
	d, err := decimal.NewFromString(s)
	require.NoError(t, err)
	return d
}

// upload sends a form with a file.
func upload(c client, address, field, content string) reply {
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	w, err := form.CreateFormFile(field, "list.json")
	require.NoError(c, err)
	_, err = w.Write([]byte(content))
	require.NoError(c, err)
	require.NoError(c, form.Close())
	r := httptest.NewRequestWithContext(c.Context(), http.MethodPost, "/"+address, &b)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return c.send(r)
}
