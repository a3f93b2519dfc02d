package cookbook

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmtenant/tenant"
)

// metrics counts by agent and model. A series for each tenant would be one for each customer: ask the books for those.
type metrics struct {
	calls, nanodollars, tokens, refusals, hostErrors *prometheus.CounterVec
	seconds                                          *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		calls:       counter("llm_calls_total", "Calls that were settled.", "agent", "model", "status"),
		nanodollars: counter("llm_cost_nanodollars_total", "Cost, in 1e-9 US dollars.", "agent", "model"),
		tokens:      counter("llm_tokens_total", "Tokens of all classes.", "agent", "model"),
		refusals:    counter("llm_refusals_total", "Calls that a budget has refused.", "agent", "model"),
		hostErrors:  counter("llm_host_errors_total", "Calls that were refused for an error of this program.", "agent"),
		seconds:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "llm_call_seconds", Help: "Time of a call."}, []string{"agent", "model"}),
	}
	r.MustRegister(m.seconds)
	return m
}

func (m *metrics) Observe(_ context.Context, e tenant.Event) {
	switch e := e.(type) {
	case *tenant.SettledEvent:
		if e.Corrected {
			return // it was counted when it expired, and a counter cannot go down
		}
		m.calls.WithLabelValues(e.Agent, e.BilledModel, e.Status).Inc()
		m.nanodollars.WithLabelValues(e.Agent, e.BilledModel).Add(float64(e.Cost.Shift(9).IntPart()))
		m.tokens.WithLabelValues(e.Agent, e.BilledModel).Add(float64(e.Tokens))
		m.seconds.WithLabelValues(e.Agent, e.BilledModel).Observe(e.Duration.Seconds())
	case *tenant.RefusalEvent:
		m.refusals.WithLabelValues(e.Agent, e.Model).Inc()
	case *tenant.HostErrorEvent:
		m.hostErrors.WithLabelValues(e.Agent).Inc()
	}
}
