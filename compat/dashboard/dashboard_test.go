package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	query "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
	"github.com/llmtenant/tenant/tenanttest"
)

const file = "../../otel/grafana/tenant.json"

// classic is the model of a dashboard that every version of Grafana imports.
type classic = dashboard.Dashboard //nolint:staticcheck // the newest versions alone have another one beside it

// read reads the file as Grafana's model of a dashboard has it: an unknown field is an error, also in what a kind of panels, or a query
// of Prometheus, has of its own.
func read(t *testing.T, raw []byte) (d classic, err error) {
	t.Helper()
	// What reads strictly returns a list of errors in any case, also an empty one, and leaves out what it has returned one for
	// (version 0.0.22). So its list is looked at, and what is read otherwise.
	var strict classic
	if err := strict.UnmarshalJSONStrict(raw); err != nil {
		var wrong cog.BuildErrors
		if !errors.As(err, &wrong) || len(wrong) > 0 {
			return d, err
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, err
	}
	return d, d.Validate()
}

func TestDashboard_IsWhatGrafanaTakes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	d, err := read(t, raw)
	require.NoError(t, err)
	require.Equal(t, "llmtenant", *d.Uid)
	require.NotEmpty(t, d.Panels)
	for _, p := range d.Panels {
		require.NotNil(t, p.Panel, "no rows")
		require.NotNil(t, p.Panel.Options, *p.Panel.Title)
		for _, target := range p.Panel.Targets {
			require.IsType(t, &query.Dataquery{}, target)
		}
	}
	for _, broken := range [][2]string{ // it is read, and not just taken
		{`"displayMode": "list"`, `"displayMode": 3`}, {`"reduceOptions"`, `"reduceOption"`}, {`"drawStyle"`, `"drawStile"`},
		{`"gridPos": {`, `"gridPos": { "z": 1,`}, {`"expr"`, `"query"`}, {`"graphTooltip": 1`, `"graphTooltip": "1"`},
	} {
		require.Contains(t, string(raw), broken[0])
		_, err := read(t, []byte(strings.Replace(string(raw), broken[0], broken[1], 1)))
		require.Error(t, err, "%s", broken)
	}
}

// service is a ledger whose metrics are scraped.
type service struct {
	*testing.T
	agents  []*tenant.Agent
	tell    *tenantotel.Telemetry
	scraped http.Handler
	ledger  *tenant.Ledger
}

func newService(t *testing.T) *service {
	t.Helper()
	registry := prom.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry))
	require.NoError(t, err)
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	t.Cleanup(func() { _ = meters.Shutdown(context.WithoutCancel(t.Context())) })
	s := &service{T: t, scraped: promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})}
	s.tell, err = tenantotel.New(tenantotel.WithMeterProvider(meters), tenantotel.WithStabilityOptIn(""))
	require.NoError(t, err)
	db, ledger := tenanttest.Open(t, tenant.WithObserver(s.tell))
	s.ledger = ledger
	require.NoError(t, s.tell.Watch(ledger))
	t.Cleanup(func() { require.NoError(t, s.tell.Close()) })
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("poor"), func(b *tenant.Budget) error {
		b.Enforcement, b.Limits = tenant.Hard, tenant.Limits{DailyCost: tenant.USD("0")}
		return nil
	}))
	for _, step := range []tenanttest.Step{tenanttest.Text("Hi", tenant.Usage{Input: 1000, Output: 300}), tenanttest.Fail(errors.New("no"))} {
		agent, err := tenant.NewAgent(ledger, tenanttest.NewModel(step), tenant.WithAgent("support"))
		require.NoError(t, err)
		s.agents = append(s.agents, agent)
	}
	return s
}

// busy makes a call of each kind, and tells of what is rare.
func (s *service) busy() {
	s.Helper()
	_, err := s.agents[0].Call(s.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.NoError(s, err)
	_, err = s.agents[1].Call(s.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
	require.Error(s, err)
	_, err = s.agents[0].Call(s.Context(), "Hello", tenant.WithTenant(tenant.ID("poor")))
	require.ErrorIs(s, err, tenant.ErrBudgetExceeded)
	s.tell.Observe(s.Context(), &tenant.SettledEvent{
		Model: "m", Status: "succeeded", Corrected: true, HeldCost: decimal.New(5_000, -9), HeldCharge: decimal.New(7_000, -9),
	})
	s.tell.Observe(s.Context(), &tenant.ThresholdEvent{Percent: 80, Limit: tenant.LimitStatus{Window: tenant.Day, Metric: tenant.CostMetric}})
}

// scrape appends to a storage what Prometheus gets at a time.
func (s *service) scrape(db *tsdb.DB, at time.Time) {
	s.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	s.scraped.ServeHTTP(w, r)
	require.Equal(s, http.StatusOK, w.Code)
	p, err := textparse.New(w.Body.Bytes(), w.Header().Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	require.NoError(s, err)
	appender := db.Appender(s.Context())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(s, err)
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		p.Labels(&series)
		_, _, value := p.Series()
		with := labels.NewBuilder(series).Set("job", "service").Set("instance", "a:80").Labels()
		_, err = appender.Append(0, with, at.UnixMilli(), value)
		require.NoError(s, err)
	}
	require.NoError(s, appender.Commit())
}

// Each query of each panel has a value, of Prometheus' own engine, after scrapes of a ledger at work.
func TestDashboard_ShowsAValueInEachPanel(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	d, err := read(t, raw)
	require.NoError(t, err)

	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	const every, scrapes = 15 * time.Second, 5
	end := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	s := newService(t)
	held, err := s.ledger.Reserve(t.Context(), tenant.ID("holds"), tenant.Estimate{Provider: "test", Model: tenanttest.ModelName, Cost: tenant.USD("0.25")})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = s.ledger.Release(context.WithoutCancel(t.Context()), held) })
	for i := range scrapes {
		s.busy()
		s.scrape(db, end.Add((time.Duration(i)-scrapes+1)*every))
	}

	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	variables := strings.NewReplacer("$__rate_interval", "1m", "$__range", "5m", "$__interval", "15s")
	shown := map[string]float64{} // by title and legend, the sum of all its series at the end
	for _, p := range d.Panels {
		title := *p.Panel.Title
		require.NotEmpty(t, p.Panel.Targets, title)
		for _, target := range p.Panel.Targets {
			asked, ok := target.(*query.Dataquery)
			require.True(t, ok, title)
			expression := variables.Replace(asked.Expr)
			require.NotContains(t, expression, "$", title)
			q, err := engine.NewRangeQuery(t.Context(), db, nil, expression, end.Add(-time.Minute), end, every)
			require.NoError(t, err, "%s: %s", title, expression)
			result := q.Exec(t.Context())
			require.NoError(t, result.Err, "%s: %s", title, expression)
			require.Empty(t, result.Warnings.AsErrors(), "%s: %s", title, expression)
			series, err := result.Matrix()
			require.NoError(t, err)
			require.NotEmpty(t, series, "%s: %s", title, expression)
			legend := title + ": " + *asked.LegendFormat
			for _, one := range series {
				last := one.Floats[len(one.Floats)-1]
				require.Equal(t, end.UnixMilli(), last.T, legend)
				require.False(t, math.IsNaN(last.F) || math.IsInf(last.F, 0), "%s of %s is %v", legend, one.Metric, last.F)
				shown[legend] += last.F
				for _, part := range strings.Split(*asked.LegendFormat, "{{")[1:] {
					name, _, _ := strings.Cut(part, "}}")
					if name != "gen_ai_agent_name" { // which not every call has
						require.NotEmpty(t, one.Metric.Get(name), legend)
					}
				}
			}
			q.Close()
		}
	}
	text, err := json.MarshalIndent(shown, "", "  ")
	require.NoError(t, err)
	t.Logf("%s", text)
	require.InEpsilon(t, 0.25, shown["Held now: held"], 1e-9, "in US dollars")
	require.InEpsilon(t, 1.0, shown["Calls in flight: calls"], 1e-9)
	const perSecond = 1 / 15.0
	require.InEpsilon(t, 3*perSecond, shown["Calls by outcome: {{llmtenant_outcome}}"], 0.01, "three calls between two scrapes")
	require.InEpsilon(t, perSecond, shown["Refusals by reason: {{llmtenant_refusal_reason}}"], 0.01)
}
