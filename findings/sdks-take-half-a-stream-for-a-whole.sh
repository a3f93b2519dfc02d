#!/bin/sh
# openai-go 3.99.0, anthropic-sdk-go 1.84.0, genai 1.77.0: a stream that ends before its last event is no error.
#
# A provider or a proxy that gives up in the middle of a reply often ends the response in good order: the last chunk of HTTP comes,
# and the last event of the API does not ([DONE] and a finish_reason; message_delta and message_stop; a finishReason).
#
# Expected: an error at the end of the stream, since each API has an event that says that the reply is whole, and the usage comes with it.
# Seen: the loop ends, the error is nil, the text is half, and there is no final usage: a caller that books by it books nothing of the
# output, and one that keeps the text keeps half of it.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >go.mod <<'MOD'
module half

go 1.26

require (
	github.com/anthropics/anthropic-sdk-go v1.84.0
	github.com/openai/openai-go/v3 v3.99.0
	google.golang.org/genai v1.77.0
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"google.golang.org/genai"
)

// provider answers with half a stream, which ends in good order.
func provider(events string) string {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, events)
	})).URL
}

func main() {
	ctx := context.Background()
	results := map[string]error{}
	texts := map[string]string{}

	o := openai.NewClient(openaioption.WithAPIKey("key"), openaioption.WithBaseURL(provider(
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Half"},"finish_reason":null}]}`+"\n\n")))
	chunks := o.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hi")}})
	for chunks.Next() {
		texts["openai-go"] += chunks.Current().Choices[0].Delta.Content
	}
	results["openai-go"] = chunks.Err()

	a := anthropic.NewClient(anthropicoption.WithAPIKey("key"), anthropicoption.WithBaseURL(provider(
		`event: message_start`+"\n"+`data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}`+"\n\n"+
			`event: content_block_start`+"\n"+`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`+"\n\n"+
			`event: content_block_delta`+"\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Half"}}`+"\n\n")))
	events := a.Messages.NewStreaming(ctx, anthropic.MessageNewParams{Model: "m", MaxTokens: 99, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hi"))}})
	for events.Next() {
		texts["anthropic-sdk-go"] += events.Current().Delta.Text
	}
	results["anthropic-sdk-go"] = events.Err()

	g, err := genai.NewClient(ctx, &genai.ClientConfig{Backend: genai.BackendGeminiAPI, APIKey: "key", HTTPOptions: genai.HTTPOptions{BaseURL: provider(
		`data: {"candidates":[{"content":{"role":"model","parts":[{"text":"Half"}]},"index":0}],"usageMetadata":{"promptTokenCount":9}}` + "\r\n\r\n")}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	results["genai"] = nil
	for generated, err := range g.Models.GenerateContentStream(ctx, "m", genai.Text("Hi"), nil) {
		if results["genai"] = err; err == nil {
			texts["genai"] += generated.Text()
		}
	}

	for _, sdk := range []string{"openai-go", "anthropic-sdk-go", "genai"} {
		fmt.Printf("%-16s text %q, error %v\n", sdk, texts[sdk], results[sdk])
		if texts[sdk] != "Half" || results[sdk] != nil {
			os.Exit(1)
		}
	}
}
GO
export GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
go run .
