#!/bin/sh
# openai-go 3.99.0, ChatCompletionAccumulator, and npm openai 7.59.0, chat.completions.stream: the usage of a stream that states it more than once.
#
# Providers that took OpenAI's format over state the usage so far in each chunk (Perplexity always, vLLM with continuous_usage_stats), or the
# same usage in two chunks. OpenAI itself states it once, in the last.
# Expected: both of OpenAI's libraries end with what the last chunk states, 10 tokens of prompt and 3 of completion.
# Seen: the library for Node does. That for Go adds up the usage of all chunks: 30 and 6 for three chunks, so that a prompt is
# counted once for each chunk of the answer. Whoever bills by the accumulator's Usage has to keep the last chunk's.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund openai@7.59.0 >log 2>&1 || { cat log >&2; exit 1; }
cat >stream.txt <<'SSE'
data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"It "},"finish_reason":null}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"is."},"finish_reason":null}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}

data: [DONE]

SSE
cat >usage.js <<'JS'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import OpenAI from 'openai'
const server = createServer((request, response) => {
	response.setHeader('content-type', 'text/event-stream')
	response.end(readFileSync('stream.txt'))
})
await new Promise((ok) => server.listen(0, '127.0.0.1', ok))
const client = new OpenAI({ apiKey: 'key', baseURL: `http://127.0.0.1:${server.address().port}` })
const { usage } = await client.chat.completions.stream({ model: 'm', messages: [{ role: 'user', content: 'Is it?' }] }).finalChatCompletion()
console.log(`node: ${usage.prompt_tokens} ${usage.completion_tokens} ${usage.total_tokens}`)
server.close()
server.closeAllConnections()
JS
cat >go.mod <<'MOD'
module finding

go 1.26

require github.com/openai/openai-go/v3 v3.99.0
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

//go:embed stream.txt
var stream string

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, stream)
	}))
	defer server.Close()
	client := openai.NewClient(option.WithBaseURL(server.URL), option.WithAPIKey("key"))
	chunks := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Is it?")},
	})
	var all openai.ChatCompletionAccumulator
	for chunks.Next() {
		all.AddChunk(chunks.Current())
	}
	if chunks.Err() != nil {
		panic(chunks.Err())
	}
	fmt.Println("go:", all.Usage.PromptTokens, all.Usage.CompletionTokens, all.Usage.TotalTokens)
}
GO
export GOFLAGS=-mod=mod GOWORK=off
go build -o finding . >log 2>&1 || { cat log >&2; exit 1; }
seen=$(node usage.js && ./finding)
echo "$seen"
if [ "$seen" != "$(printf 'node: 10 3 13\ngo: 30 6 36')" ]; then
	echo "changed: usage that is stated again is counted in another way" >&2
	exit 1
fi
