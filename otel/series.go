package tenantotel

import (
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// seriesKey is what the measurements of a call differ by. Its tenant is as [metrics.listed] says.
type seriesKey struct{ operation, provider, model, billed, agent, tenant, outcome, failure string }

// series is the buffer of calls whose measurements have the same attributes, which are made once for all of them.
type series struct {
	buffer

	calls                             *sum
	cost, returned, charge, uncharged *sum
	duration                          *values[float64]
	input, output                     *values[int64]

	// Of today's conventions: by modality, as in [input] and [output].
	inputTokens, outputTokens, cacheRead [3]*sum
	cacheWrite, thought                  *sum
	unknownInput, unknownOutput          *sum
}

// mostSeries bounds the memory of series that were made. Beyond it they are made for each call: their attributes are bounded
// one by one, so that few hosts come here.
const mostSeries = 4096

// of returns the series of a key, and whether it is kept.
func (m *metrics) of(k seriesKey) (s *series, kept bool) {
	k.billed = orElse(k.billed, k.model)
	m.mu.RLock()
	s = m.series[k]
	m.mu.RUnlock()
	if s != nil {
		return s, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s = m.series[k]; s != nil {
		return s, true
	}
	s = m.make(k)
	if len(m.series) >= mostSeries {
		return s, false
	}
	m.series[k] = s
	return s, true
}

// flush gives everything that was measured.
func (m *metrics) flush() {
	m.admitted.flush()
	m.refused.flush()
	m.mu.RLock()
	all := slices.Collect(maps.Values(m.series))
	m.mu.RUnlock()
	for _, s := range all {
		s.flush()
	}
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

func (m *metrics) make(k seriesKey) *series {
	whose := m.whose(k.provider, k.billed, k.agent, k.tenant)
	s := &series{}
	s.calls = s.sum(m.calls, whose, attrOutcome.String(k.outcome))
	s.cost, s.returned = s.sum(m.cost, whose), s.sum(m.returned, whose)
	s.charge, s.uncharged = s.sum(m.charge, whose), s.sum(m.uncharged, whose)

	genAI := []attribute.KeyValue{
		genAIOperation.String(m.operations.name(orElse(k.operation, "chat"))), m.telemetry.provider(m.providers.name(k.provider)),
		genAIRequestModel.String(m.models.name(k.model)), genAIResponseModel.String(m.models.name(k.billed)),
	}
	var failure []attribute.KeyValue
	if k.failure != "" {
		failure = append(failure, errorType.String(m.failures.name(k.failure)))
	}
	s.duration = s.times(m.duration, genAI, failure...)
	if !m.telemetry.latest {
		s.input, s.output = s.counts(m.tokens, genAI, genAITokenType.String(inputTokens)), s.counts(m.tokens, genAI, genAITokenType.String(outTokens))
		return s
	}
	s.input, s.output = s.counts(m.operationInput, genAI), s.counts(m.operationOutput, genAI)
	of := func(to metric.Int64Counter, modality string) *sum {
		return s.sum(to, genAI, genAIModality.String(modality))
	}
	for i, modality := range [...]string{textModality, audioModality, imageModality} {
		s.inputTokens[i], s.outputTokens[i], s.cacheRead[i] = of(m.inputTokens, modality), of(m.outputTokens, modality), of(m.cacheReadTokens, modality)
	}
	s.cacheWrite, s.thought = of(m.cacheWriteTokens, textModality), of(m.thought, textModality)
	s.unknownInput, s.unknownOutput = of(m.inputTokens, unknownModality), of(m.outputTokens, unknownModality)
	return s
}

// whose are the attributes of the ledger's own metrics of calls, which are the same whatever conventions are in use. Their model is the
// one that was billed, where that is known.
func (m *metrics) whose(provider, model, agent, tenantID string) []attribute.KeyValue {
	kv := make([]attribute.KeyValue, 0, 8)
	kv = append(kv, genAIProvider.String(providerName(m.providers.name(provider))), genAIResponseModel.String(m.models.name(model)))
	if agent != "" {
		kv = append(kv, genAIAgent.String(m.agents.name(agent)))
	}
	return m.tenant(kv, tenantID)
}

// tenant adds the tenant, where tenants are listed.
func (m *metrics) tenant(kv []attribute.KeyValue, id string) []attribute.KeyValue {
	if name := m.listed(id); name != "" {
		return append(kv, attrTenant.String(name))
	}
	return kv
}

// listed is the name of a tenant in attributes: its id or that of all others, and empty where no tenants are listed.
func (m *metrics) listed(id string) string {
	switch listed := m.telemetry.tenants; {
	case listed == nil || id == "":
		return ""
	case listed[id] || id == other:
		return id
	default:
		return other
	}
}

// bounded keeps the first names that come. Callers can choose names of models, so that there is no end to them.
type bounded struct {
	most int

	mu    sync.RWMutex
	names map[string]bool
}

// name returns a name that is among the first, and the one that stands for all others otherwise.
func (b *bounded) name(s string) string {
	b.mu.RLock()
	known := b.names[s]
	b.mu.RUnlock()
	if known || s == "" {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names[s] {
		return s
	}
	if len(b.names) >= b.most {
		return other
	}
	if b.names == nil {
		b.names = map[string]bool{}
	}
	b.names[s] = true
	return s
}
