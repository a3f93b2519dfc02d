//go:build realservers

package compat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// portkeyPackage is Portkey's gateway as npm has it. With a newer node-server, which it would be given, its streams fail.
const portkeyPackage = `{"private": true, "dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.14.1", "hono": "4.9.7"}}`

// portkey runs the gateway, and returns its URL.
func portkey(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "package.json"), []byte(portkeyPackage), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = folder
	said, err := install.CombinedOutput()
	require.NoError(t, err, "npm install: %s", said)

	free, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	var out lockedBuffer
	run, stop := context.WithCancel(context.Background())
	gateway := exec.CommandContext(run, "node", "node_modules/@portkey-ai/gateway/build/start-server.js", "--headless", fmt.Sprintf("--port=%d", port))
	gateway.Dir, gateway.Stdout, gateway.Stderr = folder, &out, &out
	require.NoError(t, gateway.Start())
	t.Cleanup(func() {
		stop()
		_ = gateway.Wait()
		if t.Failed() {
			t.Logf("the gateway said: %s", out.String())
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	require.Eventually(t, func() bool {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond, "the gateway does not answer")
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return url
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// upstream plays Anthropic and OpenAI behind the gateway.
func upstream(t *testing.T) string {
	const claude = `"input_tokens":37,"cache_read_input_tokens":512,"cache_creation_input_tokens":64,"cache_creation":{"ephemeral_5m_input_tokens":24,"ephemeral_1h_input_tokens":40}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var asked struct{ Stream bool }
		_ = json.Unmarshal(body, &asked)
		event := func(name, rest string) {
			_, _ = fmt.Fprintf(w, "event: %s\ndata: {\"type\":%q,%s}\n\n", name, name, rest)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/messages") && !asked.Stream:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"msg_7","type":"message","role":"assistant","model":"test-model","content":[{"type":"text","text":"All is well."}],`+
				`"stop_reason":"end_turn","stop_sequence":null,"usage":{`+claude+`,"output_tokens":21}}`)
		case strings.HasSuffix(r.URL.Path, "/messages"):
			w.Header().Set("Content-Type", "text/event-stream")
			event("message_start", `"message":{"id":"msg_7","type":"message","role":"assistant","model":"test-model","content":[],"stop_reason":null,"usage":{`+claude+`,"output_tokens":1}}`)
			event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`)
			event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"All is well."}`)
			event("content_block_stop", `"index":0`)
			event("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":21}`)
			event("message_stop", `"x":0`)
		case !asked.Stream:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"chatcmpl-7","object":"chat.completion","model":"test-model","choices":[{"index":0,"message":{"role":"assistant","content":"All is well."},"finish_reason":"stop"}],`+
				`"usage":{"prompt_tokens":613,"completion_tokens":61,"total_tokens":674,"prompt_tokens_details":{"cached_tokens":512},"completion_tokens_details":{"reasoning_tokens":40}}}`)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"id":"chatcmpl-7","object":"chat.completion.chunk","model":"test-model","choices":[{"index":0,"delta":{"content":"All is well."},"finish_reason":"stop"}]}`+"\n\n")
			if strings.Contains(string(body), `"include_usage":true`) {
				_, _ = io.WriteString(w, `data: {"id":"chatcmpl-7","object":"chat.completion.chunk","model":"test-model","choices":[],"usage":{"prompt_tokens":613,"completion_tokens":61,"total_tokens":674,"prompt_tokens_details":{"cached_tokens":512},"completion_tokens_details":{"reasoning_tokens":40}}}`+"\n\n")
			}
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/v1"
}

// TestPortkey_IsMeteredToTheToken drives Portkey's own gateway, installed from npm, in front of a provider on loopback:
//
//	go test -tags realservers -run Portkey .
func TestPortkey_IsMeteredToTheToken(t *testing.T) {
	t.Parallel()
	gateway, provider := portkey(t), upstream(t)
	chat := func(m *metered, name string) openai.Client {
		return openai.NewClient(option.WithHTTPClient(m.client), option.WithBaseURL(gateway+"/v1"), option.WithAPIKey("key"), option.WithMaxRetries(0),
			option.WithHeader("x-portkey-provider", name), option.WithHeader("x-portkey-custom-host", provider))
	}
	params := openai.ChatCompletionNewParams{
		Model: "test-model", MaxTokens: openai.Int(200), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
	}
	plain := func(name string) func(*metered) (string, error) {
		return func(m *metered) (string, error) {
			sdk := chat(m, name)
			reply, err := sdk.Chat.Completions.New(m.ctx, params)
			if err != nil {
				return "", err
			}
			return reply.Choices[0].Message.Content, nil
		}
	}
	streamed := func(name string) func(*metered) (string, error) {
		return func(m *metered) (text string, err error) {
			sdk := chat(m, name)
			stream := sdk.Chat.Completions.NewStreaming(m.ctx, params)
			defer func() { _ = stream.Close() }()
			for stream.Next() {
				if len(stream.Current().Choices) == 0 {
					return "", errNoChoices
				}
				text += stream.Current().Choices[0].Delta.Content
			}
			return text, stream.Err()
		}
	}
	messages := func(m *metered) (string, error) {
		sdk := anthropic.NewClient(anthropicoption.WithHTTPClient(m.client), anthropicoption.WithBaseURL(gateway), anthropicoption.WithAPIKey("key"),
			anthropicoption.WithMaxRetries(0), anthropicoption.WithHeader("x-portkey-provider", "anthropic"), anthropicoption.WithHeader("x-portkey-custom-host", provider))
		reply, err := sdk.Messages.New(m.ctx, anthropic.MessageNewParams{
			Model: "test-model", MaxTokens: 200, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))},
		})
		if err != nil {
			return "", err
		}
		return reply.Content[0].Text, nil
	}
	// What is said of Anthropic's cache lies beside the prompt, and for how long it was written is not said.
	claude := tenant.Usage{Input: 37, CacheRead: 512, CacheWrite5m: 64, Output: 21}
	gpt := tenant.Usage{Input: 101, CacheRead: 512, Output: 21, Reasoning: 40}
	for _, c := range []struct {
		name string
		call func(*metered) (string, error)
		want tenant.Usage
	}{
		{"Anthropic by chat completions", plain("anthropic"), claude},
		{"Anthropic by chat completions, streamed", streamed("anthropic"), claude},
		{"Anthropic by messages", messages, tenant.Usage{Input: 37, CacheRead: 512, CacheWrite5m: 24, CacheWrite1h: 40, Output: 21}},
		{"OpenAI", plain("openai"), gpt},
		{"OpenAI, streamed", streamed("openai"), gpt},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMetered(t, tenDollars, replies(``))
			text, err := c.call(m)
			require.NoError(t, err)
			require.Equal(t, "All is well.", text)
			e := m.execution()
			require.Equal(t, c.want, e.Usage)
			require.Equal(t, []any{"succeeded", false, "test-model"}, []any{e.Status, e.Estimated, e.BilledModel})
		})
	}
}
