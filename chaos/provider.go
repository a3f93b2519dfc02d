package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// provider answers calls of OpenAI's chat completions as the caller's context says, and starts no connection.
type provider struct{}

type answerKey struct{}

// answer is what the provider makes of a call.
type answer struct {
	takes time.Duration
	share int64        // of the output that the request allows, in per cent
	usage tenant.Usage // set by the provider
}

func (provider) RoundTrip(request *http.Request) (*http.Response, error) {
	a, ok := request.Context().Value(answerKey{}).(*answer)
	if !ok {
		return nil, fmt.Errorf("a call without an answer")
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	var asked struct {
		MaxTokens int64 `json:"max_tokens"` //nolint:tagliatelle // as OpenAI writes it
		Stream    bool  `json:"stream"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, err
	}
	a.usage = tenant.Usage{Input: int64(len(body)) / 4, Output: asked.MaxTokens * a.share / 100}
	wait(request.Context(), a.takes)
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, a.usage.Input, a.usage.Output, a.usage.Input+a.usage.Output)
	kind, text := "application/json", `{"id":"x","object":"chat.completion","model":"priced","choices":[{"index":0,"message":{"role":"assistant","content":"."},"finish_reason":"stop"}],`+usage+`}`
	if asked.Stream {
		kind = "text/event-stream"
		text = `data: {"id":"x","object":"chat.completion.chunk","model":"priced","choices":[{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}` + "\n\n" +
			`data: {"id":"x","object":"chat.completion.chunk","model":"priced","choices":[],` + usage + "}\n\ndata: [DONE]\n\n"
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: -1, Request: request,
	}, nil
}

// ask makes a call through the transport, and writes down what its caller has in hand: a reply that was paid for. It has
// a key of its own, by which it is found on the books.
func (c *caller) ask(stop context.Context) {
	c.calls++
	e := entry{What: answered, Tenant: c.tenant(), Key: fmt.Sprintf("answer-%d-%d-%d-%d", c.Slot, c.Life, c.number, c.calls)}
	a := &answer{takes: time.Duration(c.between(0, 400)) * time.Millisecond, share: c.between(5, 95)}
	ctx := context.WithValue(context.WithoutCancel(stop), answerKey{}, a)
	ctx = tenanthttp.ContextWithCall(tenant.ContextWithTenant(ctx, tenant.ID(e.Tenant)), tenant.WithIdempotencyKey(e.Key),
		tenant.WithWait(time.Duration(c.between(0, 1000))*time.Millisecond))
	body := fmt.Sprintf(`{"model":"priced","max_tokens":%d,"stream":%t,"messages":[{"role":"user","content":"%s"}]}`,
		c.between(300, 3000), c.chance(40), strings.Repeat("x ", int(c.between(1, 400))))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.openai.com/v1/chat/completions", bytes.NewBufferString(body))
	if err != nil {
		c.broken(e, err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	began := c.now()
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		c.refused(stop, e.Tenant, err)
		return
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	switch {
	case err != nil:
		c.broken(e, err)
	case response.StatusCode == http.StatusPaymentRequired:
		c.turnedAway(ctx, stop, e, text)
	case response.StatusCode != http.StatusOK:
		c.broken(e, fmt.Errorf("%s: %s", response.Status, text))
	default:
		e.Tokens, e.Costs = a.usage.TotalTokens(), prices{}.costs(a.usage, began, c.now())
		c.journal.write(e)
	}
}

// turnedAway writes down a refusal as what it was.
func (c *caller) turnedAway(ctx, stop context.Context, e entry, text []byte) {
	refusal, ok := tenanthttp.AsRefusal(ctx, fmt.Errorf("402: %s", text))
	if !ok {
		c.broken(e, fmt.Errorf("a refusal that nothing is known of: %s", text))
		return
	}
	c.refused(stop, e.Tenant, refusal)
}

func (c *caller) broken(e entry, err error) {
	e.What, e.Detail = wrong, "transport: "+err.Error()
	c.journal.write(e)
}
