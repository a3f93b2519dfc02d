package tenanthttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/llmtenant/tenant"
)

// WriteRefusal answers an HTTP request with an error of the library's, as a front end can show it: a status, a Retry-After
// where trying again makes sense, and JSON with a code and a message that has nothing in it which is not the caller's
// business. It takes an error of [tenant.Ledger], of a [tenant.Agent], or what an SDK has made of a refusal, as far as
// [AsRefusal] finds that without a context. It reports false for any other error, and writes nothing then.
//
//	status  code               when
//	402     budget_exceeded    a limit is used up; Retry-After is when its window ends, if it does
//	429     budget_contended   running calls hold what is left; Retry-After is short
//	403     tenant_suspended
//	409     duplicate_call     the idempotency key was used before
//	500     host_error         the program is to be mended: a tenant that is forgotten or impossible, no price, no tables
//	502     provider_error     the call was made, and failed
//	504     timeout            the same, where its time was over
//	503     unavailable        the database cannot be reached, or the ledger is closed; Retry-After is short
//
// The body is {"error": {"code", "message"}}, where a limit has no room with "limit": {"metric", "window", "limit", "spent",
// "held", "requested"} and "resets_at", amounts in US dollars, tokens or calls, as strings. Figures of a limit of a tenant
// above the caller's are left out. What a server streams has to be decided on before its first byte.
func WriteRefusal(w http.ResponseWriter, err error) bool {
	a, ok := answerTo(err)
	if !ok {
		return false
	}
	if a.retry > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((a.retry+time.Second-1)/time.Second), 10))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	body, _ := json.Marshal(map[string]shown{"error": a.shown}) // of strings alone
	w.WriteHeader(a.status)
	_, _ = w.Write(append(body, '\n'))
	return true
}

// shortly is when a call may be tried again that others, or an outage, kept from being made.
const shortly = 2 * time.Second

// An answer is what a front end gets of an error.
type answer struct {
	status int
	retry  time.Duration // zero: trying again makes no sense, or nobody knows when
	shown
}

type shown struct {
	Code     string      `json:"code"`
	Message  string      `json:"message"`
	Limit    *shownLimit `json:"limit,omitempty"`
	ResetsAt *time.Time  `json:"resets_at,omitempty"`
}

type shownLimit struct {
	Metric    string `json:"metric"`
	Window    string `json:"window"`
	Limit     string `json:"limit"`
	Spent     string `json:"spent"`
	Held      string `json:"held"`
	Requested string `json:"requested"`
}

func answerTo(err error) (answer, bool) {
	if refused, ok := AsRefusal(context.Background(), err); ok {
		err = refused
	}
	var (
		exceeded *tenant.BudgetExceededError
		failed   *tenant.CallError
	)
	is := func(known ...error) bool {
		for _, k := range known {
			if errors.Is(err, k) {
				return true
			}
		}
		return false
	}
	plain := func(status int, retry time.Duration, code, message string) (answer, bool) {
		return answer{status: status, retry: retry, shown: shown{Code: code, Message: message}}, true
	}
	_, typ := reason(err)
	switch {
	case errors.As(err, &failed) && is(context.DeadlineExceeded):
		return plain(http.StatusGatewayTimeout, 0, "timeout", "The model did not answer in time.")
	case errors.As(err, &failed):
		return plain(http.StatusBadGateway, 0, "provider_error", "The model could not answer.")
	case errors.As(err, &exceeded):
		return exceededAnswer(exceeded), true
	case is(tenant.ErrTenantSuspended):
		return plain(http.StatusForbidden, 0, "tenant_suspended", "This account is suspended.")
	case is(tenant.ErrDuplicate):
		return plain(http.StatusConflict, 0, "duplicate_call", "This request was made before.")
	case is(tenant.ErrUnavailable, tenant.ErrClosed):
		return plain(http.StatusServiceUnavailable, shortly, "unavailable", "The service is not available for the moment.")
	case typ == hostErrorType, is(tenant.ErrNotMigrated, tenant.ErrNotOpen, tenant.ErrNoBudget, tenant.ErrReleased, tenant.ErrNotDeferred):
		return plain(http.StatusInternalServerError, 0, hostErrorType, "The service has an error of its own.")
	}
	return answer{}, false
}

func exceededAnswer(e *tenant.BudgetExceededError) answer {
	a := answer{status: http.StatusPaymentRequired, shown: shown{Code: "budget_exceeded", Message: "The budget is used up."}}
	if !e.ResetsAt.IsZero() {
		at := e.ResetsAt.UTC()
		a.ResetsAt, a.retry = &at, max(time.Until(at), time.Second)
	}
	if e.Contended {
		a.status, a.retry = http.StatusTooManyRequests, shortly
		a.Code, a.Message = "budget_contended", "What is left of the budget is held by calls that are running."
	}
	if l := e.Limit; l.TenantID == e.TenantID {
		a.Limit = &shownLimit{
			Metric: string(l.Metric), Window: string(l.Window), Limit: l.Limit.String(), Spent: l.Spent.String(), Held: l.Held.String(),
			Requested: e.Requested.String(),
		}
	}
	return a
}
