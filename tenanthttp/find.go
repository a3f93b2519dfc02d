package tenanthttp

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/llmtenant/tenant"
)

// AsBudgetError returns the budget's refusal behind the error that an SDK has made of it; see [AsRefusal].
func AsBudgetError(ctx context.Context, err error) (*tenant.BudgetExceededError, bool) {
	refused, ok := AsRefusal(ctx, err)
	if !ok {
		return nil, false
	}
	var exceeded *tenant.BudgetExceededError
	ok = errors.As(refused, &exceeded)
	return exceeded, ok
}

// AsRefusal returns the error with which the ledger, or the transport, has refused a call, by the error that an SDK has
// made of it. It is found where the SDK's error wraps it; where the error's text, one of its exported fields or the
// [http.Response] in it has the id that the reply and its header name; and, where an SDK leaves no more of the reply than
// its status, 402, as the refusal of the last call under ctx, if that is of [ContextWithCall] or [Middleware], or derived from one
// that is. The last call under ctx is that of the contexts that were made from it too. Once another call is admitted, or
// a provider itself has answered 402, a status says nothing any more: of calls that are made at the same time, each is to
// have a ContextWithCall of its own. The last 4,096 refusals of the process are known.
func AsRefusal(ctx context.Context, err error) (error, bool) {
	if err == nil {
		return nil, false
	}
	if refuses(err) {
		return err, true
	}
	var f finding
	f.walk(err)
	switch {
	case f.refused != nil:
		return f.refused, true
	case f.payment():
		if s := scopeOf(ctx); s != nil {
			if r := s.refused.Load(); r != nil {
				return r.err, true
			}
		}
	}
	return nil, false
}

// A finding is what an error and those that it wraps say of a reply, aloud or in their fields: some SDKs keep a reply's
// message out of the text.
type finding struct {
	refused error // that a text names
	foreign bool  // there is a reply, and the transport has not made it
	status  int   // that a field states; zero where none does
	aloud   bool  // a text has the status 402
}

// payment reports whether all that is known of the reply is its status, 402.
func (f *finding) payment() bool {
	if f.status != 0 {
		return !f.foreign && f.status == http.StatusPaymentRequired
	}
	return !f.foreign && f.aloud
}

func (f *finding) walk(err error) {
	if err == nil || f.refused != nil {
		return
	}
	f.text(err.Error())
	f.aloud = f.aloud || saysPayment(err.Error())
	f.fields(reflect.Indirect(reflect.ValueOf(err)))
	switch err := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		f.walk(err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, each := range err.Unwrap() {
			f.walk(each)
		}
	}
}

// text looks for the id of a refusal.
func (f *finding) text(text string) {
	for f.refused == nil {
		_, rest, found := strings.Cut(text, idPrefix)
		if !found {
			return
		}
		if len(rest) >= idLength {
			f.refused, _ = recent.find(rest[:idLength])
		}
		text = rest
	}
}

func (f *finding) fields(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		field, is := v.Field(i), v.Type().Field(i)
		if !is.IsExported() {
			continue
		}
		switch {
		case field.Kind() == reflect.String:
			f.text(field.String())
		case field.CanInt():
			switch n := field.Int(); is.Name {
			case "StatusCode", "HTTPStatusCode", "Status", "Code":
				if f.status == 0 && n >= 100 && n <= 599 {
					f.status = int(n)
				}
			}
		default:
			f.response(field)
		}
	}
}

// response looks into a reply, or into what an SDK has put around it.
func (f *finding) response(v reflect.Value) {
	resp, ok := v.Interface().(*http.Response)
	if inner := reflect.Indirect(v); !ok && inner.Kind() == reflect.Struct {
		if is, found := inner.Type().FieldByName("Response"); found && is.IsExported() && len(is.Index) == 1 {
			resp, _ = inner.FieldByIndex(is.Index).Interface().(*http.Response)
		}
	}
	if resp == nil {
		return
	}
	id := resp.Header.Get("X-Request-Id")
	f.text(id)
	f.foreign = f.foreign || !strings.HasPrefix(id, idPrefix)
}

// saysPayment reports whether a text has the status 402 as a word: not in a longer number, an amount, a port or a path.
func saysPayment(text string) bool {
	const status = "402"
	for at := 0; ; at += len(status) {
		i := strings.Index(text[at:], status)
		if i < 0 {
			return false
		}
		at += i
		if begins(text[:at]) && ends(text[at+len(status):]) {
			return true
		}
	}
}

func inWord(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

// begins reports whether a word may begin after a text. After a colon or a sign of equality it does where what is before
// that names a status; otherwise it is a port.
func begins(before string) bool {
	if before == "" {
		return true
	}
	switch c := before[len(before)-1]; {
	case inWord(c), strings.IndexByte("$.,-+/#%@&?", c) >= 0:
		return false
	case c == ':' || c == '=':
		name := strings.ToLower(strings.TrimRight(before[:len(before)-1], `"'\ `))
		for _, named := range []string{"status", "code", "error", "http"} {
			if strings.HasSuffix(name, named) {
				return true
			}
		}
		return false
	}
	return true
}

// ends reports whether a word may end before a text.
func ends(after string) bool {
	if after == "" {
		return true
	}
	c := after[0]
	if inWord(c) || strings.IndexByte("/%@", c) >= 0 {
		return false
	}
	return strings.IndexByte(".,-:", c) < 0 || len(after) == 1 || !inWord(after[1])
}
