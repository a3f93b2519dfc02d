package cookbook

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/openai/openai-go/v3"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// stream answers with server-sent events, and with 402 where the budget has no room.
func stream(sdk openai.Client, model string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := tenanthttp.ContextWithCall(r.Context(), tenant.WithAgent("chat"))
		s := sdk.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
			Model: model, MaxCompletionTokens: openai.Int(1000),
			Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(r.FormValue("q"))},
		})
		defer func() { _ = s.Close() }()
		more := s.Next() // the call is admitted, or refused, before the first byte goes out
		if err := s.Err(); err != nil {
			if refused, ok := tenanthttp.AsRefusal(ctx, err); ok {
				err = refused
			}
			if !tenanthttp.WriteRefusal(w, err) {
				http.Error(w, "the model could not answer", http.StatusBadGateway)
			}
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		for ; more; more = s.Next() {
			if c := s.Current().Choices; len(c) > 0 && c[0].Delta.Content != "" {
				text, _ := json.Marshal(c[0].Delta.Content)
				_, _ = fmt.Fprintf(w, "data: %s\n\n", text)
				_ = http.NewResponseController(w).Flush()
			}
		}
		if call, ok := tenanthttp.LastCall(ctx); ok {
			_, _ = fmt.Fprintf(w, "event: done\ndata: {\"cost\":%q,\"tokens\":%d}\n\n", call.Cost, call.Tokens)
		}
	}
}
