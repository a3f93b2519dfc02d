package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/openai/openai-go/v3"

	"github.com/llmtenant/tenant"
)

// Error is why a call failed. It wraps the SDK's error, and [tenant.ErrNotBilled] where nothing was used. Its text has
// nothing in it that the provider has written but the code: messages can quote keys and prompts. The message is in the
// SDK's error, which errors.As finds.
type Error struct {
	// Code is the API's word for it, such as "invalid_api_key"; empty where there is none.
	Code string

	// RequestID is the provider's name for the request; empty where there was no answer.
	RequestID string

	status    int
	notBilled bool
	err       error
}

// noChoices is the error of an answer of status 200 with nothing in it. Some providers answer so with an error.
func noChoices(c *sdk.ChatCompletion, requestID string) *Error {
	e := &Error{RequestID: requestID, err: errors.New("the answer has no choices")}
	var said struct {
		Code text `json:"code"`
	}
	if json.Unmarshal([]byte(c.JSON.ExtraFields["error"].Raw()), &said) == nil {
		if e.Code = word(string(said.Code)); e.Code != "" {
			e.err = fmt.Errorf("the answer is an error (%s)", e.Code)
		}
	}
	return e
}

// StatusCode returns the HTTP status of the answer, or 0 where there was none, or the status was no error's.
func (e *Error) StatusCode() int { return e.status }

func (e *Error) Error() string {
	switch {
	case e.status == 0:
		return "openai: " + e.err.Error()
	case e.Code != "":
		return fmt.Sprintf("openai: %d %s (%s)", e.status, http.StatusText(e.status), e.Code)
	}
	return strings.TrimSpace(fmt.Sprintf("openai: %d %s", e.status, http.StatusText(e.status)))
}

// Unwrap returns the causes.
func (e *Error) Unwrap() []error {
	if e.notBilled {
		return []error{tenant.ErrNotBilled, e.err}
	}
	return []error{e.err}
}

// failure is the error of a call by the SDK's error, the answer if there was one, and whether the request was never sent.
func failure(err error, answer *http.Response, neverSent bool) *Error {
	err = withoutURL(err)
	switch {
	case answer == nil && neverSent:
		return &Error{notBilled: true, err: fmt.Errorf("the request was not sent: %w", err)}
	case answer == nil:
		return &Error{err: fmt.Errorf("no answer came: %w", err)}
	}
	e := &Error{RequestID: answer.Header.Get("X-Request-Id"), err: err}
	if answer.StatusCode/100 == 2 {
		e.err = fmt.Errorf("the answer cannot be read: %w", err)
		return e
	}
	e.status = answer.StatusCode
	var said *sdk.Error
	own := errors.As(err, &said) && (said.Code != "" || said.Type != "" || said.Message != "")
	if own {
		e.Code = word(said.Code)
		if e.Code == "" {
			e.Code = word(said.Type)
		}
	}
	e.notBilled = own || !lostProvider(answer.StatusCode)
	return e
}

// lostProvider reports whether a status is a proxy's for a provider that it had given the request and heard nothing
// from.
func lostProvider(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusGatewayTimeout, 520, 524: // the last two are Cloudflare's
		return true
	}
	return false
}

// withoutURL takes the request's URL out of an error's text, since it can have a key in it.
func withoutURL(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
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
