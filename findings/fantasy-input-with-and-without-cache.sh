#!/bin/sh
# charm.land/fantasy v0.42.0: one type of usage for all providers, and two meanings of its field InputTokens.
#
# The same call everywhere: a prompt of 1,000 tokens, 900 of which are read from the cache, and 5 tokens of output, each provider
# answering in its own form. Expected: InputTokens and CacheReadTokens mean the same for all of them, since the type is shared.
# Seen: InputTokens leaves the cached tokens out for OpenAI and Anthropic (100) and has them in for Gemini (1,000); TotalTokens
# leaves them out for Anthropic alone (105). A price of input x InputTokens + read x CacheReadTokens is right for two of the three.
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

	"charm.land/fantasy"
	"charm.land/fantasy/providers/anthropic"
	"charm.land/fantasy/providers/google"
	"charm.land/fantasy/providers/openai"
)

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/chat/completions"):
			fmt.Fprint(w, `{"id":"c1","object":"chat.completion","created":1,"model":"gpt-4.1-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Paris.","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":5,"total_tokens":1005,"prompt_tokens_details":{"cached_tokens":900}}}`)
		case strings.HasSuffix(r.URL.Path, "/messages"):
			fmt.Fprint(w, `{"id":"m1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{"type":"text","text":"Paris."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":100,"cache_read_input_tokens":900,"cache_creation_input_tokens":0,"output_tokens":5}}`)
		default:
			fmt.Fprint(w, `{"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"Paris."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1000,"cachedContentTokenCount":900,"candidatesTokenCount":5,"totalTokenCount":1005},"modelVersion":"gemini-2.5-flash"}`)
		}
	}))
	defer server.Close()
	ctx := context.Background()
	ask := func(name string, provider fantasy.Provider, err error, model string) {
		if err != nil {
			panic(err)
		}
		m, err := provider.LanguageModel(ctx, model)
		if err != nil {
			panic(err)
		}
		r, err := m.Generate(ctx, fantasy.Call{Prompt: fantasy.Prompt{fantasy.NewUserMessage("What is the capital of France?")}})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s input=%d cache_read=%d total=%d\n", name, r.Usage.InputTokens, r.Usage.CacheReadTokens, r.Usage.TotalTokens)
	}
	o, err := openai.New(openai.WithAPIKey("none"), openai.WithBaseURL(server.URL))
	ask("openai", o, err, "gpt-4.1-mini")
	a, err := anthropic.New(anthropic.WithAPIKey("none"), anthropic.WithBaseURL(server.URL))
	ask("anthropic", a, err, "claude-haiku-4-5")
	g, err := google.New(google.WithGeminiAPIKey("none"), google.WithBaseURL(server.URL))
	ask("google", g, err, "gemini-2.5-flash")
}
GO
go get charm.land/fantasy@v0.42.0 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
want='openai input=100 cache_read=900 total=1005
anthropic input=100 cache_read=900 total=105
google input=1000 cache_read=900 total=1005'
if [ "$seen" != "$want" ]; then
	echo "changed: the fields no longer differ by provider as described" >&2
	exit 1
fi
