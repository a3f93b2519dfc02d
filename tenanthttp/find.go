package tenanthttp

import (
	"context"
	"errors"
	"iter"
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
// its status, 402, as the last refusal under ctx, if that is of [WithCall] or [Middleware], or made from one that is. The
// last 4,096 refusals of the process are known.
func AsRefusal(ctx context.Context, err error) (error, bool) {
	if err == nil {
		return nil, false
	}
	if code(err) != "" {
		return err, true
	}
	for text := range texts(err) {
		for {
			_, rest, found := strings.Cut(text, idPrefix)
			if !found {
				break
			}
			if len(rest) >= idLength {
				if refused, ok := recent.find(rest[:idLength]); ok {
					return refused, true
				}
			}
			text = rest
		}
	}
	if last := scopeOf(ctx).last; last != nil && strings.Contains(err.Error(), "402") {
		if r := last.Load(); r != nil {
			return r.err, true
		}
	}
	return nil, false
}

// texts yields what an error and those that it wraps say, aloud or in their fields: some SDKs keep a reply's message out
// of the text.
func texts(err error) iter.Seq[string] {
	return func(yield func(string) bool) { _ = walk(err, yield) }
}

func walk(err error, yield func(string) bool) bool {
	if err == nil {
		return true
	}
	if !yield(err.Error()) || !fields(reflect.Indirect(reflect.ValueOf(err)), yield) {
		return false
	}
	switch err := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		return walk(err.Unwrap(), yield)
	case interface{ Unwrap() []error }:
		for _, each := range err.Unwrap() {
			if !walk(each, yield) {
				return false
			}
		}
	}
	return true
}

func fields(v reflect.Value, yield func(string) bool) bool {
	if v.Kind() != reflect.Struct {
		return true
	}
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() {
			continue
		}
		text := ""
		if f.Kind() == reflect.String {
			text = f.String()
		} else if resp, ok := f.Interface().(*http.Response); ok && resp != nil {
			text = resp.Header.Get("X-Request-Id")
		}
		if text != "" && !yield(text) {
			return false
		}
	}
	return true
}
