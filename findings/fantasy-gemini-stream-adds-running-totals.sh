#!/bin/sh
# charm.land/fantasy v0.42.0, provider google, streamed.
#
# Gemini sends usageMetadata with every chunk of a stream, and its counts are totals so far: the last chunk has the call's usage.
# Expected: the finish part states the counts of the last chunk (7 tokens of output, 900 read from the cache, total 1,007).
# Seen: output and cache reads of all chunks are added up (2 + 5 + 7 = 14 and 3 x 900 = 2,700), and the total is that of the
# first chunk (1,002). Who books by it charges twice the output and three times the cache, the more the longer the answer.
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

	"charm.land/fantasy"
	"charm.land/fantasy/providers/google"
)

const chunk = `data: {"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"%s"}]}%s}],"usageMetadata":{"promptTokenCount":1000,"cachedContentTokenCount":900,"candidatesTokenCount":%d,"totalTokenCount":%d},"modelVersion":"gemini-2.5-flash","responseId":"r1"}` + "\r\n\r\n"

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, chunk, "Paris", "", 2, 1002)
		fmt.Fprintf(w, chunk, " is the", "", 5, 1005)
		fmt.Fprintf(w, chunk, " capital.", `,"finishReason":"STOP"`, 7, 1007)
	}))
	defer server.Close()
	ctx := context.Background()
	provider, err := google.New(google.WithGeminiAPIKey("none"), google.WithBaseURL(server.URL))
	if err != nil {
		panic(err)
	}
	model, err := provider.LanguageModel(ctx, "gemini-2.5-flash")
	if err != nil {
		panic(err)
	}
	stream, err := model.Stream(ctx, fantasy.Call{Prompt: fantasy.Prompt{fantasy.NewUserMessage("What is the capital of France?")}})
	if err != nil {
		panic(err)
	}
	for part := range stream {
		if part.Error != nil {
			panic(part.Error)
		}
		if part.Type == fantasy.StreamPartTypeFinish {
			u := part.Usage
			fmt.Printf("input=%d output=%d cache_read=%d total=%d\n", u.InputTokens, u.OutputTokens, u.CacheReadTokens, u.TotalTokens)
		}
	}
}
GO
go get charm.land/fantasy@v0.42.0 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
if [ "$seen" != "input=1000 output=14 cache_read=2700 total=1002" ]; then
	echo "changed: fantasy no longer adds up Gemini's running totals" >&2
	exit 1
fi
