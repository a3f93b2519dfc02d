package tenanthttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

const outputFile = "/v1/files/file-1/content"

// outcome is a line of OpenAI's results. It costs $0.002 at the standard price.
func outcome(i int) string {
	return fmt.Sprintf(`{"id":"batch_req_%d","custom_id":"task %d","response":{"status_code":200,"request_id":"req-%d","body":{"id":"chatcmpl-%d","model":"test-model",`+
		`"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":1000,"completion_tokens":500}}},"error":null}`+"\n", i, i, i, i)
}

func outcomes(n int) string {
	var s strings.Builder
	for i := range n {
		s.WriteString(outcome(i))
	}
	return s.String()
}

func TestBatch_EachResultIsChargedOnce(t *testing.T) {
	t.Parallel()
	const (
		failed   = `{"id":"batch_req_9","custom_id":"z","response":{"status_code":500,"request_id":"r","body":{"error":{}}},"error":null}` + "\n"
		embedded = `{"id":"batch_req_8","custom_id":"y","response":{"status_code":200,"request_id":"r","body":{"object":"list","model":"test-model","data":[],"usage":{"prompt_tokens":70,"total_tokens":70}}},"error":null}` + "\n"
		message  = `{"custom_id":"%s","result":{"type":"succeeded","message":{"id":"m","model":"%s","usage":{"input_tokens":1000,"output_tokens":500}}}}` + "\n"
		advised  = `{"custom_id":"one","result":{"type":"succeeded","message":{"model":"test-model","usage":{"input_tokens":1000,"output_tokens":500,` +
			`"iterations":[{"type":"advisor_message","model":"other","input_tokens":9,"output_tokens":1}]}}}}` + "\n"
		content = `{"response":{"modelVersion":"test-model","candidates":[],"usageMetadata":{"promptTokenCount":1000,"candidatesTokenCount":500}}}`
	)
	full := tenant.Usage{Input: 1000, Output: 500}
	for _, c := range []struct {
		name, path, body string
		keys             []string
		usages           []tenant.Usage
	}{
		{"OpenAI's", outputFile, outcome(0) + failed + embedded + outcome(1), []string{"batch/batch_req_0", "batch/batch_req_1", "batch/batch_req_8"}, []tenant.Usage{full, full, {Input: 70}}},
		{"Azure's", "/openai/files/file-1/content?api-version=2025-03-01", strings.Replace(outcome(0), `"id":"batch_req_0",`, "", 1), nil, []tenant.Usage{full}},
		{"Anthropic's", "/v1/messages/batches/b-1/results", fmt.Sprintf(message, "one", "test-model") + fmt.Sprintf(message, "two", "other"), []string{"batch/b-1/one", "batch/b-1/two"}, []tenant.Usage{full, full}},
		{"Anthropic's, with another model's advice", "/v1/messages/batches/b-1/results", advised, []string{"batch/b-1/one", "batch/b-1/one/0"}, []tenant.Usage{full, {Input: 9, Output: 1}}},
		{"Google's", "/v1beta/batches/b-1", `{"done":true,"response":{"inlinedResponses":{"inlinedResponses":[` + content + `,` + content + `]}}}`, []string{"batch/b-1/0", "batch/b-1/1"}, []tenant.Usage{full, full}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0")}}, replies("application/octet-stream", c.body))
			for range 2 {
				ctx := tenanthttp.ContextWithCall(b.ctx, tenant.WithAgent("nightly"), tenant.WithWait(0), tenant.WithIdempotencyKey("the fetching's own"))
				_, body := b.do(b.request(ctx, http.MethodGet, c.path, ""))
				sameBytes(t, c.body, body)
			}
			all := map[string]tenant.Execution{}
			for _, e := range b.executions() {
				all[e.IdempotencyKey] = e
				require.Equal(t, "nightly", e.Agent)
				require.Equal(t, "succeeded", e.Status)
				require.Equal(t, e.Model != "test-model", e.Unpriced)
			}
			require.Len(t, all, len(c.usages), "a limit that is used up refuses nothing that was made")
			for i, key := range c.keys {
				require.Equal(t, c.usages[i], all[key].Usage, key)
			}
			require.Empty(t, b.witness.unmetered())
		})
	}
}

// The price is the batch's own where the model has one.
func TestBatch_ResultsHaveTheBatchPrice(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", outcome(0)))
	b.db, b.ledger = tenanttest.Open(t, tenant.WithPrices(halfInBatches{}))
	var err error
	b.client.Transport, err = tenanthttp.NewTransport(b.ledger, b.server.Client().Transport)
	require.NoError(t, err)
	b.do(b.request(b.ctx, http.MethodGet, outputFile, ""))
	e := b.execution()
	require.EqualValues(t, 1_000_000, e.CostNano)
	require.Equal(t, "req-0", e.RequestID)
}

func TestBatch_WhereAResultWasServedIsPartOfItsTier(t *testing.T) {
	t.Parallel()
	for usage, tier := range map[string]string{
		`"output_tokens":5`: "batch",
		`"output_tokens":5,"service_tier":"batch","inference_geo":"us"`:    "batch+us",
		`"output_tokens":5,"service_tier":"standard","inference_geo":"us"`: "batch+us",
	} {
		line := `{"custom_id":"one","result":{"type":"succeeded","message":{"model":"test-model","usage":{"input_tokens":9,` + usage + `}}}}`
		b := newBench(t, setting{}, replies("application/x-jsonl", line+"\n"))
		b.do(b.request(b.ctx, http.MethodGet, "/v1/messages/batches/b-1/results", ""))
		require.Equal(t, tier, b.execution().ServiceTier, usage)
	}
}

type halfInBatches struct{}

func (halfInBatches) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	p, ok := tenanttest.Prices().Price(provider, model, at)
	p.Services = []tenant.Service{{Name: "batch", Rates: tenant.Rates{Input: p.Input / 2, Output: p.Output / 2}}}
	return p, ok
}

// Two processes fetch the same results at the same time; each ledger stands for one.
func TestBatch_EachResultIsChargedOnceByTwoProcesses(t *testing.T) {
	t.Parallel()
	const lines = 100
	b := newBench(t, setting{}, replies("application/json", outcomes(lines)))
	dsn := pgtest.DSN(t)
	var db *gorm.DB
	var fetching sync.WaitGroup
	for range 2 {
		var err error
		db, err = gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		pool, err := db.DB()
		require.NoError(t, err)
		t.Cleanup(func() { _ = pool.Close() })
		ledger, err := tenant.Open(db, tenant.WithPrices(tenanttest.Prices()), tenant.WithObserver(b.witness))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, ledger.Close(context.WithoutCancel(t.Context()))) })
		transport, err := tenanthttp.NewTransport(ledger, b.server.Client().Transport)
		require.NoError(t, err)
		client := &http.Client{Transport: transport}
		for range 2 {
			fetching.Go(func() {
				resp, err := client.Do(b.request(b.ctx, http.MethodGet, outputFile, ""))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	fetching.Wait()
	var booked struct{ Calls, Keys, Cost int64 }
	require.NoError(t, db.Raw(`SELECT count(*) AS calls, count(DISTINCT idempotency_key) AS keys, CAST(sum(cost) AS bigint) AS cost FROM llm_executions`).Scan(&booked).Error)
	require.EqualValues(t, lines, booked.Calls)
	require.EqualValues(t, lines, booked.Keys)
	require.EqualValues(t, lines*2_000_000, booked.Cost)
	require.Empty(t, b.witness.unmetered())
}

// What has passed is charged, and what has not is reported, and charged when it is fetched.
func TestBatch_ResultsThatAreReadInHalves(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(cancel func(), body io.Closer){
		"the reader closes": func(_ func(), body io.Closer) { _ = body.Close() },
		"the context ends":  func(cancel func(), _ io.Closer) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := true
			b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
				if !first {
					_, _ = io.WriteString(w, outcomes(5))
					return
				}
				first = false
				_, _ = io.WriteString(w, outcomes(2)+outcome(2)[:30])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(b.ctx)
			defer cancel()
			resp, err := b.client.Do(b.request(ctx, http.MethodGet, outputFile, ""))
			require.NoError(t, err)
			defer resp.Body.Close()
			half := make([]byte, len(outcomes(2))+30)
			_, err = io.ReadFull(resp.Body, half)
			require.NoError(t, err)
			leave(cancel, resp.Body)
			require.Eventually(t, func() bool { return len(b.witness.unmetered()) == 1 }, time.Minute, time.Millisecond)
			require.Len(t, b.executions(), 2)
			b.do(b.request(b.ctx, http.MethodGet, outputFile, ""))
			require.Len(t, b.executions(), 5)
			require.Len(t, b.witness.unmetered(), 1, "now all of it is known")
		})
	}
}

func TestBatch_ResultsThatBreakOffAreReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, aborts("application/x-jsonl", `{"custom_id":"a","result":{"type":"succ`))
	resp, err := b.client.Do(b.request(b.ctx, http.MethodGet, "/v1/messages/batches/b-1/results", ""))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.Error(t, err)
	require.NoError(t, resp.Body.Close())
	require.Empty(t, b.executions())
	require.Len(t, b.witness.unmetered(), 1)
}

// A file is handed over while it comes, and is nobody's call.
func TestBatch_OrdinaryFilesAreFree(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.RefuseUnmetered()}}, func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, `{"messages":[]}`+"\n")
			w.(http.Flusher).Flush()
			select {
			case <-arrived:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, outcome(0))
	})
	resp, err := b.client.Do(b.request(b.ctx, http.MethodGet, outputFile, ""))
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for range 3 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		sameBytes(t, `{"messages":[]}`+"\n", line)
		arrived <- struct{}{}
	}
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	sameBytes(t, outcome(0), string(rest))
	require.Empty(t, b.executions())
	require.Empty(t, b.witness.unmetered())
}

// An idempotency key has limits that a name in a batch has not.
func TestBatch_NamesThatAreNoKeys(t *testing.T) {
	t.Parallel()
	line := func(name string) string {
		return strings.Replace(strings.Replace(outcome(0), `"id":"batch_req_0",`, "", 1), "task 0", name, 1)
	}
	b := newBench(t, setting{}, replies("application/json", line(`tab\t`)+line("ünï")+line(strings.Repeat("a", 150))))
	for range 2 {
		b.do(b.request(b.ctx, http.MethodGet, "/v1/files/"+strings.Repeat("f", 100)+"/content", ""))
	}
	require.Len(t, b.executions(), 3)
	require.Empty(t, b.witness.unmetered())
}

func TestBatch_AnErrorIsNoResult(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, outcome(0))
	})
	resp, body := b.do(b.request(b.ctx, http.MethodGet, outputFile, ""))
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	sameBytes(t, outcome(0), body)
	require.Empty(t, b.executions())
	failing, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }))
	require.NoError(t, err)
	_, err = failing.RoundTrip(b.request(b.ctx, http.MethodGet, outputFile, "")) //nolint:bodyclose // there is none
	require.ErrorContains(t, err, "down")
}
