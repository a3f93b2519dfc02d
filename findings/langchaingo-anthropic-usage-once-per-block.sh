#!/bin/sh
# github.com/tmc/langchaingo v0.1.14, llms/anthropic.
#
# A reply of Anthropic's is one message with several blocks (text, then a tool's call) and one usage. Elsewhere in langchaingo a
# choice is an alternative answer (n of OpenAI), so that who sums over choices sums what was billed.
# Expected: the usage of the message once.
# Seen: each block becomes a choice, and each carries the whole message's usage: a reply with a text and two calls of tools
# adds up to 3 x 400 = 1,200 tokens of input and 3 x 60 = 180 of output.
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

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/anthropic"
)

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"m1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[
			{"type":"text","text":"I look both up."},
			{"type":"tool_use","id":"t1","name":"weather","input":{"city":"Oslo"}},
			{"type":"tool_use","id":"t2","name":"weather","input":{"city":"Bergen"}}],
			"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":400,"output_tokens":60}}`)
	}))
	defer server.Close()
	model, err := anthropic.New(anthropic.WithToken("none"), anthropic.WithBaseURL(server.URL), anthropic.WithModel("claude-haiku-4-5"))
	if err != nil {
		panic(err)
	}
	weather := llms.Tool{Type: "function", Function: &llms.FunctionDefinition{Name: "weather", Parameters: map[string]any{
		"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}},
	}}}
	reply, err := model.GenerateContent(context.Background(), []llms.MessageContent{
		llms.TextParts(llms.ChatMessageTypeHuman, "How is the weather in Oslo and in Bergen?"),
	}, llms.WithTools([]llms.Tool{weather}), llms.WithMaxTokens(200))
	if err != nil {
		panic(err)
	}
	in, out := 0, 0
	for _, choice := range reply.Choices {
		in += choice.GenerationInfo["InputTokens"].(int)
		out += choice.GenerationInfo["OutputTokens"].(int)
	}
	fmt.Printf("choices=%d input=%d output=%d\n", len(reply.Choices), in, out)
}
GO
go get github.com/tmc/langchaingo@v0.1.14 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
if [ "$seen" != "choices=3 input=1200 output=180" ]; then
	echo "changed: the usage is no longer repeated with every block" >&2
	exit 1
fi
