package tenantotel

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/llmtenant/tenant"
)

// call is the span of a call that runs, in its context.
type call struct {
	span      trace.Span
	execution string
	over      atomic.Bool
}

type callKey struct{}

// ContextOfCall implements [tenant.CallObserver]: what is done for the call is below its span, which begins when the call was
// asked for.
func (t *Telemetry) ContextOfCall(ctx context.Context, e *tenant.AdmittedEvent) context.Context {
	if t.tracer == nil {
		return ctx
	}
	ctx, span := t.tracer.Start(ctx, spanName(e.Operation, e.Model), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(time.Now().Add(-e.Waited)))
	if span.IsRecording() {
		a := t.attributes()
		a.call(e.Operation, e.Provider, e.Model, e.Agent, e.TenantID)
		a.add(attrExecution.String(e.ExecutionID), attrHeld.Int64(nano(e.HeldCost)), attrAdmission.Float64(seconds(e.Waited)))
		if e.OutputTokens > 0 {
			a.add(genAIRequestMaxTokens.Int64(e.OutputTokens))
		}
		a.set(span)
	}
	return context.WithValue(ctx, callKey{}, &call{span: span, execution: e.ExecutionID})
}

func spanName(operation, model string) string {
	if model == "" {
		return operation
	}
	return operation + " " + model
}

// attributes are those that are about to be set on a span, which copies them, so that their memory is used again.
type attributes struct {
	of  *Telemetry
	all []attribute.KeyValue
}

func (t *Telemetry) attributes() *attributes {
	if a, ok := t.room.Get().(*attributes); ok {
		return a
	}
	return &attributes{of: t, all: make([]attribute.KeyValue, 0, 24)}
}

func (a *attributes) add(more ...attribute.KeyValue) { a.all = append(a.all, more...) }

// call adds what is known of a call before it is made.
func (a *attributes) call(operation, provider, model, agent, tenantID string) {
	a.add(genAIOperation.String(operation), a.of.provider(provider))
	if model != "" {
		a.add(genAIRequestModel.String(model))
	}
	if agent != "" {
		a.add(genAIAgent.String(agent))
	}
	if a.of.tenants[tenantID] {
		a.add(attrTenant.String(tenantID))
	}
}

// set sets them, and gives their memory back.
func (a *attributes) set(span trace.Span) {
	span.SetAttributes(a.all...)
	clear(a.all)
	a.all = a.all[:0]
	a.of.room.Put(a)
}

// trace ends the span of a call, or makes one of a call that had none.
func (t *Telemetry) trace(ctx context.Context, e tenant.Event) {
	switch e := e.(type) {
	case *tenant.SettledEvent:
		t.settled(ctx, e)
	case *tenant.ReleasedEvent:
		end(ctx, e.ExecutionID, attrOutcome.String(outcomeReleased))
	case *tenant.DeferredEvent:
		end(ctx, e.ExecutionID, attrOutcome.String(outcomeDeferred))
	case *tenant.RefusalEvent:
		t.refused(ctx, e.Operation, e.Provider, e.Model, e.Agent, e.TenantID, reason(e.Err), e.Waited, e.Err)
	case *tenant.HostErrorEvent:
		t.refused(ctx, "chat", e.Provider, e.Model, e.Agent, e.TenantID, reasonHostError, 0, e.Err)
	}
}

// running returns the span of a call, nil where the context has none of it or it has ended.
func running(ctx context.Context, execution string) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	if c == nil || c.execution != execution || !c.over.CompareAndSwap(false, true) {
		return nil
	}
	return c
}

func end(ctx context.Context, execution string, with attribute.KeyValue) {
	if c := running(ctx, execution); c != nil {
		c.span.SetAttributes(with)
		c.span.End()
	}
}

func (t *Telemetry) settled(ctx context.Context, e *tenant.SettledEvent) {
	var span trace.Span
	c := running(ctx, e.ExecutionID)
	switch {
	case c != nil:
		span = c.span
	case e.Duration == 0 || e.Status == "abandoned": // what was recorded, and what nobody waits for
		return
	default: // of a program that reserves and settles itself
		_, span = t.tracer.Start(ctx, spanName(e.Operation, e.Model), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(time.Now().Add(-e.Duration)))
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	a := t.attributes()
	if c == nil {
		a.call(e.Operation, e.Provider, e.Model, e.Agent, e.TenantID)
		a.add(attrExecution.String(e.ExecutionID), attrHeld.Int64(nano(e.HeldCost)))
	}
	a.add(attrOutcome.String(outcome(e)), attrCost.Int64(nano(e.Cost)), genAIResponseModel.String(e.BilledModel))
	if e.RequestID != "" {
		a.add(genAIResponseID.String(e.RequestID))
	}
	if e.Estimated {
		a.add(attrEstimated.Bool(true))
	} else {
		in, _ := input(e.Usage)
		out, _ := output(e.Usage)
		a.add(genAIUsageInput.Int64(in), genAIUsageOutput.Int64(out))
		for _, part := range [...]struct {
			key attribute.Key
			n   int64
		}{
			{genAIUsageCacheRead, e.Usage.CacheRead + e.Usage.CacheReadAudio}, {genAIUsageCacheWrite, e.Usage.CacheWrite5m + e.Usage.CacheWrite1h},
			{genAIUsageReasoning, e.Usage.Reasoning},
		} {
			if part.n > 0 {
				a.add(part.key.Int64(part.n))
			}
		}
	}
	if e.Unpriced {
		a.add(attrUnpriced.Bool(true))
	}
	if e.ErrorCode != "" {
		a.add(errorType.String(e.ErrorCode))
		span.SetStatus(codes.Error, e.ErrorCode)
	}
	a.set(span)
}

// refused makes the span of a call that was not made. Its error's text stays out of it: it may name other tenants.
func (t *Telemetry) refused(ctx context.Context, operation, provider, model, agent, tenantID, why string, waited time.Duration, err error) {
	_, span := t.tracer.Start(ctx, spanName(operation, model), trace.WithTimestamp(time.Now().Add(-waited)))
	defer span.End()
	if !span.IsRecording() {
		return
	}
	a := t.attributes()
	a.call(operation, provider, model, agent, tenantID)
	a.add(attrOutcome.String(outcomeRefused), attrReason.String(why), errorType.String(why), attrAdmission.Float64(seconds(waited)))
	var exceeded *tenant.BudgetExceededError
	if errors.As(err, &exceeded) {
		a.add(attrMetric.String(string(exceeded.Limit.Metric)), attrWindow.String(string(exceeded.Limit.Window)))
	}
	a.set(span)
	span.SetStatus(codes.Error, why)
}

// outcome is how a settled call ended, in one of four words.
func outcome(e *tenant.SettledEvent) string {
	if e.Corrected {
		return outcomeCorrected
	}
	return e.Status
}
