package main

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

// localServer speaks OpenAI's chat completions format on loopback, in the place of OpenAI.
type localServer struct {
	url   string
	http  *http.Server
	calls atomic.Int64
	kill  bool // die in the middle of the second call
}

func startServer(kill bool) (*localServer, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &localServer{url: "http://" + listener.Addr().String() + "/v1", kill: kill}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.complete)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// Close ends the server at once, and the calls that it is at.
func (s *localServer) Close() { _ = s.http.Close() }

// chatRequest is the part of a request that the server looks at.
type chatRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Content string `json:"content"`
	} `json:"messages"`
	MaxTokens int `json:"max_completion_tokens"`
}

func (s *localServer) complete(w http.ResponseWriter, r *http.Request) {
	call := s.calls.Add(1)
	var request chatRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request.Messages) == 0 {
		write(w, http.StatusBadRequest, map[string]any{"error": map[string]any{
			"message": "the body is no chat completion request", "type": "invalid_request_error", "param": nil, "code": nil,
		}})
		return
	}
	if s.kill && call > 1 {
		s.Close()
		return
	}

	// About four letters make a token, and a message is framed by four.
	prompt := 3
	for _, m := range request.Messages {
		prompt += 4 + len(m.Content)/4
	}
	words := strings.SplitAfter("I only stand in for "+request.Model+", so I know no answers. But my tokens are counted and priced like the "+
		"real model's, and each of them is held to your budget: this is what such a reply would cost.", " ")
	text, finish, completion := "", "stop", 0
	for _, word := range words {
		tokens := 1 + len(word)/6
		if request.MaxTokens > 0 && completion+tokens > request.MaxTokens {
			finish = "length"
			break
		}
		text, completion = text+word, completion+tokens
	}
	write(w, http.StatusOK, map[string]any{
		"id":      fmt.Sprintf("chatcmpl-local-%d", call),
		"object":  "chat.completion",
		"created": time.Now().Unix(),
		"model":   request.Model,
		"choices": []any{map[string]any{
			"index":         0,
			"message":       map[string]any{"role": "assistant", "content": text, "refusal": nil},
			"logprobs":      nil,
			"finish_reason": finish,
		}},
		"usage": map[string]any{
			"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
			"prompt_tokens_details": map[string]any{"cached_tokens": 0, "audio_tokens": 0},
			"completion_tokens_details": map[string]any{
				"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
			},
		},
		"service_tier": "default",
	})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
