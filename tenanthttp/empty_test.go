package tenanthttp_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// A reply of nothing says nothing of what it costs. What was to come as a whole is charged as what was held; what was to
// come as a stream, as the input that was likely.
func TestReply_OfNothingIsChargedByWhatWasAsked(t *testing.T) {
	t.Parallel()
	const embed = `{"model":"test-model","input":"Hello"}`
	for _, c := range []struct {
		name, path, ask string
		status          int
		typ             string
		held            bool // all of it is charged
	}{
		{"an empty 200", chat, ask, http.StatusOK, "application/json", true},
		{"an empty 200 without a type", chat, ask, http.StatusOK, "", true},
		{"a 204", chat, ask, http.StatusNoContent, "", true},
		{"an empty 200 of a stream", chat, askStream, http.StatusOK, "text/event-stream", false},
		{"a 204 of a stream", chat, askStream, http.StatusNoContent, "", false},
		{"an empty 200 of Anthropic's", messages, ask, http.StatusOK, "application/json", true},
		{"a 204 of Anthropic's stream", messages, askStream, http.StatusNoContent, "", false},
		{"an empty 200 of embeddings", "/v1/embeddings", embed, http.StatusOK, "application/json", true},
		{"a 204 of embeddings", "/v1/embeddings", embed, http.StatusNoContent, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("1")}}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if c.typ != "" {
					w.Header().Set("Content-Type", c.typ)
				}
				w.WriteHeader(c.status)
			})
			ctx := tenanthttp.ContextWithCall(b.ctx)
			resp, body := b.do(b.request(ctx, http.MethodPost, c.path, c.ask))
			require.Equal(t, c.status, resp.StatusCode)
			require.Empty(t, body)
			e := b.execution()
			require.Equal(t, []any{"succeeded", true, int64(1)}, []any{e.Status, e.Estimated, e.Calls})
			if c.held {
				require.Equal(t, []int64{e.HeldCostNano, e.HeldTokens}, []int64{e.CostNano, e.Tokens})
			} else {
				require.Positive(t, e.Usage.Input)
				require.Less(t, e.Usage.Input, int64(len(c.ask)))
				require.Zero(t, e.Usage.OutputTokens())
			}
			last, ok := tenanthttp.LastCall(ctx)
			require.True(t, ok)
			require.Equal(t, e.Cost().String(), last.Cost.String())
		})
	}
}
