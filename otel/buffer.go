package tenantotel

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// mostBuffered is how many calls wait in a buffer, at most.
const mostBuffered = 32

// buffer is measurements of calls that OpenTelemetry has not been given yet. It is given those of many calls at once, which costs a
// fraction of giving it each by itself: sums are added up, and a loop over the values of a histogram finds it in the processor's cache. It is
// given all that there are before metrics are collected.
type buffer struct {
	mu    sync.Mutex
	calls int
	span  trace.SpanContext // of the last of them that was sampled
	parts []part
}

// part is what a buffer keeps of one instrument. Its context has the span of the last call.
type part interface{ give(ctx context.Context) }

// end is the end of a call's measurements. The buffer is locked, and is not afterwards.
func (b *buffer) end(ctx context.Context, direct bool) {
	defer b.mu.Unlock()
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		b.span = span
	}
	b.calls++
	if b.calls >= mostBuffered || direct {
		b.give()
	}
}

// flush gives what there is.
func (b *buffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.give()
}

func (b *buffer) give() {
	if b.calls == 0 {
		return
	}
	ctx := context.Background()
	if b.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, b.span)
	}
	for _, p := range b.parts {
		p.give(ctx)
	}
	b.calls, b.span = 0, trace.SpanContext{}
}

// sum is what is to be added to a counter. Zero is added too: it makes a series.
type sum struct {
	to   metric.Int64Counter
	with []metric.AddOption
	n    int64
	any  bool
}

func (b *buffer) sum(to metric.Int64Counter, kv []attribute.KeyValue, more ...attribute.KeyValue) *sum {
	s := &sum{to: to, with: []metric.AddOption{set(kv, more)}}
	b.parts = append(b.parts, s)
	return s
}

func (s *sum) add(n int64) { s.n, s.any = s.n+n, true }

// some adds what there is, if anything.
func (s *sum) some(n int64) {
	if n > 0 {
		s.add(n)
	}
}

// net adds what has come, or to another counter what was taken back: a counter that falls is read as one that has begun anew.
func (s *sum) net(n int64, returned *sum) {
	if n >= 0 {
		s.add(n)
	} else {
		returned.add(-n)
	}
}

func (s *sum) give(ctx context.Context) {
	if s.any {
		s.to.Add(ctx, s.n, s.with...)
		s.n, s.any = 0, false
	}
}

// values are what a histogram is to be given.
type values[N int64 | float64] struct {
	to interface {
		Record(ctx context.Context, n N, options ...metric.RecordOption)
	}
	with []metric.RecordOption
	all  []N
}

func (b *buffer) times(to metric.Float64Histogram, kv []attribute.KeyValue, more ...attribute.KeyValue) *values[float64] {
	v := &values[float64]{to: to, with: []metric.RecordOption{set(kv, more)}}
	b.parts = append(b.parts, v)
	return v
}

func (b *buffer) counts(to metric.Int64Histogram, kv []attribute.KeyValue, more ...attribute.KeyValue) *values[int64] {
	v := &values[int64]{to: to, with: []metric.RecordOption{set(kv, more)}}
	b.parts = append(b.parts, v)
	return v
}

func (v *values[N]) add(n N) { v.all = append(v.all, n) }

func (v *values[N]) give(ctx context.Context) {
	for i, n := range v.all {
		of := context.Background()
		if i == len(v.all)-1 {
			of = ctx // an exemplar of many calls is one of them
		}
		v.to.Record(of, n, v.with...)
	}
	v.all = v.all[:0]
}

// set are attributes, made once for all measurements.
func set(kv, more []attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(kv[:len(kv):len(kv)], more...)...))
}
