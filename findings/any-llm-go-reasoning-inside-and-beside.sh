#!/bin/sh
# github.com/mozilla-ai/any-llm-go v0.8.0: its usage has ReasoningTokens beside PromptTokens, CompletionTokens and TotalTokens.
#
# The same call at both providers: 100 tokens of prompt, 20 of text, 300 of thought, so 420 that are billed.
# Expected: one meaning of the fields, and a total of 420 for both, which is what both providers state.
# Seen: for OpenAI the completion has the reasoning in (320, total 420); for Gemini it lies beside the completion (20) and the
# stated total of 420 is replaced by 120. A streamed call at OpenAI has no ReasoningTokens at all. Who prices completion tokens
# books a fifteenth of what Gemini bills; who adds the reasoning books OpenAI's twice.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'MOD'
module finding

go 1.26
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	anyllm "github.com/mozilla-ai/any-llm-go"
	"github.com/mozilla-ai/any-llm-go/providers/gemini"
	"github.com/mozilla-ai/any-llm-go/providers/openai"
)

const usage = `{"prompt_tokens":100,"completion_tokens":320,"total_tokens":420,"completion_tokens_details":{"reasoning_tokens":300}}`

// to sends every request to one server: this provider has no other way to say which.
type to string

func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(string(t), "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		switch {
		case !strings.HasSuffix(r.URL.Path, "/chat/completions"):
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"Paris."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":20,"thoughtsTokenCount":300,"totalTokenCount":420},"modelVersion":"gemini-2.5-flash","responseId":"r1"}`)
		case strings.Contains(string(body), `"stream":true`):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-5-mini","choices":[{"index":0,"delta":{"role":"assistant","content":"Paris."},"finish_reason":null}],"usage":null}`+"\n\n")
			fmt.Fprint(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-5-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`+"\n\n")
			fmt.Fprint(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-5-mini","choices":[],"usage":`+usage+"}\n\ndata: [DONE]\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"id":"c1","object":"chat.completion","created":1,"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Paris.","refusal":null},"finish_reason":"stop"}],"usage":`+usage+`}`)
		}
	}))
	defer server.Close()
	ctx := context.Background()
	ask := func(model string) anyllm.CompletionParams {
		return anyllm.CompletionParams{Model: model, Messages: []anyllm.Message{{Role: anyllm.RoleUser, Content: "What is the capital of France?"}}}
	}
	tell := func(name string, u *anyllm.Usage) {
		fmt.Printf("%s completion=%d reasoning=%d total=%d\n", name, u.CompletionTokens, u.ReasoningTokens, u.TotalTokens)
	}
	o, err := openai.New(anyllm.WithAPIKey("none"), anyllm.WithBaseURL(server.URL))
	if err != nil {
		panic(err)
	}
	reply, err := o.Completion(ctx, ask("gpt-5-mini"))
	if err != nil {
		panic(err)
	}
	tell("openai", reply.Usage)
	streamed := ask("gpt-5-mini")
	streamed.StreamOptions = &anyllm.StreamOptions{IncludeUsage: true}
	chunks, errs := o.CompletionStream(ctx, streamed)
	for chunk := range chunks {
		if chunk.Usage != nil {
			tell("openai streamed", chunk.Usage)
		}
	}
	if err := <-errs; err != nil {
		panic(err)
	}
	g, err := gemini.New(anyllm.WithAPIKey("none"), anyllm.WithHTTPClient(&http.Client{Transport: to(server.URL)}))
	if err != nil {
		panic(err)
	}
	if reply, err = g.Completion(ctx, ask("gemini-2.5-flash")); err != nil {
		panic(err)
	}
	tell("gemini", reply.Usage)
}
GO
go get github.com/mozilla-ai/any-llm-go@v0.8.0 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
want='openai completion=320 reasoning=300 total=420
openai streamed completion=320 reasoning=0 total=420
gemini completion=20 reasoning=300 total=120'
if [ "$seen" != "$want" ]; then
	echo "changed: reasoning is no longer counted in two ways" >&2
	exit 1
fi
