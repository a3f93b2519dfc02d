// Package localmodel stands in for OpenAI on loopback, so that the examples run without a key and cost nothing.
package localmodel

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Server speaks OpenAI's chat completions format, plain and streamed.
type Server struct {
	// URL is the base URL for a client.
	URL string

	http    *http.Server
	calls   atomic.Int64
	options Options
}

// Options are how a server behaves; the zero value answers at once.
type Options struct {
	// DieInCall is the number of the call in whose middle the server dies; 0: in none.
	DieInCall int64

	// Pace is how long it takes over each word.
	Pace time.Duration
}

// Start starts a server on a port that is free.
func Start(ctx context.Context, options Options) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the local server: %w", err)
	}
	s := &Server{URL: "http://" + listener.Addr().String() + "/v1", options: options}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.complete)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// Close ends the server at once, and the calls that it is at.
func (s *Server) Close() { _ = s.http.Close() }

// request is the part of a request that the server looks at.
type request struct {
	Model    string `json:"model"`
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	MaxTokens     int  `json:"max_completion_tokens"`
	Stream        bool `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// reply is what is said to a request, a word at a time.
type reply struct {
	id, model, finish  string
	words              []string
	prompt, completion int // tokens
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request) {
	call := s.calls.Add(1)
	var asked request
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Messages) == 0 {
		write(w, http.StatusBadRequest, map[string]any{"error": map[string]any{
			"message": "the body is no chat completion request", "type": "invalid_request_error", "param": nil, "code": nil,
		}})
		return
	}
	if s.options.DieInCall == call {
		s.Close()
		return
	}
	answer := answerTo(&asked)
	answer.id = fmt.Sprintf("chatcmpl-local-%d", call)
	if asked.Stream {
		s.stream(w, r, &answer, asked.StreamOptions.IncludeUsage)
		return
	}
	for range answer.words {
		if !s.pause(r.Context()) {
			return
		}
	}
	message := map[string]any{"role": "assistant", "content": strings.Join(answer.words, ""), "refusal": nil}
	write(w, http.StatusOK, answer.document("chat.completion", []any{map[string]any{
		"index": 0, "message": message, "logprobs": nil, "finish_reason": answer.finish,
	}}, answer.usage()))
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, answer *reply, usage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(choices []any, usage any) {
		body, _ := json.Marshal(answer.document("chat.completion.chunk", choices, usage)) // of strings and numbers
		_, _ = fmt.Fprintf(w, "data: %s\n\n", body)
		_ = http.NewResponseController(w).Flush()
	}
	choice := func(delta map[string]any, finish any) []any {
		return []any{map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}}
	}
	for _, word := range answer.words {
		if !s.pause(r.Context()) {
			return
		}
		send(choice(map[string]any{"role": "assistant", "content": word}, nil), nil)
	}
	send(choice(map[string]any{}, answer.finish), nil)
	if usage {
		send([]any{}, answer.usage())
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// pause takes the time of a word, and reports false where the caller has gone.
func (s *Server) pause(ctx context.Context) bool {
	if s.options.Pace == 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(s.options.Pace):
		return true
	case <-ctx.Done():
		return false
	}
}

// answerTo says the same to everybody, as far as the request's most tokens allow. About four letters make a token, and a
// message is framed by four.
func answerTo(asked *request) reply {
	answer := reply{model: asked.Model, finish: "stop", prompt: 3}
	for _, m := range asked.Messages {
		var text string
		if json.Unmarshal(m.Content, &text) != nil {
			text = string(m.Content) // parts
		}
		answer.prompt += 4 + len(text)/4
	}
	words := strings.SplitAfter("I only stand in for "+asked.Model+", so I know no answers. But my tokens are counted and priced like the "+
		"real model's, and each of them is held to your budget: this is what such a reply would cost.", " ")
	for _, word := range words {
		tokens := 1 + len(word)/6
		if asked.MaxTokens > 0 && answer.completion+tokens > asked.MaxTokens {
			answer.finish = "length"
			break
		}
		answer.words, answer.completion = append(answer.words, word), answer.completion+tokens
	}
	return answer
}

func (a *reply) document(object string, choices []any, usage any) map[string]any {
	return map[string]any{
		"id": a.id, "object": object, "created": time.Now().Unix(), "model": a.model, "choices": choices,
		"usage": usage, "service_tier": "default",
	}
}

func (a *reply) usage() map[string]any {
	return map[string]any{
		"prompt_tokens": a.prompt, "completion_tokens": a.completion, "total_tokens": a.prompt + a.completion,
		"prompt_tokens_details": map[string]any{"cached_tokens": 0, "audio_tokens": 0},
		"completion_tokens_details": map[string]any{
			"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
		},
	}
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
