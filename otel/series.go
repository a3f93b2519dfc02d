package tenantotel

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// seriesKey is what the measurements of a call differ by.
type seriesKey struct{ operation, provider, model, billed, agent, tenant, outcome, failure string }

// series is the attributes of measurements, made once for all calls that have the same.
type series struct {
	call, cost, unknown            []metric.AddOption
	modality                       [3][]metric.AddOption // text, audio, image
	genAI, duration, input, output []metric.RecordOption
}

// mostSeries bounds the memory of series that were made. Beyond it they are made for each call: their attributes are bounded
// one by one, so that few hosts come here.
const mostSeries = 4096

// of returns the series of a key.
func (m *metrics) of(k seriesKey) *series {
	k.billed = orElse(k.billed, k.model)
	m.mu.RLock()
	s := m.series[k]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	s = m.make(k)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.series) < mostSeries {
		m.series[k] = s
	}
	return s
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

func (m *metrics) make(k seriesKey) *series {
	whose := m.whose(k.provider, k.billed, k.agent, k.tenant)
	s := &series{cost: adding(whose), call: adding(whose, attrOutcome.String(k.outcome))}

	genAI := []attribute.KeyValue{
		genAIOperation.String(m.operations.name(orElse(k.operation, "chat"))), m.telemetry.provider(m.providers.name(k.provider)),
		genAIRequestModel.String(m.models.name(k.model)), genAIResponseModel.String(m.models.name(k.billed)),
	}
	s.genAI, s.duration = recording(genAI), recording(genAI)
	if k.failure != "" {
		s.duration = recording(genAI, errorType.String(m.failures.name(k.failure)))
	}
	s.input, s.output = recording(genAI, genAITokenType.String(inputTokens)), recording(genAI, genAITokenType.String(outTokens))
	s.unknown = adding(genAI, genAIModality.String(unknownModality))
	for i, modality := range [...]string{textModality, audioModality, imageModality} {
		s.modality[i] = adding(genAI, genAIModality.String(modality))
	}
	return s
}

func set(kv, more []attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(kv[:len(kv):len(kv)], more...)...))
}

// adding and recording are options that are made once: a call of an instrument with a single one would make a slice of it.
func adding(kv []attribute.KeyValue, more ...attribute.KeyValue) []metric.AddOption {
	return []metric.AddOption{set(kv, more)}
}

func recording(kv []attribute.KeyValue, more ...attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{set(kv, more)}
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
	switch listed := m.telemetry.tenants; {
	case listed == nil || id == "":
		return kv
	case listed[id]:
		return append(kv, attrTenant.String(id))
	default:
		return append(kv, attrTenant.String(other))
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
