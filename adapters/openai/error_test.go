package openai_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/openai"
	"github.com/llmtenant/tenant/tenanttest"
)

const invalidKey = `{"error":{"message":"Incorrect API key provided: sk-secret","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`

func TestError_ThatTheProviderAnswersIsNotBilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		status    int
		body      string
		notBilled bool
		code      string
		text      string
	}{
		{"wrong key", 401, invalidKey, true, "invalid_api_key", "openai: 401 Unauthorized (invalid_api_key)"},
		{"a type where there is no code", 400, `{"error":{"message":"m","type":"invalid_request_error","code":null}}`, true, "invalid_request_error", "openai: 400 Bad Request (invalid_request_error)"},
		{"a code that is a number", 429, `{"error":{"message":"m","code":429}}`, true, "429", "openai: 429 Too Many Requests (429)"},
		{"a code that is a sentence", 400, `{"error":{"message":"m","code":"your key sk-secret"}}`, true, "", "openai: 400 Bad Request"},
		{"an error that is a string", 404, `{"error":"model not found"}`, true, "", "openai: 404 Not Found"},
		{"an error without an object", 429, `{"detail":"slow down"}`, true, "", "openai: 429 Too Many Requests"},
		{"no JSON", 500, `oops`, true, "", "openai: 500 Internal Server Error"},
		{"an empty body", 503, ``, true, "", "openai: 503 Service Unavailable"},
		{"a redirect that leads nowhere", 304, ``, true, "", "openai: 304 Not Modified"},
		{"an unknown status", 599, ``, true, "", "openai: 599"},
		{"a proxy that lost the provider", 502, `<html>Bad gateway</html>`, false, "", "openai: 502 Bad Gateway"},
		{"a proxy that heard nothing in time", 504, ``, false, "", "openai: 504 Gateway Timeout"},
		{"Cloudflare that heard nothing in time", 524, `error code: 524`, false, "", "openai: 524"},
		{"the API's own word with a proxy's status", 502, `{"error":{"message":"m","type":"server_error"}}`, true, "server_error", "openai: 502 Bad Gateway (server_error)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Request-Id", "req_9")
				reply(c.status, c.body)(w, r)
			})
			response, err := s.model(t).Generate(t.Context(), hi)
			require.Nil(t, response)
			require.Equal(t, c.notBilled, errors.Is(err, tenant.ErrNotBilled))
			var failed *openai.Error
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.status, failed.StatusCode())
			require.Equal(t, c.code, failed.Code)
			require.Equal(t, "req_9", failed.RequestID)
			require.EqualError(t, err, c.text)
		})
	}
}

func TestError_OfTheSDKCanBeHadForItsMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(401, invalidKey))
	_, err := s.model(t).Generate(t.Context(), hi)
	var said *sdk.Error
	require.ErrorAs(t, err, &said)
	require.Contains(t, said.Message, "Incorrect API key")
	require.NotContains(t, err.Error(), "sk-secret")
}

func TestRequest_ThatWasNeverSentIsNotBilled(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refused := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())

	secure := httptest.NewTLSServer(reply(200, hello))
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dialing, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	lookup := &net.DNSError{Err: "no such host", Name: "api.example"}
	failing := func(err error) option.RequestOption {
		return option.WithHTTPClient(&http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, err },
		}})
	}
	for _, c := range []struct {
		name    string
		ctx     func() context.Context
		options []option.RequestOption
		is      error
	}{
		{"connection refused", t.Context, []option.RequestOption{option.WithBaseURL(refused), option.WithHTTPClient(&http.Client{Transport: &http.Transport{}})}, nil},
		{"no such host", t.Context, []option.RequestOption{option.WithBaseURL("http://api.example"), failing(lookup)}, lookup},
		{"a certificate that is not trusted", t.Context, []option.RequestOption{option.WithBaseURL(secure.URL), option.WithHTTPClient(&http.Client{Transport: &http.Transport{}})}, nil},
		{"a ctx that has ended", func() context.Context { return ended }, []option.RequestOption{option.WithBaseURL(refused)}, context.Canceled},
		{"a ctx that ends while dialling", func() context.Context { return dialing }, []option.RequestOption{option.WithBaseURL(refused), option.WithHTTPClient(&http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				stop()
				<-over
				return nil, net.ErrClosed
			},
		}})}, context.Canceled},
		{"a base URL without a scheme", t.Context, []option.RequestOption{option.WithBaseURL("api.example/v1")}, nil},
		{"an option that fails", t.Context, []option.RequestOption{option.WithBaseURL("http://a b")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := newModel(t, append([]option.RequestOption{option.WithAPIKey("k")}, c.options...))
			_, err := model.Generate(c.ctx(), hi)
			require.ErrorIs(t, err, tenant.ErrNotBilled)
			var failed *openai.Error
			require.ErrorAs(t, err, &failed)
			require.Zero(t, failed.StatusCode())
			require.NotContains(t, err.Error(), "chat/completions")
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
}

func TestRequest_ThatMayHaveBeenReceivedIsNotCalledUnbilled(t *testing.T) {
	t.Parallel()
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		reply(200, hello)(w, r)
	}
	half := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		reply(200, hello[:100])(w, r)
	}
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>")
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		option option.RequestOption
		is     error
	}{
		{"the connection breaks", hangUp, nil, io.EOF},
		{"the body is cut short, after its usage", cut, nil, io.ErrUnexpectedEOF},
		{"the body is cut short, before its usage", half, nil, io.ErrUnexpectedEOF},
		{"the answer takes too long", slow, option.WithRequestTimeout(2 * time.Second), context.DeadlineExceeded},
		{"the answer is no JSON", reply(200, "not json"), nil, nil},
		{"the answer is a page", html, nil, nil},
		{"the HTTP client cannot be watched", reply(200, ""), option.WithHTTPClient(blind{}), errBlind},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, c.answer)
			options := s.options()
			if c.option != nil {
				options = append(options, c.option)
			}
			response, err := newModel(t, options).Generate(t.Context(), hi)
			if strings.HasSuffix(c.name, "after its usage") {
				require.Equal(t, &tenant.Usage{Input: 1000, Output: 500}, response.Usage, "as the transport books it")
			} else {
				require.Nil(t, response)
			}
			require.Error(t, err)
			require.NotErrorIs(t, err, tenant.ErrNotBilled)
			require.NotContains(t, err.Error(), s.URL)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
}

var errBlind = errors.New("something went wrong")

// blind is an HTTP client that does not say how far a request got.
type blind struct{}

func (blind) Do(*http.Request) (*http.Response, error) { return nil, errBlind }

func TestRequest_CancelledInFlightIsNotCalledUnbilled(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := s.model(t).Generate(ctx, hi)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
}

func TestAnswer_WithoutChoicesIsAnErrorThatKeepsItsUsage(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(200, `{"id":"gen-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0}}`))
	response, err := s.model(t).Generate(t.Context(), hi)
	require.EqualError(t, err, "openai: the answer cannot be read")
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
	require.Equal(t, &tenant.Usage{Input: 7}, response.Usage)

	s = newServer(t, reply(200, `{"error":{"message":"upstream failed","code":502}}`))
	response, err = s.model(t).Generate(t.Context(), hi)
	require.EqualError(t, err, "openai: the answer is an error (502)")
	require.ErrorIs(t, err, tenant.ErrNotBilled, "as the transport books it")
	require.Nil(t, response)
}

func TestCalls_ThatFailAreChargedByWhetherTheyWereBilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		cost   string
		code   string
	}{
		{"answered", reply(429, `{"error":{"message":"m","code":"rate_limit_exceeded"}}`), "0", "http_429"},
		{"unknown", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "0.002026", "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, c.answer)
			db, ledger := tenanttest.Open(t)
			agent, err := tenant.NewAgent(ledger, s.model(t, openai.WithProvider(tenanttest.Provider)), tenant.WithMaxTokens(500))
			require.NoError(t, err)
			_, err = agent.Call(t.Context(), "Hi", tenant.WithTenant(tenant.ID("acme")))
			var failed *tenant.CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.cost, failed.Cost.String())
			var code string
			require.NoError(t, db.Raw("SELECT error_code FROM llm_executions WHERE id = ?", failed.ExecutionID).Scan(&code).Error)
			require.Equal(t, c.code, code)
		})
	}
}
