package tenantotel

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/llmtenant/tenant"
)

// metrics are the instruments, and the series that were made of them.
type metrics struct {
	telemetry *Telemetry

	cost, returned, charge, uncharged, calls, refusals, incidents, thresholds, sweeps metric.Int64Counter
	admission, batch, duration                                                        metric.Float64Histogram
	batchSize                                                                         metric.Int64Histogram
	holds, held, pending                                                              metric.Int64ObservableGauge
	pendingAge                                                                        metric.Float64ObservableGauge

	tokens                                                                metric.Int64Histogram // until now
	inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, thought metric.Int64Counter   // from now on
	operationInput, operationOutput                                       metric.Int64Histogram

	admitted, refused         admission
	batchDone, batchFailed    []metric.RecordOption
	models, agents, providers bounded
	operations, failures      bounded

	direct atomic.Bool // nothing is buffered any more

	mu     sync.RWMutex
	series map[seriesKey]*series
}

// Boundaries that the conventions give for durations and tokens, and those of what the ledger does in milliseconds.
var (
	durationBounds  = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	tokenBounds     = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	admissionBounds = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}
	batchBounds     = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

func newMetrics(t *Telemetry) (*metrics, error) {
	m := &metrics{telemetry: t, series: map[seriesKey]*series{}}
	m.models.most, m.agents.most, m.providers.most = mostModels, mostAgents, mostProviders
	m.operations.most, m.failures.most = mostOperations, mostFailures
	m.batchDone = []metric.RecordOption{metric.WithAttributes(attrOutcome.String(batchDone))}
	m.batchFailed = []metric.RecordOption{metric.WithAttributes(attrOutcome.String(batchFailed))}
	var errs []error
	counter := func(to *metric.Int64Counter, name, unit, description string) {
		c, err := t.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		*to, errs = c, append(errs, err)
	}
	times := func(to *metric.Float64Histogram, name, description string, bounds []float64) {
		h, err := t.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		*to, errs = h, append(errs, err)
	}
	counts := func(to *metric.Int64Histogram, name, unit, description string, bounds []float64) {
		h, err := t.meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		*to, errs = h, append(errs, err)
	}
	gauge := func(to *metric.Int64ObservableGauge, name, unit, description string) {
		g, err := t.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		*to, errs = g, append(errs, err)
	}
	counter(&m.cost, metricCost, "{nano_usd}", "What calls cost, in whole nano-dollars (1e-9 US dollars).")
	counter(&m.returned, metricCostReturned, "{nano_usd}", "What late settles took back of the holds that abandoned calls were booked at, in whole nano-dollars.")
	counter(&m.charge, metricCharge, "{nano_usd}", "What tenants were charged for calls, in whole nano-dollars.")
	counter(&m.uncharged, metricChargeReturned, "{nano_usd}", "What late settles took back of the holds that abandoned calls were charged at, in whole nano-dollars.")
	counter(&m.calls, metricCalls, "{call}", "Calls that were admitted, by how they ended.")
	counter(&m.refusals, metricRefusals, "{call}", "Calls that were not admitted, by why.")
	counter(&m.incidents, metricIncidents, "{incident}", "What somebody may have to look at, by kind.")
	counter(&m.thresholds, metricThresholds, "{threshold}", "Parts of limits that were used up.")
	counter(&m.sweeps, metricSweeps, "{sweep}", "Searches for calls of processes that are gone.")
	times(&m.admission, metricAdmission, "How long it took to admit or to refuse a call, with the time that it waited for room.", admissionBounds)
	times(&m.batch, metricBatch, "How long a transaction of the ledger took.", admissionBounds)
	counts(&m.batchSize, metricBatchSize, "{operation}", "How many operations went to the database in one transaction.", batchBounds)
	gauge(&m.holds, metricHolds, "{call}", "Calls of this process that hold room in budgets.")
	gauge(&m.held, metricHeld, "{nano_usd}", "What they hold, in whole nano-dollars.")
	gauge(&m.pending, metricPending, "{call}", "Calls that have ended and are not on the books yet.")
	age, err := t.meter.Float64ObservableGauge(metricPendingAge, metric.WithUnit("s"), metric.WithDescription("How long the oldest of them waits."))
	m.pendingAge, errs = age, append(errs, err)
	if t.latest {
		times(&m.duration, genAIInferenceDuration, "How long calls of models took.", durationBounds)
		counter(&m.inputTokens, genAIInputTokens, "{token}", "Tokens of input, with those that were cached.")
		counter(&m.outputTokens, genAIOutputTokens, "{token}", "Tokens of output, with those of reasoning.")
		counter(&m.cacheReadTokens, genAICacheReadTokens, "{token}", "Tokens of input that were read from a cache.")
		counter(&m.cacheWriteTokens, genAICacheWriteTokens, "{token}", "Tokens of input that were written to a cache.")
		counter(&m.thought, genAIReasoningTokens, "{token}", "Tokens of output that were reasoning.")
		counts(&m.operationInput, genAIOperationInput, "{token}", "Tokens of input of a call.", tokenBounds)
		counts(&m.operationOutput, genAIOperationOutput, "{token}", "Tokens of output of a call.", tokenBounds)
	} else {
		times(&m.duration, genAIOperationDuration, "How long calls of models took.", durationBounds)
		counts(&m.tokens, genAITokenUsage, "{token}", "Tokens of input and output of a call.", tokenBounds)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	m.admitted.took = m.admitted.times(m.admission, nil, attrOutcome.String(outcomeAdmitted))
	m.refused.took = m.refused.times(m.admission, nil, attrOutcome.String(outcomeRefused))
	// What is not there yet cannot be seen to rise from zero to one.
	for _, kind := range [...]string{incidentOverrun, incidentUnpriced, incidentEstimated, incidentCostDiffers, incidentUnmetered, incidentTimeZoneDiffers, incidentPending} {
		m.incidents.Add(context.Background(), 0, metric.WithAttributes(attrIncident.String(kind)))
	}
	for _, word := range [...]string{sweepDone, sweepFailed} {
		m.sweeps.Add(context.Background(), 0, metric.WithAttributes(attrOutcome.String(word)))
	}
	return m, nil
}

// admission is the buffer of calls that were admitted, or refused.
type admission struct {
	buffer

	took *values[float64]
}

// gather has what is buffered given before metrics are collected. The instruments are those with which that can be asked for.
func (m *metrics) gather(meter metric.Meter) (metric.Registration, error) {
	return meter.RegisterCallback(func(context.Context, metric.Observer) error {
		m.flush()
		return nil
	}, m.holds, m.held, m.pending, m.pendingAge)
}

func (m *metrics) watch(meter metric.Meter, ledger Source) (metric.Registration, error) {
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		holds, pending := ledger.Holds(), ledger.Pending()
		o.ObserveInt64(m.holds, int64(holds.Calls))
		o.ObserveInt64(m.held, nano(holds.Cost))
		o.ObserveInt64(m.pending, int64(pending.Bookings))
		var age time.Duration
		if !pending.Since.IsZero() {
			age = max(time.Since(pending.Since), 0)
		}
		o.ObserveFloat64(m.pendingAge, seconds(age))
		return nil
	}, m.holds, m.held, m.pending, m.pendingAge)
}

// observe counts an event.
func (m *metrics) observe(ctx context.Context, e tenant.Event) {
	switch e := e.(type) {
	case *tenant.AdmittedEvent:
		m.took(ctx, &m.admitted, e.Waited)
	case *tenant.SettledEvent:
		m.settled(ctx, e)
	case *tenant.ReleasedEvent:
		m.ended(ctx, seriesKey{provider: e.Provider, model: e.Model, agent: e.Agent, tenant: m.listed(e.TenantID), outcome: outcomeReleased})
	case *tenant.DeferredEvent:
		m.ended(ctx, seriesKey{provider: e.Provider, model: e.Model, agent: e.Agent, tenant: m.listed(e.TenantID), outcome: outcomeDeferred})
	case *tenant.RefusalEvent:
		m.refusal(ctx, e.Provider, e.Model, e.Agent, e.TenantID, reason(e.Err), e.Err)
		m.took(ctx, &m.refused, e.Waited)
	case *tenant.HostErrorEvent:
		m.refusal(ctx, e.Provider, e.Model, e.Agent, e.TenantID, reasonHostError, e.Err)
	case *tenant.ThresholdEvent:
		m.thresholds.Add(ctx, 1, metric.WithAttributes(append(m.tenant(nil, e.TenantID), attrPercent.Int(e.Percent),
			attrMetric.String(string(e.Limit.Metric)), attrWindow.String(string(e.Limit.Window)))...))
	case *tenant.OverrunEvent:
		m.incident(ctx, incidentOverrun, e.TenantID)
	case *tenant.UnpricedEvent:
		m.incident(ctx, incidentUnpriced, e.TenantID)
	case *tenant.CostDiffersEvent:
		m.incident(ctx, incidentCostDiffers, e.TenantID)
	case *tenant.UnmeteredEvent:
		m.incident(ctx, incidentUnmetered, e.TenantID)
	case *tenant.TimeZoneDiffersEvent:
		m.incident(ctx, incidentTimeZoneDiffers, "")
	case *tenant.PendingEvent:
		if !e.Booked && e.After == 0 {
			m.incident(ctx, incidentPending, e.TenantID)
		}
	case *tenant.BatchEvent:
		with := m.batchDone
		if e.Err != nil {
			with = m.batchFailed
		}
		if e.Place != "" {
			with = append(slices.Clip(with), metric.WithAttributes(attrPlace.String(e.Place)))
		}
		m.batchSize.Record(ctx, int64(e.Operations), with...)
		m.batch.Record(ctx, seconds(e.Duration), with...)
	case *tenant.SweepEvent:
		word := sweepDone
		if e.Err != nil {
			word = sweepFailed
		}
		attributes := []attribute.KeyValue{attrOutcome.String(word)}
		if e.Place != "" {
			attributes = append(attributes, attrPlace.String(e.Place))
		}
		m.sweeps.Add(ctx, 1, metric.WithAttributes(attributes...))
	}
}

func (m *metrics) incident(ctx context.Context, kind, tenantID string) {
	m.incidents.Add(ctx, 1, metric.WithAttributes(append(m.tenant(nil, tenantID), attrIncident.String(kind))...))
}

func (m *metrics) refusal(ctx context.Context, provider, model, agent, tenantID, why string, err error) {
	attributes := append(m.whose(provider, model, agent, tenantID), attrReason.String(why))
	var exceeded *tenant.BudgetExceededError
	if errors.As(err, &exceeded) {
		attributes = append(attributes, attrMetric.String(string(exceeded.Limit.Metric)), attrWindow.String(string(exceeded.Limit.Window)))
	}
	m.refusals.Add(ctx, 1, metric.WithAttributes(attributes...))
}

func (m *metrics) took(ctx context.Context, a *admission, waited time.Duration) {
	a.mu.Lock()
	a.took.add(seconds(waited))
	a.end(ctx, m.direct.Load())
}

// ended counts a call that was released or deferred.
func (m *metrics) ended(ctx context.Context, k seriesKey) {
	s, kept := m.of(k)
	s.mu.Lock()
	s.calls.add(1)
	s.end(ctx, !kept || m.direct.Load())
}

func (m *metrics) settled(ctx context.Context, e *tenant.SettledEvent) {
	s, kept := m.of(seriesKey{
		operation: e.Operation, provider: e.Provider, model: e.Model, billed: e.BilledModel, agent: e.Agent, tenant: m.listed(e.TenantID),
		outcome: outcome(e), failure: e.ErrorCode,
	})
	s.mu.Lock()
	s.settled(e, m.telemetry.latest)
	s.end(ctx, !kept || m.direct.Load())
	if e.Estimated {
		m.incident(ctx, incidentEstimated, e.TenantID)
	}
}

func (s *series) settled(e *tenant.SettledEvent, latest bool) {
	s.calls.add(1)
	cost, charge := nano(e.Cost), nano(e.Charge)
	if e.Corrected { // its hold was counted when it was abandoned
		cost, charge = cost-nano(e.HeldCost), charge-nano(e.HeldCharge)
	}
	s.cost.net(cost, s.returned)
	s.charge.net(charge, s.uncharged)
	if e.Status == "abandoned" {
		return // nobody knows how long the call took, and what it used
	}
	if e.Duration > 0 {
		s.duration.add(seconds(e.Duration))
	}
	if latest {
		s.usage(e)
		return
	}
	if e.Estimated { // what the provider has reported is counted, and nothing that the ledger has made up for it
		return
	}
	in, _ := input(e.Usage)
	s.input.add(in)
	if out, _ := output(e.Usage); out > 0 || e.Operation != "embeddings" {
		s.output.add(out)
	}
}

// usage counts the tokens of a call under today's names.
func (s *series) usage(e *tenant.SettledEvent) {
	if e.Estimated {
		s.unknownInput.add(0)
		s.unknownOutput.add(0)
		return
	}
	u := e.Usage
	in, inShares := input(u)
	out, outShares := output(u)
	s.input.add(in)
	s.output.add(out)
	for i := range inShares {
		s.inputTokens[i].some(inShares[i])
		s.outputTokens[i].some(outShares[i])
	}
	s.cacheRead[0].some(u.CacheRead)
	s.cacheRead[1].some(u.CacheReadAudio)
	s.cacheWrite.some(u.CacheWrite5m + u.CacheWrite1h)
	s.thought.some(u.Reasoning)
}
