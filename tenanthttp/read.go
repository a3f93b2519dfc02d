package tenanthttp

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

// ReadReply reads what a reply states that its call has used, as [Transport] reads it: for a [tenant.Model] on an SDK that
// keeps the reply's body, for a proxy, and for replies that were kept. What it returns is for [tenant.Ledger.Settle] and
// [tenant.Ledger.Record]. The request says what the call is for, by its URL; the provider names who is behind a host that
// is not known, and is empty for none; the body is that of the reply as it came, whole.
//
// It reports false where the reply states no usage: the model, the ids and a cost that it states are there all the same. A usage or a cost that no
// call can have comes as one of -1 tokens of input, which the ledger does not believe: Settle charges the hold and says so
// in the log, Record refuses it. Where the body is not complete the usage is what was stated up to there, and Estimated. What
// other models used for the call is added to the usage.
func ReadReply(provider string, r *http.Request, resp *http.Response, body []byte) (tenant.Actual, bool) {
	if r == nil || r.URL == nil || resp == nil {
		return tenant.Actual{}, false
	}
	e, known := meter.Recognise(r.Method, r.URL)
	if !known {
		return tenant.Actual{}, false
	}
	e.Provider = cmp.Or(e.Provider, provider)
	reader := meter.NewReader(e, resp.StatusCode, resp.Header)
	_, _ = reader.Write(body) // which never fails
	result := reader.Result()

	return statedBy(result, e.Provider, resp.StatusCode)
}

// statedBy returns what a reply states that its call has used, and whether it does.
func statedBy(result *meter.Result, provider string, status int) (tenant.Actual, bool) {
	a := tenant.Actual{Provider: provider, Model: result.Model, RequestID: result.RequestID, ServiceTier: result.ServiceTier}
	if status >= http.StatusBadRequest {
		a.ErrorCode = "http_" + strconv.Itoa(status)
	}
	a.ReportedCost = stated(result)
	switch {
	case result.Replayed:
		a.Cost = tenant.USDFrom(decimal.Zero)
		return a, true
	case result.Implausible:
		a.Usage.Input = -1
		return a, true
	case !result.Found:
		return a, false
	}
	used, estimated := result.Charged(0)
	for _, also := range result.Also {
		used = used.Plus(also.Usage)
	}
	a.Usage, a.Estimated = tenant.Usage(used), estimated
	return a, true
}
