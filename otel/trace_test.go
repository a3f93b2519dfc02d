package tenantotel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// traced is a service whose spans are kept, in the order in which they end.
type traced struct {
	*service
	tracer   trace.Tracer // of the host
	exporter *tracetest.InMemoryExporter
}

func newTraced(t *testing.T, options ...tenantotel.Option) *traced {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	s := newService(t, append(options, tenantotel.WithTracerProvider(provider))...)
	return &traced{s, provider.Tracer("host"), exporter}
}

// span returns the only span of a name.
func (s *traced) span(name string) tracetest.SpanStub {
	s.t.Helper()
	var found []tracetest.SpanStub
	for _, span := range s.exporter.GetSpans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	require.Len(s.t, found, 1, name)
	return found[0]
}

func attributes(s tracetest.SpanStub) map[string]any {
	all := map[string]any{}
	for _, kv := range s.Attributes {
		all[string(kv.Key)] = kv.Value.AsInterface()
	}
	return all
}

// under requires that a span is the child of another one, and lies inside of it.
func (s *traced) under(child, parent tracetest.SpanStub) {
	s.t.Helper()
	require.Equal(s.t, parent.SpanContext.TraceID(), child.SpanContext.TraceID())
	require.Equal(s.t, parent.SpanContext.SpanID(), child.Parent.SpanID())
	require.False(s.t, child.StartTime.Before(parent.StartTime))
	require.False(s.t, child.EndTime.After(parent.EndTime))
}

func TestTrace_OfAnAgentsCall(t *testing.T) {
	t.Parallel()
	s := newTraced(t, tenantotel.WithTenants("acme"), tenantotel.WithStabilityOptIn(""))
	step := func(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
		_, sdk := s.tracer.Start(ctx, "POST")
		defer sdk.End()
		response, err := tenanttest.Text("Hi", tenant.Usage{Input: 100, CacheRead: 40, Output: 30, Reasoning: 7})(ctx, r)
		response.RequestID, response.Model = "req-1", "test-model-2026"
		return response, err
	}
	ctx, host := s.tracer.Start(t.Context(), "GET /chat")
	reply, err := s.agent(step).Call(ctx, "Hello", tenant.WithTenant(tenant.ID("acme")), tenant.WithMaxTokens(300))
	require.NoError(t, err)
	host.End()

	call := s.span("chat test-model")
	s.under(call, s.span("GET /chat"))
	s.under(s.span("POST"), call)
	require.Equal(t, trace.SpanKindClient, call.SpanKind)
	require.Equal(t, codes.Unset, call.Status.Code)
	require.Empty(t, call.InstrumentationScope.SchemaURL)
	got := attributes(call)
	require.Positive(t, got["llmtenant.admission.duration"])
	require.Positive(t, got["llmtenant.held.nano_usd"])
	delete(got, "llmtenant.admission.duration")
	delete(got, "llmtenant.held.nano_usd")
	require.Equal(t, map[string]any{
		"gen_ai.operation.name": "chat", "gen_ai.system": "test", "gen_ai.request.model": "test-model", "gen_ai.request.max_tokens": int64(300),
		"gen_ai.response.model": "test-model-2026", "gen_ai.response.id": "req-1", "gen_ai.agent.name": "support",
		"gen_ai.usage.input_tokens": int64(140), "gen_ai.usage.output_tokens": int64(37),
		"gen_ai.usage.cache_read.input_tokens": int64(40), "gen_ai.usage.reasoning.output_tokens": int64(7),
		"llmtenant.execution.id": reply.ExecutionID, "llmtenant.tenant.id": "acme", "llmtenant.outcome": "succeeded",
		"llmtenant.cost.nano_usd": reply.Cost.Shift(9).IntPart(),
	}, got)
}

func TestTrace_OfACallThatFailedOrWasRefused(t *testing.T) {
	t.Parallel()
	s := newTraced(t, tenantotel.WithStabilityOptIn("gen_ai_latest_experimental"))
	ctx, host := s.tracer.Start(t.Context(), "host")
	_, err := s.agent(tenanttest.Fail(errors.New("the key sk-1 is wrong"))).Call(ctx, "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.Error(t, err)
	failed := s.span("chat test-model")
	require.Equal(t, codes.Error, failed.Status.Code)
	got := attributes(failed)
	require.Equal(t, "error", got["error.type"])
	require.Equal(t, "failed", got["llmtenant.outcome"])
	require.Equal(t, true, got["llmtenant.estimated"])
	require.Equal(t, "test", got["gen_ai.provider.name"])
	for _, absent := range []string{"gen_ai.system", "gen_ai.usage.input_tokens", "llmtenant.tenant.id"} {
		require.NotContains(t, got, absent)
	}
	s.exporter.Reset()

	require.NoError(t, tenant.ConfigureBudget(t.Context(), s.db, tenant.ID("acme"), func(b *tenant.Budget) error {
		b.Limits = tenant.Limits{MonthlyTokens: tenant.Count(1)}
		return nil
	}))
	_, err = s.agent().Call(ctx, "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
	host.End()
	refused := s.span("chat test-model")
	s.under(refused, s.span("host"))
	require.Equal(t, trace.SpanKindInternal, refused.SpanKind, "nobody was called")
	require.Equal(t, sdk.Status{Code: codes.Error, Description: "budget_exceeded"}, refused.Status)
	got = attributes(refused)
	require.Equal(t, []any{"refused", "budget_exceeded", "budget_exceeded", "tokens", "month"}, []any{
		got["llmtenant.outcome"], got["llmtenant.refusal.reason"], got["error.type"], got["llmtenant.limit.metric"], got["llmtenant.limit.window"],
	})
	for _, span := range s.exporter.GetSpans() {
		require.Empty(t, span.Events)
		for _, kv := range span.Attributes {
			if kv.Value.Type() == attribute.STRING {
				require.NotContains(t, kv.Value.AsString(), "sk-1")
			}
		}
	}
}

func TestTrace_OfACallThroughTheTransport(t *testing.T) {
	t.Parallel()
	s := newTraced(t, tenantotel.WithStabilityOptIn(""))
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"id":"cmpl-1","model":"test-model","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`)
	}))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		_, span := s.tracer.Start(r.Context(), "HTTP POST")
		defer span.End()
		return server.Client().Transport.RoundTrip(r)
	})
	transport, err := tenanthttp.NewTransport(s.ledger, base, tenanthttp.WithProvider("test"))
	require.NoError(t, err)
	post := func(ctx context.Context, path, body string) {
		r, err := http.NewRequestWithContext(tenant.ContextWithTenant(ctx, tenant.ID("acme")), http.MethodPost, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.Same(t, r, resp.Request, "the caller's, with the caller's context")
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	ctx, host := s.tracer.Start(t.Context(), "host")
	post(ctx, "/v1/chat/completions", `{"model":"test-model","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}`)
	host.End()
	call := s.span("chat test-model")
	s.under(call, s.span("host"))
	s.under(s.span("HTTP POST"), call)
	got := attributes(call)
	require.Equal(t, []any{int64(9), int64(2), int64(50), "cmpl-1", "succeeded"}, []any{
		got["gen_ai.usage.input_tokens"], got["gen_ai.usage.output_tokens"], got["gen_ai.request.max_tokens"], got["gen_ai.response.id"], got["llmtenant.outcome"],
	})
	s.exporter.Reset()

	status = http.StatusTooManyRequests
	post(t.Context(), "/v1/embeddings", `{"model":"test-model","input":"Hello"}`)
	call = s.span("embeddings test-model")
	require.False(t, call.Parent.IsValid())
	require.Equal(t, sdk.Status{Code: codes.Error, Description: "http_429"}, call.Status)
	require.Equal(t, "http_429", attributes(call)["error.type"])
}

// A program that reserves and settles itself has a span too, and each call of it one.
func TestTrace_OfACallThatTheProgramSettles(t *testing.T) {
	t.Parallel()
	s := newTraced(t)
	ctx, host := s.tracer.Start(t.Context(), "host")
	hold, err := s.ledger.Reserve(ctx, tenant.ID("acme"), tenant.Estimate{Provider: "bedrock", Model: "m", Cost: tenant.USD("1")})
	require.NoError(t, err)
	_, err = s.ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.5"), Usage: tenant.Usage{Input: 1}})
	require.NoError(t, err)
	host.End()
	call := s.span("chat m")
	s.under(call, s.span("host"))
	require.Equal(t, "aws.bedrock", attributes(call)["gen_ai.system"])
	require.EqualValues(t, 500_000_000, attributes(call)["llmtenant.cost.nano_usd"])

	s.exporter.Reset()
	_, err = s.ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Model: "m", Cost: tenant.USD("1")})
	require.NoError(t, err)
	require.Empty(t, s.exporter.GetSpans(), "what was made elsewhere has its span there")
}

// What is booked inside of a call is not the call.
func TestTrace_TellsTheCallsInsideOfACallApart(t *testing.T) {
	t.Parallel()
	s := newTraced(t)
	inner := s.agent(tenanttest.Text("in", tenant.Usage{Input: 1}))
	outer := s.agent(func(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
		hold, err := s.ledger.Reserve(ctx, tenant.ID("acme"), tenant.Estimate{Model: "by hand", Cost: tenant.USD("0.1")})
		require.NoError(t, err)
		_, err = s.ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.1")})
		require.NoError(t, err)
		hold, err = s.ledger.Reserve(ctx, tenant.ID("acme"), tenant.Estimate{Model: "dropped", Cost: tenant.USD("0.1")})
		require.NoError(t, err)
		_, err = s.ledger.Release(ctx, hold)
		require.NoError(t, err)
		_, err = inner.Call(ctx, "Hello")
		require.NoError(t, err)
		return tenanttest.Text("out", tenant.Usage{Input: 2})(ctx, r)
	})
	_, err := outer.Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.NoError(t, err)
	spans := s.exporter.GetSpans()
	require.Len(t, spans, 3)
	byHand, in, out := spans[0], spans[1], spans[2]
	require.Equal(t, "chat by hand", byHand.Name)
	s.under(byHand, out)
	s.under(in, out)
	require.EqualValues(t, 1, attributes(in)["gen_ai.usage.input_tokens"])
	require.EqualValues(t, 2, attributes(out)["gen_ai.usage.input_tokens"])
}
