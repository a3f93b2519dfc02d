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

// call is the context of a call that runs, and its span.
type call struct {
	context.Context //nolint:containedctx // it is one itself, below that which has the span

	span      trace.Span
	execution string
	over      atomic.Bool
}

type callKey struct{}

func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// ContextOfCall implements [tenant.CallObserver]: what is done for the call is below its span, which begins when the call was
// asked for.
func (t *Telemetry) ContextOfCall(ctx context.Context, e *tenant.AdmittedEvent) context.Context {
	if t.tracer == nil {
		return ctx
	}
	a := t.attributes()
	ctx, span := a.start(ctx, spanName(e.Operation, e.Model), e.Waited)
	if span.IsRecording() {
		a.call(e.Operation, e.Provider, e.Model, e.Agent, e.TenantID)
		a.add(attrExecution.String(e.ExecutionID), attrHeld.Int64(nano(e.HeldCost)), attrAdmission.Float64(seconds(e.Waited)))
		if e.OutputTokens > 0 {
			a.add(genAIRequestMaxTokens.Int64(e.OutputTokens))
		}
	}
	a.set(span)
	return &call{Context: ctx, span: span, execution: e.ExecutionID}
}

func spanName(operation, model string) string {
	if model == "" {
		return operation
	}
	return operation + " " + model
}

// attributes are those that are about to be set on a span, which copies them, so that their memory is used again, and that of the
// options that the span begins with.
type attributes struct {
	of    *Telemetry
	all   []attribute.KeyValue
	began [2]trace.SpanStartOption
}

func (t *Telemetry) attributes() *attributes {
	if a, ok := t.room.Get().(*attributes); ok {
		return a
	}
	return &attributes{of: t, all: make([]attribute.KeyValue, 0, 24), began: [...]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), nil}}
}

// start begins the span of a call, as of a while ago.
func (a *attributes) start(ctx context.Context, name string, ago time.Duration) (context.Context, trace.Span) {
	a.began[1] = trace.WithTimestamp(time.Now().Add(-ago))
	return a.of.tracer.Start(ctx, name, a.began[:]...)
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
	if len(a.all) > 0 {
		span.SetAttributes(a.all...)
		clear(a.all)
		a.all = a.all[:0]
	}
	a.of.room.Put(a)
}

// trace ends the span of a call, or makes one of a call that had none, and returns the context that has it.
func (t *Telemetry) trace(ctx context.Context, e tenant.Event) context.Context {
	switch e := e.(type) {
	case *tenant.SettledEvent:
		return t.settled(ctx, e)
	case *tenant.ReleasedEvent:
		end(ctx, e.ExecutionID, attrOutcome.String(outcomeReleased))
	case *tenant.DeferredEvent:
		end(ctx, e.ExecutionID, attrOutcome.String(outcomeDeferred))
	case *tenant.RefusalEvent:
		return t.refused(ctx, e.Operation, e.Provider, e.Model, e.Agent, e.TenantID, reason(e.Err), e.Waited, e.Err)
	case *tenant.HostErrorEvent:
		return t.refused(ctx, "chat", e.Provider, e.Model, e.Agent, e.TenantID, reasonHostError, 0, e.Err)
	}
	return ctx
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

func (t *Telemetry) settled(ctx context.Context, e *tenant.SettledEvent) context.Context {
	c := running(ctx, e.ExecutionID)
	if c == nil && (e.Duration == 0 || e.Status == "abandoned") { // what was recorded, and what nobody waits for
		return ctx
	}
	a := t.attributes()
	var span trace.Span
	if c != nil {
		ctx, span = c, c.span
	} else { // of a program that reserves and settles itself
		ctx, span = a.start(ctx, spanName(e.Operation, e.Model), e.Duration)
	}
	if span.IsRecording() {
		a.settled(e, c != nil)
		if e.ErrorCode != "" {
			span.SetStatus(codes.Error, e.ErrorCode)
		}
	}
	a.set(span)
	span.End()
	return ctx
}

// settled adds what is known of a call that is over, and what was known before where the span has not had it yet.
func (a *attributes) settled(e *tenant.SettledEvent, begun bool) {
	if !begun {
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
	}
}

// refused makes the span of a call that was not made. Its error's text stays out of it: it may name other tenants.
func (t *Telemetry) refused(
	ctx context.Context, operation, provider, model, agent, tenantID, why string, waited time.Duration, err error,
) context.Context {
	ctx, span := t.tracer.Start(ctx, spanName(operation, model), trace.WithTimestamp(time.Now().Add(-waited)))
	defer span.End()
	if !span.IsRecording() {
		return ctx
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
	return ctx
}

// outcome is how a settled call ended, in one of four words.
func outcome(e *tenant.SettledEvent) string {
	if e.Corrected {
		return outcomeCorrected
	}
	return e.Status
}
