package tenantui

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/llmtenant/tenant"
)

// Role is what a viewer may do with what he sees.
type Role string

// The roles. Whoever has none may look.
const (
	Configure Role = "configure" // change limits and other settings, suspend, rename
	Adjust    Role = "adjust"    // top up, credit and debit
	Operate   Role = "operate"   // verify the books
)

// Viewer is who looks at a page. The zero Viewer sees nothing.
type Viewer struct {
	// Actor says who it is, such as an address of mail: at the top of each page, and with whatever he changes. Nothing can be
	// changed without one; at most 255 bytes.
	Actor string

	// All: he sees every tenant, and the pages about all of them together: overview, prices and health.
	All bool

	// Tenants are those that he sees where he does not see all: these and whoever stands below them.
	Tenants []tenant.Tenant

	// Roles are what he may do. Defaults to none: he looks.
	Roles []Role
}

// Options are those of [New].
type Options struct {
	// Authorize says who makes a request, by the host's own session. It is called for each request and required. An error, like
	// a Viewer who sees nothing, is answered with 403; the error goes to the log.
	Authorize func(*http.Request) (Viewer, error)

	// Prefix is the path that the handler is mounted under, where the router leaves it in the request's path, as chi and gin do:
	// "/llm". Defaults to none: http.StripPrefix has taken it off.
	Prefix string

	// TrustedOrigins are other origins, such as "https://admin.example.com", from which forms may be sent. Defaults to none: the
	// page's own.
	TrustedOrigins []string

	// Log is told of requests that fail. Defaults to slog.Default().
	Log *slog.Logger
}

// New returns the dashboard of a ledger. See the package for how it is mounted.
//
// Errors: [tenant.ErrInvalidOption], for a ledger that is nil, for options without Authorize, and for an option that is invalid.
func New(ledger *tenant.Ledger, o Options) (http.Handler, error) {
	if o.Authorize == nil {
		return nil, fmt.Errorf("%w: tenantui.New: Options.Authorize is nil: it says who may see what", tenant.ErrInvalidOption)
	}
	s, err := newSite("tenantui.New", ledger, o.Prefix, o.TrustedOrigins, o.Log)
	if err != nil {
		return nil, err
	}
	s.authorize = o.Authorize
	d := &dashboard{site: s}
	s.pages = map[string]func(*request) error{
		"GET /": d.overview, "GET /tenants": d.tenants, "GET /near": d.near, "GET /tenant": d.tenant, "GET /audit": d.audit,
		"GET /executions": d.executions, "GET /execution": d.execution, "GET /act": s.act, "POST /act": s.act,
		"GET /prices": d.prices, "POST /prices": d.compare, "GET /health": d.health, "POST /verify": d.verify,
	}
	return s.protect(s, "'none'"), nil
}

// dashboard is the operators' pages.
type dashboard struct {
	*site
	verifying verifying
}

func (v Viewer) sees() bool { return v.All || len(v.Tenants) > 0 }

// may reports whether he has a role, and a name to be kept with what he does.
func (v Viewer) may(role Role) bool {
	return v.Actor != "" && slices.Contains(v.Roles, role)
}

// Errors of requests, as statuses.
var (
	errNotFound = errors.New("there is no such page, or it is not yours to see")
	errNotYours = errors.New("your role does not allow that")
)

// badRequest is what is wrong with what was sent, for whoever sent it.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

// fail answers with an error, if there is one.
func (q *request) fail(err error) {
	var wrong badRequest
	switch {
	case err == nil:
	case errors.Is(err, errNotFound):
		q.failed(http.StatusNotFound, "Not found", "There is no such page, or it is not yours to see.")
	case errors.Is(err, errNotYours):
		q.failed(http.StatusForbidden, "Not allowed", "Your role does not allow that.")
	case errors.As(err, &wrong):
		q.failed(http.StatusBadRequest, "That cannot be", wrong.Error())
	case errors.Is(err, tenant.ErrUnavailable), errors.Is(err, tenant.ErrClosed), errors.Is(err, tenant.ErrNotMigrated):
		q.log.WarnContext(q.Context(), "tenantui: the books cannot be read", "path", q.URL.Path, "error", err)
		q.failed(http.StatusServiceUnavailable, "The books cannot be read", "The database does not answer as it should. The log says why.")
	case q.Context().Err() != nil:
	default:
		q.log.ErrorContext(q.Context(), "tenantui: a page failed", "path", q.URL.Path, "error", err)
		q.failed(http.StatusInternalServerError, "Something went wrong", "The log says what.")
	}
}

func (q *request) failed(status int, title, text string) {
	if q.program() {
		q.failProgram(status, text)
		return
	}
	q.status = status
	if err := q.show("error", page{Title: title, Body: text}); err != nil {
		q.log.ErrorContext(q.Context(), "tenantui: an error's page failed", "error", err)
	}
}

// cut takes the prefix off a path, and reports false for a path that is not below it.
func cut(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok || rest != "" && prefix != "" && rest[0] != '/' {
		return "", false
	}
	return rest, true
}
