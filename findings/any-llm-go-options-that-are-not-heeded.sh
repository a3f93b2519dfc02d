#!/bin/sh
# github.com/mozilla-ai/any-llm-go v0.8.0: WithBaseURL and WithHTTPClient are options of every provider.
#
# Expected: the calls go through the client that was given, to the URL that was given, as OpenAI's do.
# Seen: both are taken without an error everywhere, but anthropic does not use the client, and gemini does not use the URL: it
# calls Google's own host. So a client that meters never sees Anthropic's calls, and a gateway never sees Gemini's.
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
	"errors"
	"fmt"
	"net/http"
	"strings"

	anyllm "github.com/mozilla-ai/any-llm-go"
	"github.com/mozilla-ai/any-llm-go/providers/anthropic"
	"github.com/mozilla-ai/any-llm-go/providers/gemini"
	"github.com/mozilla-ai/any-llm-go/providers/openai"
)

const gateway = "127.0.0.1:9"

// recorder tells where a request would go, and sends nothing.
type recorder struct{ host string }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.host = request.URL.Host
	return nil, errors.New("not sent")
}

// refused reports whether nobody listened where a gateway was to be: the URL was used, if not through the client.
func refused(err error) bool { return strings.Contains(err.Error(), gateway) }

func main() {
	ask := func(name string, make func(...anyllm.Option) (anyllm.Provider, error), model string) {
		seen := &recorder{}
		p, err := make(anyllm.WithAPIKey("none"), anyllm.WithBaseURL("http://"+gateway+"/v1"), anyllm.WithHTTPClient(&http.Client{Transport: seen}))
		if err != nil {
			panic(err)
		}
		_, err = p.Completion(context.Background(), anyllm.CompletionParams{Model: model,
			Messages: []anyllm.Message{{Role: anyllm.RoleUser, Content: "What is the capital of France?"}}})
		if err == nil {
			panic("an answer")
		}
		fmt.Printf("%s: its own client used %t, the URL %t\n", name, seen.host != "", seen.host == gateway || refused(err))
	}
	ask("openai", func(o ...anyllm.Option) (anyllm.Provider, error) { return openai.New(o...) }, "gpt-5-mini")
	ask("anthropic", func(o ...anyllm.Option) (anyllm.Provider, error) { return anthropic.New(o...) }, "claude-haiku-4-5")
	ask("gemini", func(o ...anyllm.Option) (anyllm.Provider, error) { return gemini.New(o...) }, "gemini-2.5-flash")
}
GO
go get github.com/mozilla-ai/any-llm-go@v0.8.0 2>log || { cat log >&2; exit 1; }
go mod tidy 2>log || { cat log >&2; exit 1; }
seen=$(GOFLAGS=-mod=mod GOWORK=off go run .)
echo "$seen"
want='openai: its own client used true, the URL true
anthropic: its own client used false, the URL true
gemini: its own client used true, the URL false'
if [ "$seen" != "$want" ]; then
	echo "changed: other options are heeded than before" >&2
	exit 1
fi
