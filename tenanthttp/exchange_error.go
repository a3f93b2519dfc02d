package tenanthttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

// ExchangeError is why a call of a model has failed; see [Exchange.End]. It wraps the SDK's error, and [tenant.ErrNotBilled]
// where nothing was used. Its text has nothing in it that the provider has written but the code: messages can quote keys
// and prompts. The message is in the SDK's error, which errors.As finds.
type ExchangeError struct {
	// Code is the API's word for it, such as "invalid_api_key"; empty where there is none.
	Code string

	// RequestID is the provider's name for the request; empty where there was no answer.
	RequestID string

	name      string
	status    int
	after     time.Duration
	notBilled bool
	text      string // in the place of the SDK's, which can quote the reply
	err       error
}

// StatusCode returns the HTTP status of the answer, or 0 where there was none, or the status was no error's.
func (e *ExchangeError) StatusCode() int { return e.status }

// RetryAfter returns how long the provider asks to wait, and 0 where it does not say.
func (e *ExchangeError) RetryAfter() time.Duration { return e.after }

func (e *ExchangeError) Error() string {
	text := e.text
	switch {
	case e.status != 0:
		text = strings.TrimSpace(strconv.Itoa(e.status) + " " + http.StatusText(e.status))
	case text == "":
		text = e.err.Error()
	}
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	return e.name + ": " + text
}

// Unwrap returns the causes.
func (e *ExchangeError) Unwrap() []error {
	if e.notBilled {
		return []error{tenant.ErrNotBilled, e.err}
	}
	return []error{e.err}
}

// known returns the text of what an error comes from, after a colon, where nothing of a reply can be in it.
func known(err error) string {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF} {
		if errors.Is(err, cause) {
			return ": " + cause.Error()
		}
	}
	return ""
}

// withoutURL takes the request's URL out of an error's text, since it can have a key in it.
func withoutURL(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// readError returns the word for an error in the beginning of a reply, and whether it is an error of the API's own.
func readError(head []byte) (code string, own bool) {
	for line := range bytes.Lines(head) { // of a stream, the first that has one; otherwise the whole
		line, isEvent := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:"))
		if isEvent {
			if code, own = errorIn(line); own {
				return code, own
			}
		}
	}
	return errorIn(bytes.Trim(bytes.TrimSpace(head), "[]"))
}

func errorIn(document []byte) (code string, own bool) {
	var said struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(document, &said) != nil {
		return "", false
	}
	var e struct {
		Code    text   `json:"code"`
		Type    text   `json:"type"`
		Status  text   `json:"status"`
		Message string `json:"message"`
	}
	if json.Unmarshal(said.Error, &e) != nil {
		return "", false
	}
	own = e.Code != "" || e.Type != "" || e.Status != "" || e.Message != ""
	for _, w := range []text{e.Status, e.Code, e.Type} { // Google's code is the status again, and its status is the word
		if code = word(string(w)); code != "" {
			break
		}
	}
	return code, own
}

// word returns s if it is a short identifier, and nothing otherwise.
func word(s string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	if len(s) > 64 || strings.Trim(s, allowed) != "" {
		return ""
	}
	return s
}

// text is a JSON string or number.
type text string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *text) UnmarshalJSON(raw []byte) error {
	if string(raw) != "null" {
		*t = text(strings.Trim(string(raw), `"`))
	}
	return nil
}

// mostAfter is more than a provider asks anybody to wait.
const mostAfter = 24 * time.Hour

// retryAfter reads how long a reply asks to wait.
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseInt(h.Get("Retry-After-Ms"), 10, 64); err == nil && ms >= 0 {
		return min(time.Duration(min(ms, mostAfter.Milliseconds()))*time.Millisecond, mostAfter)
	}
	said := h.Get("Retry-After")
	if s, err := strconv.ParseInt(said, 10, 64); err == nil && s >= 0 {
		return time.Duration(min(s, int64(mostAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(said); err == nil {
		return min(max(time.Until(at), 0), mostAfter)
	}
	return 0
}
