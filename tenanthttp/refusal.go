package tenanthttp

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

// A refusal is a call that was not admitted.
type refusal struct {
	id  string
	err error
}

const (
	idPrefix   = "tenant-refusal-"
	idLength   = 26 // of what rand.Text returns
	mostRecent = 4096
)

// recent has the last refusals of this process. It belongs to no transport: all that many SDKs leave of a refusal is a
// text, and whoever asks about that knows no transport, in a context outside of the call's not even the scope of the call.
// A text that had all of the error in it instead would say it to everybody who sees the text.
var recent refusals

type refusals struct {
	mu   sync.Mutex
	byID map[string]error
	ring [mostRecent]string
	next int
}

func (r *refusals) add(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = make(map[string]error)
	}
	delete(r.byID, r.ring[r.next])
	r.byID[id], r.ring[r.next] = err, id
	r.next = (r.next + 1) % mostRecent
}

func (r *refusals) find(id string) (error, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err, ok := r.byID[id]
	return err, ok
}

// refuse returns the reply to a call that is not made. Its status is one that no SDK tries again, and its header says so
// too.
func refuse(r *http.Request, e meter.Endpoint, err error) *http.Response {
	id := rand.Text()
	recent.add(id, err)
	scopeOf(r.Context()).refusal(&refusal{id, err})
	id = idPrefix + id
	header, body := shape(e, err, id)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Should-Retry", "false")
	header.Set("X-Request-Id", id)
	return &http.Response{
		Status: "402 Payment Required", StatusCode: http.StatusPaymentRequired, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

// The types of refusals: what is up to a customer is told from what is up to the program.
const (
	quotaType     = "insufficient_quota" // a limit, or a tenant that is suspended
	hostErrorType = "host_error"         // the program is to be mended: nobody who uses it can do anything
	duplicateType = "duplicate_call"     // the call was made already
)

// reasons are the errors with which a call is refused, and a word for each.
var reasons = []struct {
	is        error
	word, typ string
}{
	{tenant.ErrBudgetExceeded, "budget_exceeded", quotaType},
	{tenant.ErrTenantSuspended, "tenant_suspended", quotaType},
	{tenant.ErrDuplicate, "duplicate_call", duplicateType},
	{tenant.ErrNoPrice, "no_price", hostErrorType},
	{tenant.ErrTenantRequired, "tenant_required", hostErrorType},
	{ErrUnmetered, "unmetered", hostErrorType},
	{tenant.ErrUnknownTenant, "unknown_tenant", hostErrorType},
	{tenant.ErrInvalidTenant, "invalid_tenant", hostErrorType},
	{tenant.ErrUnknownTenant, "unknown_tenant", hostErrorType},
	{tenant.ErrIdentityConflict, "invalid_tenant", hostErrorType},
	{tenant.ErrHierarchy, "invalid_tenant", hostErrorType},
	{tenant.ErrInvalidOption, "invalid_option", hostErrorType},
}

// reason is why a call is refused, and the type of that. Both are empty for an error that is no refusal, such as a
// database's: what has caused it may be over at the next try.
func reason(err error) (word, typ string) {
	for _, r := range reasons {
		if errors.Is(err, r.is) {
			return r.word, r.typ
		}
	}
	return "", ""
}

func refuses(err error) bool {
	word, _ := reason(err)
	return word != ""
}

type object = map[string]any

// shape returns an error as the endpoint's provider writes it, with the type of the refusal where the provider has its own,
// or beside the message where it has none.
func shape(e meter.Endpoint, err error, id string) (http.Header, []byte) {
	word, typ := reason(err)
	message := err.Error() + " (" + id + ")"
	header := http.Header{}
	var v object
	switch family(e) {
	case meter.Anthropic:
		header.Set("Request-Id", id)
		if typ == quotaType {
			typ = "billing_error"
		}
		v = object{"type": "error", "error": object{"type": typ, "message": message}, "request_id": id}
	case meter.Gemini:
		status := "FAILED_PRECONDITION"
		if typ != quotaType {
			status = strings.ToUpper(typ)
		}
		v = object{"error": object{
			"code": http.StatusPaymentRequired, "message": message, "status": status,
			"details": []object{{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": strings.ToUpper(word), "domain": "tenant"}},
		}}
	case meter.Converse:
		name := camel(word)
		if typ == hostErrorType {
			name = camel(typ)
		}
		header.Set("X-Amzn-Errortype", name+"Exception")
		header.Set("X-Amzn-Requestid", id)
		v = object{"message": message}
	case meter.Ollama:
		v = object{"error": message, "type": typ}
	case meter.Cohere:
		v = object{"id": id, "message": message, "type": typ}
	default:
		v = object{"error": object{"message": message, "type": typ, "param": nil, "code": word}}
	}
	body, _ := json.Marshal(v) // of strings and numbers alone
	return header, body
}

// family returns the format whose errors an endpoint has; one that was not recognised has its provider's.
func family(e meter.Endpoint) meter.Format {
	switch e.Format {
	case meter.Invoke:
		return meter.Converse
	case "":
		switch e.Provider {
		case meter.AnthropicProvider:
			return meter.Anthropic
		case meter.Google, meter.Vertex:
			return meter.Gemini
		case meter.Bedrock:
			return meter.Converse
		case meter.OllamaProvider:
			return meter.Ollama
		case meter.CohereProvider:
			return meter.Cohere
		}
	}
	return e.Format
}

// camel writes budget_exceeded as BudgetExceeded.
func camel(word string) string {
	parts := strings.Split(word, "_")
	for i, p := range parts {
		parts[i] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}
