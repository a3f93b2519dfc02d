package tenantotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

const openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// A meters is a meter provider that is scraped.
type meters struct {
	*metric.MeterProvider
	handler http.Handler
}

func newMeters(t testing.TB) *meters {
	t.Helper()
	registry := prom.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	require.NoError(t, err)
	m := &meters{metric.NewMeterProvider(metric.WithReader(exporter)), promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, ErrorHandling: promhttp.HTTPErrorOnError})}
	t.Cleanup(func() { _ = m.Shutdown(context.WithoutCancel(t.Context())) })
	return m
}

// scrape is what Prometheus gets.
func (m *meters) scrape(t testing.TB, accept string) scraped {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, w.Code, string(text))
	return scraped{t, string(text)}
}

type scraped struct {
	testing.TB
	text string
}

// types are the metrics and their types.
func (s scraped) types() map[string]string {
	types := map[string]string{}
	for line := range strings.Lines(s.text) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
			types[f[2]] = f[3]
		}
	}
	return types
}

// value is that of the only series that has all of these labels.
func (s scraped) value(name string, labels ...string) string {
	s.Helper()
	found := ""
	for line := range strings.Lines(s.text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		has := strings.HasPrefix(series, name+"{")
		for _, l := range labels {
			has = has && strings.Contains(series, l)
		}
		if has {
			require.Empty(s, found, "more than one series of %s has %v", name, labels)
			found, _, _ = strings.Cut(value, " ")
		}
	}
	require.NotEmpty(s, found, "no series of %s has %v in\n%s", name, labels, s.text)
	return found
}

// service is a ledger with telemetry, whose tenant "acme" has little left, and the agents of a host.
type service struct {
	t      *testing.T
	db     *gorm.DB
	ledger *tenant.Ledger
}

func newService(t *testing.T, options ...tenantotel.Option) *service {
	t.Helper()
	telemetry, err := tenantotel.New(options...)
	require.NoError(t, err)
	s := &service{t: t}
	s.db, s.ledger = tenanttest.Open(t, tenant.WithObserver(telemetry), tenant.WithDefaultEnforcement(tenant.Hard))
	require.NoError(t, telemetry.Watch(s.ledger))
	t.Cleanup(func() { require.NoError(t, telemetry.Close()) })
	return s
}

func (s *service) agent(steps ...tenanttest.Step) *tenant.Agent {
	s.t.Helper()
	agent, err := tenant.NewAgent(s.ledger, tenanttest.NewModel(steps...), tenant.WithAgent("support"))
	require.NoError(s.t, err)
	return agent
}

// busy makes a call of each kind.
func (s *service) busy() {
	t := s.t
	ok := tenanttest.Text("Hi", tenant.Usage{Input: 100, CacheRead: 40, CacheWrite5m: 20, InputImage: 3, Output: 30, Reasoning: 7})
	_, err := s.agent(ok).Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.NoError(t, err)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), s.db, tenant.ID("other"), func(b *tenant.Budget) error {
		b.Limits = tenant.Limits{DailyCalls: tenant.Count(1)}
		return nil
	}))
	_, err = s.agent(tenanttest.Fail(errors.New("no"))).Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("other")))
	require.Error(t, err)
	hold, err := s.ledger.Reserve(t.Context(), tenant.ID("acme"), tenant.Estimate{Provider: "bedrock", Model: "m", Cost: tenant.USD("0.000000007")})
	require.NoError(t, err)
	_, err = s.ledger.Release(t.Context(), hold)
	require.NoError(t, err)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), s.db, tenant.ID("acme"), func(b *tenant.Budget) error {
		b.Limits = tenant.Limits{DailyCalls: tenant.Count(1)}
		return nil
	}))
	_, err = s.agent(ok).Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
	_, err = s.agent(ok).Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("")))
	require.ErrorIs(t, err, tenant.ErrInvalidTenant)
	held, err := s.ledger.Reserve(t.Context(), tenant.ID("holds"), tenant.Estimate{Provider: "openai", Model: "m", Cost: tenant.USD("0.25")})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = s.ledger.Release(context.WithoutCancel(t.Context()), held) })
	transport, err := tenanthttp.NewTransport(s.ledger, roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }))
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPost, "https://api.elevenlabs.io/v1/text-to-speech/x", nil)
	_, err = transport.RoundTrip(r) //nolint:bodyclose // there is none
	require.Error(t, err)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestScrape_HasWhatTheLedgerKnows(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	s := newService(t, tenantotel.WithMeterProvider(m), tenantotel.WithStabilityOptIn(""))
	s.busy()
	got := m.scrape(t, openMetrics)

	require.Equal(t, map[string]string{
		"llmtenant_cost_nano_usd": "counter", "llmtenant_charge_nano_usd": "counter", "llmtenant_calls": "counter", "llmtenant_refusals": "counter",
		"llmtenant_incidents": "counter", "llmtenant_thresholds": "counter", "llmtenant_sweeps": "counter",
		"llmtenant_admission_duration_seconds": "histogram", "llmtenant_batch_size": "histogram", "llmtenant_batch_duration_seconds": "histogram",
		"llmtenant_holds": "gauge", "llmtenant_held_nano_usd": "gauge", "llmtenant_pending": "gauge", "llmtenant_pending_age_seconds": "gauge",
		"gen_ai_client_token_usage": "histogram", "gen_ai_client_operation_duration_seconds": "histogram", "target_info": "gauge",
	}, got.types(), "a counter without _total would be of an unknown type")

	var used tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), s.db, tenant.ID("acme")).Where("status = ?", "succeeded").First(&used).Error)
	acme := []string{`gen_ai_agent_name="support"`, `gen_ai_provider_name="test"`, `gen_ai_response_model="test-model"`}
	cost, err := strconv.ParseFloat(got.value("llmtenant_cost_nano_usd_total", acme...), 64)
	require.NoError(t, err)
	var failed tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), s.db, tenant.ID("other")).First(&failed).Error)
	require.Equal(t, used.CostNano+failed.CostNano, int64(cost), "to the nano-dollar")
	charge, err := strconv.ParseFloat(got.value("llmtenant_charge_nano_usd_total", acme...), 64)
	require.NoError(t, err)
	require.Equal(t, used.ChargeNano+failed.ChargeNano, int64(charge))
	require.Equal(t, "1.0", got.value("llmtenant_calls_total", append(acme, `llmtenant_outcome="succeeded"`)...))
	require.Equal(t, "1.0", got.value("llmtenant_calls_total", append(acme, `llmtenant_outcome="failed"`)...))
	require.Equal(t, "1.0", got.value("llmtenant_calls_total", `gen_ai_provider_name="aws.bedrock"`, `llmtenant_outcome="released"`))
	require.Equal(t, "1.0", got.value("llmtenant_refusals_total", `llmtenant_refusal_reason="budget_exceeded"`, `llmtenant_limit_metric="calls"`, `llmtenant_limit_window="day"`))
	require.Equal(t, "1.0", got.value("llmtenant_refusals_total", `llmtenant_refusal_reason="host_error"`))
	require.Equal(t, "1.0", got.value("llmtenant_incidents_total", `llmtenant_incident="estimated"`), "nobody knows what the call that failed has used")
	require.Equal(t, "1.0", got.value("llmtenant_incidents_total", `llmtenant_incident="unmetered"`))
	require.Equal(t, "0.0", got.value("llmtenant_incidents_total", `llmtenant_incident="overrun"`))
	require.Equal(t, "1.0", got.value("llmtenant_thresholds_total", `llmtenant_threshold_percent="100"`, `llmtenant_limit_window="day"`))
	require.Equal(t, "4", got.value("llmtenant_admission_duration_seconds_count", `llmtenant_outcome="admitted"`))
	require.Equal(t, "1", got.value("llmtenant_admission_duration_seconds_count", `llmtenant_outcome="refused"`))
	require.Equal(t, "1.0", got.value("llmtenant_holds", scopeLabel))
	require.Equal(t, "2.5e+08", got.value("llmtenant_held_nano_usd", scopeLabel))
	require.Equal(t, "0.0", got.value("llmtenant_pending", scopeLabel))
	require.Equal(t, "163.0", got.value("gen_ai_client_token_usage_sum", `gen_ai_token_type="input"`), "with what was cached")
	require.Equal(t, "37.0", got.value("gen_ai_client_token_usage_sum", `gen_ai_token_type="output"`), "with reasoning")
	require.NotContains(t, got.text, "acme", "no tenant has a series of its own")
	require.NotContains(t, got.text, "llmtenant_tenant_id")

	// The same without OpenMetrics.
	require.Equal(t, "counter", m.scrape(t, "text/plain").types()["llmtenant_calls_total"])
}

const scopeLabel = `otel_scope_name="github.com/llmtenant/tenant/otel"`

func TestScrape_HasTodaysNamesWhereTheyAreAskedFor(t *testing.T) {
	t.Setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
	m := newMeters(t)
	s := newService(t, tenantotel.WithMeterProvider(m))
	s.busy()
	got := m.scrape(t, openMetrics)
	types := got.types()
	require.NotContains(t, types, "gen_ai_client_token_usage")
	require.NotContains(t, types, "gen_ai_client_operation_duration_seconds")
	require.NotContains(t, got.text, "gen_ai_system")
	require.Equal(t, "histogram", types["gen_ai_client_inference_duration_seconds"])
	require.Equal(t, "histogram", types["gen_ai_client_inference_operation_input_tokens"])
	for name, want := range map[string]map[string]string{
		"input_tokens":            {"text": "160.0", "image": "3.0", "unknown": "0.0"},
		"output_tokens":           {"text": "37.0", "unknown": "0.0"},
		"cache_read_input_tokens": {"text": "40.0"}, "cache_write_input_tokens": {"text": "20.0"}, "reasoning_output_tokens": {"text": "7.0"},
	} {
		name = "gen_ai_client_inference_usage_" + name
		require.Equal(t, "counter", types[name], name)
		for modality, n := range want {
			require.Equal(t, n, got.value(name+"_total", `gen_ai_token_modality="`+modality+`"`, `gen_ai_provider_name="test"`), "%s %s", name, modality)
		}
	}
}

func TestTenants_HaveAnAttributeWhereTheyAreListed(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	s := newService(t, tenantotel.WithMeterProvider(m), tenantotel.WithTenants("acme"))
	s.busy()
	got := m.scrape(t, openMetrics)
	require.Equal(t, "1.0", got.value("llmtenant_calls_total", `llmtenant_tenant_id="acme"`, `llmtenant_outcome="succeeded"`))
	require.Equal(t, "1.0", got.value("llmtenant_calls_total", `llmtenant_tenant_id="_OTHER"`, `llmtenant_outcome="failed"`))
	require.NotContains(t, got.text, `"other"`)

	_, err := tenantotel.New(tenantotel.WithMeterProvider(m), tenantotel.WithTenants(make([]string, 1001)...))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "WithTenants")
	_, err = tenantotel.New(tenantotel.WithMeterProvider(m), tenantotel.WithTenants(""))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
}

func TestNew_NeedsSomewhereToTellIt(t *testing.T) {
	t.Parallel()
	for _, options := range [][]tenantotel.Option{nil, {nil}, {tenantotel.WithMeterProvider(nil)}, {tenantotel.WithTracerProvider(nil)}} {
		_, err := tenantotel.New(options...)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
	}
}

// Callers choose names of models. They cannot make series without end.
func TestNames_AreBounded(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m), tenantotel.WithStabilityOptIn(""))
	require.NoError(t, err)
	for i := range 3000 {
		name := "made-up-" + strconv.Itoa(i)
		telemetry.Observe(t.Context(), &tenant.SettledEvent{
			Provider: name, Model: name, BilledModel: name, Agent: name, Operation: name, Status: "failed", ErrorCode: name, Duration: time.Second, Cost: decimal.New(1, -9),
		})
		telemetry.Observe(t.Context(), &tenant.RefusalEvent{Provider: name, Model: name, Agent: name, Operation: name, Err: errors.New(name)})
	}
	got := m.scrape(t, openMetrics)
	series := map[string]int{}
	sum := 0.0
	for line := range strings.Lines(got.text) {
		name, rest, _ := strings.Cut(line, "{")
		series[name]++
		if name == "llmtenant_cost_nano_usd_total" {
			_, value, _ := strings.Cut(strings.TrimSpace(rest), "} ")
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			sum += n
		}
	}
	require.EqualValues(t, 3000, sum, "what has no series of its own is counted under another")
	for name, n := range series {
		if !strings.HasSuffix(name, "_bucket") {
			require.LessOrEqual(t, n, 402, name) // two kinds of tokens
		}
	}
	require.Contains(t, got.text, `gen_ai_response_model="_OTHER"`)
	require.NotContains(t, got.text, "otel_metric_overflow", "the SDK has a bound of its own, beyond which nothing is told apart")
}

// A counter that falls is read as one that has begun anew.
func TestCost_NeverFallsAndIsCountedToTheNano(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m))
	require.NoError(t, err)
	tell := func(corrected bool, status string, cost, held int64) {
		telemetry.Observe(t.Context(), &tenant.SettledEvent{
			Model: "m", Status: status, Corrected: corrected, Cost: decimal.New(cost, -9), HeldCost: decimal.New(held, -9), Duration: time.Second,
			Charge: decimal.New(3*cost, -9), HeldCharge: decimal.New(3*held, -9),
		})
	}
	for range 1000 {
		tell(false, "succeeded", 400, 500) // of which a sum of floats is not 0.0004
	}
	tell(false, "abandoned", 9_000_000_001, 9_000_000_001)
	tell(true, "succeeded", 1_000_000_000, 9_000_000_001)
	tell(true, "succeeded", 7, 5)
	got := m.scrape(t, openMetrics)
	require.Equal(t, "9.000400003e+09", got.value("llmtenant_cost_nano_usd_total", scopeLabel))
	require.Equal(t, "8.000000001e+09", got.value("llmtenant_cost_returned_nano_usd_total", scopeLabel))
	require.Equal(t, "2.7001200009e+10", got.value("llmtenant_charge_nano_usd_total", scopeLabel))
	require.Equal(t, "2.4000000003e+10", got.value("llmtenant_charge_returned_nano_usd_total", scopeLabel))
	require.Equal(t, "2.0", got.value("llmtenant_calls_total", `llmtenant_outcome="corrected"`))
	require.Equal(t, "1002", got.value("gen_ai_client_operation_duration_seconds_count", scopeLabel), "nobody knows how long the abandoned one took")
}

func TestRefusals_HaveAReasonOfAClosedList(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m))
	require.NoError(t, err)
	reasons := map[string]error{
		"budget_exceeded": &tenant.BudgetExceededError{}, "budget_contended": &tenant.BudgetExceededError{Contended: true}, "no_price": &tenant.NoPriceError{},
		"tenant_suspended": tenant.ErrTenantSuspended, "duplicate": &tenant.DuplicateError{}, "unavailable": tenant.ErrUnavailable, "not_migrated": tenant.ErrNotMigrated,
		"closed": tenant.ErrClosed, "canceled": context.Canceled, "deadline_exceeded": context.DeadlineExceeded, "other": errors.New("secret"),
	}
	for _, err := range reasons {
		telemetry.Observe(t.Context(), &tenant.RefusalEvent{Model: "m", Err: fmt.Errorf("refused: %w", err)})
	}
	got := m.scrape(t, openMetrics)
	for word := range reasons {
		require.Equal(t, "1.0", got.value("llmtenant_refusals_total", `llmtenant_refusal_reason="`+word+`"`), word)
	}
	require.NotContains(t, got.text, "secret")
}

// The tables of a ledger without places have no name, and its series are what they were.
func TestPlaces_AreNamedWhereThereAreSome(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m))
	require.NoError(t, err)
	for _, place := range []string{"", "books_1", "books_1"} {
		telemetry.Observe(t.Context(), &tenant.BatchEvent{Place: place, Operations: 2, Duration: time.Second})
		telemetry.Observe(t.Context(), &tenant.BatchEvent{Place: place, Operations: 2, Duration: time.Second, Err: errors.New("away")})
		telemetry.Observe(t.Context(), &tenant.SweepEvent{Place: place})
	}
	got := m.scrape(t, openMetrics)
	const home, named = `{llmtenant_outcome="%s",otel_scope_name`, `{llmtenant_outcome="%s",llmtenant_place="books_1",otel_scope_name`
	for _, metric := range []string{"llmtenant_batch_size_count", "llmtenant_batch_duration_seconds_count"} {
		for _, outcome := range []string{"committed", "failed"} {
			require.Contains(t, got.text, metric+fmt.Sprintf(home, outcome))
			require.Contains(t, got.text, metric+fmt.Sprintf(named, outcome))
			require.Equal(t, "2", got.value(metric, fmt.Sprintf(named, outcome)))
		}
	}
	require.Equal(t, "2.0", got.value("llmtenant_sweeps_total", fmt.Sprintf(named, "done")))
}

func TestWatch_EndsWithClose(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m))
	require.NoError(t, err)
	require.ErrorIs(t, telemetry.Watch(nil), tenant.ErrInvalidOption)
	require.NoError(t, telemetry.Watch(late{time.Now().Add(-time.Hour)}))
	got := m.scrape(t, openMetrics)
	require.Equal(t, "7.0", got.value("llmtenant_pending", scopeLabel))
	age, err := strconv.ParseFloat(got.value("llmtenant_pending_age_seconds", scopeLabel), 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, age, 3600.0)
	require.NoError(t, telemetry.Close())
	require.NoError(t, telemetry.Close())
	require.NotContains(t, m.scrape(t, openMetrics).types(), "llmtenant_pending")
}

type late struct{ since time.Time }

func (late) Holds() tenant.HoldStatus { return tenant.HoldStatus{} }
func (l late) Pending() tenant.PendingStatus {
	return tenant.PendingStatus{Bookings: 7, Since: l.since}
}

// returned is a late settle that takes something back.
func returned(t *testing.T, telemetry *tenantotel.Telemetry) {
	t.Helper()
	telemetry.Observe(t.Context(), &tenant.SettledEvent{Model: "m", Status: "succeeded", Corrected: true, HeldCost: decimal.New(5, -9), HeldCharge: decimal.New(7, -9)})
}
