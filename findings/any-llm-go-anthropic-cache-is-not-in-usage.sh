#!/bin/sh
# github.com/mozilla-ai/any-llm-go v0.8.0, provider anthropic.
#
# Anthropic counts tokens that are read from the cache or written to it beside input_tokens; both are billed (0.1 and 1.25 times the
# price of input). any-llm-go's usage is of OpenAI's form, whose prompt_tokens have them in.
# Expected: 10,012 prompt tokens for a call with 12 fresh ones, 8,000 read and 2,000 written.
# Seen: 12 prompt tokens and a total of 17, plain and streamed; the other 10,000 are in no field, so they can be neither priced
# nor limited by it.
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
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	anyllm "github.com/mozilla-ai/any-llm-go"
	"github.com/mozilla-ai/any-llm-go/providers/anthropic"
)

const usage = `{"input_tokens":12,"cache_read_input_tokens":8000,"cache_creation_input_tokens":2000,"output_tokens":%d}`

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Stream bool }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			panic(err)
		}
		if !asked.Stream {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id":"m1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{"type":"text","text":"Paris."}],"stop_reason":"end_turn","stop_sequence":null,"usage":`+usage+`}`, 5)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(name, data string) { fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data) }
		event("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":`+usage+`}}`, 1))
		event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Paris."}}`)
		event("content_block_stop", `{"type":"content_block_stop","index":0}`)
		event("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":`+usage+`}`, 5))
		event("message_stop", `{"type":"message_stop"}`)
	}))
	defer server.Close()
	provider, err := anthropic.New(anyllm.WithAPIKey("none"), anyllm.WithBaseURL(server.URL))
	if err != nil {
		panic(err)
	}
	ask := anyllm.CompletionParams{Model: "claude-haiku-4-5", Messages: []anyllm.Message{{Role: anyllm.RoleUser, Content: "What is the capital of France?"}}}
	reply, err := provider.Completion(context.Background(), ask)
	if err != nil {
		panic(err)
	}
	fmt.Printf("plain prompt=%d completion=%d total=%d\n", reply.Usage.PromptTokens, reply.Usage.CompletionTokens, reply.Usage.TotalTokens)
	chunks, errs := provider.CompletionStream(context.Background(), ask)
	for chunk := range chunks {
		if u := chunk.Usage; u != nil {
			fmt.Printf("streamed prompt=%d completion=%d total=%d\n", u.PromptTokens, u.CompletionTokens, u.TotalTokens)
		}
	}
	if err := <-errs; err != nil {
		panic(err)
	}
}
GO
go get github.com/mozilla-ai/any-llm-go@v0.8.0 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
want='plain prompt=12 completion=5 total=17
streamed prompt=12 completion=5 total=17'
if [ "$seen" != "$want" ]; then
	echo "changed: the tokens of the cache are no longer missing" >&2
	exit 1
fi
