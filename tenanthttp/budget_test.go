package tenanthttp_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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

// The last call before a limit is shortened: its limit of output is what the budget has room for, and no more is used.
func TestBudget_WhatIsGrantedIsTheLimitOfTheOutput(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.002")}}, sent.then(replies("application/json",
		`{"model":"test-model","choices":[{"message":{"content":"x"},"finish_reason":"length"}],"usage":{"prompt_tokens":100,"completion_tokens":300}}`)))
	granted := (2_000_000 - (int64(len(ask))+1024)*1000) / 2000
	b.post(chat, ask)
	var got struct {
		MaxTokens int64 `json:"max_tokens"`
		Messages  []any
	}
	require.NoError(t, json.Unmarshal([]byte(sent.last()), &got))
	require.Equal(t, granted, got.MaxTokens)
	require.Len(t, got.Messages, 1)
	require.LessOrEqual(t, b.execution().HeldCostNano, int64(2_000_000))

	resp, _ := b.post(chat, ask) // $0.0013 are left: less than 256 tokens of output beside the input
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
	require.Len(t, sent.bodies, 1)
}

// Of several answers each gets its share.
func TestBudget_IsSharedAmongTheChoices(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{limits: tenant.Limits{DailyTokens: tenant.Count(1024 + 200 + 4*600)}}, sent.then(replies("application/json", answer)))
	body := strings.Replace(ask, `"max_tokens"`, `"n":4,"max_tokens"`, 1)
	b.post(chat, body)
	var got struct {
		MaxTokens int64 `json:"max_tokens"`
	}
	require.NoError(t, json.Unmarshal([]byte(sent.last()), &got))
	require.Equal(t, (1024+200+4*600-int64(len(body))-1024)/4, got.MaxTokens)
}

// A signature covers the body, so that the call is made as it is or not at all.
func TestBudget_ASignedBodyIsNeverChanged(t *testing.T) {
	t.Parallel()
	signatures := map[string]string{
		"Authorization": "AWS4-HMAC-SHA256 Credential=x", "X-Amz-Content-Sha256": "abc", "Content-Digest": "sha-256=:x:",
		"Digest": "sha-256=x", "Content-Md5": "x", "Content-Encoding": "identity", "": "X-Amz-Signature=x",
	}
	for name, value := range signatures {
		var sent keeps
		b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.003")}}, sent.then(replies("text/event-stream", events(chunk, lastChunk, "[DONE]"))))
		sign := func(body string) *http.Request {
			r := b.request(b.ctx, http.MethodPost, chat, body)
			if r.URL.RawQuery = value; name != "" {
				r.URL.RawQuery = ""
				r.Header.Set(name, value)
			}
			return r
		}
		resp, _ := b.do(sign(askStream)) // it needs $0.0031
		require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
		require.Empty(t, sent.bodies)

		smaller := strings.Replace(askStream, "1000", "800", 1)
		resp, reply := b.do(sign(smaller))
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, []string{smaller}, sent.bodies)
		require.Equal(t, events(chunk, lastChunk, "[DONE]"), reply)
		require.True(t, b.execution().Estimated, "nobody has asked for the usage")
	}
}

func TestBudget_RequestsWithoutALimit(t *testing.T) {
	t.Parallel()
	unlimited := strings.Replace(ask, `"max_tokens":1000,`, "", 1)
	for _, c := range []struct {
		options []tenanthttp.Option
		holds   int64
		sent    string
	}{
		{nil, tenanthttp.DefaultMaxOutput, unlimited},
		{[]tenanthttp.Option{tenanthttp.WithMaxOutput(700)}, 700, strings.Replace(unlimited, `{`, `{"max_tokens":700,`, 1)},
	} {
		var sent keeps
		b := newBench(t, setting{options: c.options}, sent.then(replies("application/json", answer)))
		b.post(chat, unlimited)
		require.Equal(t, c.sent, sent.last())
		require.Equal(t, int64(len(unlimited))+1024+c.holds, b.execution().HeldTokens)
		b.post(chat, ask)
		sameBytes(t, ask, sent.last()) // a limit of the caller's stays
	}
}

// Whatever runs at the same time, what is spent and held stays below the limit.
func TestBudget_IsNeverExceededByCallsAtTheSameTime(t *testing.T) {
	t.Parallel()
	db, err := gorm.Open(postgres.Open(pgtest.DSN(t)), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	ledger, err := tenant.Open(db, tenant.WithPrices(tenanttest.Prices()), tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("0.01")}),
		tenant.WithDefaultEnforcement(tenant.Hard))
	require.NoError(t, err)
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			MaxTokens int64 `json:"max_tokens"`
		}
		_ = json.NewDecoder(r.Body).Decode(&q)
		out, _ := json.Marshal(q.MaxTokens)
		_, _ = io.WriteString(w, `{"model":"test-model","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":`+string(out)+`}}`)
	})
	transport, err := tenanthttp.NewTransport(ledger, b.server.Client().Transport)
	require.NoError(t, err)
	client := &http.Client{Transport: transport}
	ctx := tenanthttp.ContextWithCall(b.ctx, tenant.WithWait(time.Minute)) // a slow machine is no reason to refuse
	var admitted, refused atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			resp, err := client.Do(b.request(ctx, http.MethodPost, chat, ask))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode == http.StatusOK {
				admitted.Add(1)
			} else {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	require.NoError(t, ledger.Close(context.WithoutCancel(t.Context())))
	var spent, sum int64
	require.NoError(t, db.Raw(`SELECT b.day_spent_cost FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant
		WHERE t.tenant_id = 'acme' AND b.window_unit = 'total' AND b.agent = '' AND b.model = ''`).Scan(&spent).Error)
	require.NoError(t, db.Raw(`SELECT CAST(sum(cost) AS bigint) FROM llm_executions`).Scan(&sum).Error)
	require.LessOrEqual(t, spent, int64(10_000_000))
	require.Greater(t, spent, int64(8_000_000), "what can be paid for is admitted")
	require.Equal(t, spent, sum)
	require.GreaterOrEqual(t, admitted.Load(), int64(4))
	require.Positive(t, refused.Load(), "32 calls of at least 256 tokens of output cannot be paid")
}
