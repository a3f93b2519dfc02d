package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/units"
)

const spoken = `{"type":"response.done","event_id":"e","response":{"object":"realtime.response","id":"resp_1","status":"completed","output":[],
	"usage":{"total_tokens":330,"input_tokens":230,"output_tokens":100,"input_token_details":{"text_tokens":90,"audio_tokens":140,"cached_tokens":60,
	"cached_tokens_details":{"text_tokens":20,"audio_tokens":40}},"output_token_details":{"text_tokens":30,"audio_tokens":70}}}}`

func TestReadSession_ReadsTheUsageOfEachEvent(t *testing.T) {
	t.Parallel()
	const heard = `{"type":"conversation.item.input_audio_transcription.completed","item_id":"item_1","content_index":0,"transcript":"Hello",`
	none := tenant.USD("0")
	for _, c := range []struct {
		name, event string
		want        tenanthttp.SessionUsage
		silent      bool
	}{
		{name: "a response", event: spoken, want: tenanthttp.SessionUsage{Actual: tenant.Actual{RequestID: "resp_1",
			Usage: tenant.Usage{Input: 70, CacheRead: 20, CacheReadAudio: 40, InputAudio: 100, Output: 30, OutputAudio: 70}}}},
		{name: "one that was cut short has used what it states", event: `{"type":"response.done","response":{"id":"resp_2","status":"cancelled","usage":{"total_tokens":12,"input_tokens":9,"output_tokens":3}}}`,
			want: tenanthttp.SessionUsage{Actual: tenant.Actual{RequestID: "resp_2", Usage: tenant.Usage{Input: 9, Output: 3}}}},
		{name: "one that failed", event: `{"type":"response.done","response":{"id":"resp_3","status":"failed","usage":null}}`,
			want: tenanthttp.SessionUsage{Actual: tenant.Actual{RequestID: "resp_3", ErrorCode: "error", Cost: none}}},
		{name: "one that says nothing", event: `{"type":"response.done","response":{"id":"resp_4","status":"completed"}}`,
			want: tenanthttp.SessionUsage{Actual: tenant.Actual{RequestID: "resp_4", AsHeld: true}}},
		{name: "what was heard, by tokens", event: heard + `"usage":{"type":"tokens","total_tokens":26,"input_tokens":17,"input_token_details":{"text_tokens":0,"audio_tokens":17},"output_tokens":9}}`,
			want: tenanthttp.SessionUsage{Transcription: true, Actual: tenant.Actual{RequestID: "item_1", Usage: tenant.Usage{InputAudio: 17, Output: 9}}}},
		{name: "what was heard, by time", event: heard + `"usage":{"type":"duration","seconds":2.5}}`,
			want: tenanthttp.SessionUsage{Transcription: true, Actual: tenant.Actual{RequestID: "item_1", Usage: tenant.Usage{Units: units.Of(units.InputAudio, 2500)}}}},
		{name: "what was not understood", event: `{"type":"conversation.item.input_audio_transcription.failed","item_id":"item_2","error":{"type":"x"}}`,
			want: tenanthttp.SessionUsage{Transcription: true, Actual: tenant.Actual{RequestID: "item_2", ErrorCode: "error", Cost: none}}},
		{name: "a turn of Gemini's", event: `{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":20,"responseTokenCount":8,"totalTokenCount":28,
			"promptTokensDetails":[{"modality":"AUDIO","tokenCount":15}],"responseTokensDetails":[{"modality":"AUDIO","tokenCount":8}]}}`,
			want: tenanthttp.SessionUsage{Actual: tenant.Actual{Usage: tenant.Usage{Input: 5, InputAudio: 15, OutputAudio: 8}}}},
		{name: "another event", event: `{"type":"response.created","response":{"id":"resp_1","status":"in_progress","usage":null}}`, silent: true},
		{name: "sound", event: `{"type":"response.output_audio.delta","delta":"AAAA"}`, silent: true},
		{name: "no event", event: `usage`, silent: true},
		{name: "an error", event: `{"type":"error","error":{"message":"the usage has failed"}}`, silent: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := tenanthttp.ReadSession([]byte(c.event))
			require.Equal(t, !c.silent, ok)
			if !c.silent {
				require.Equal(t, c.want, got)
			}
		})
	}
}

// Room for a response is held before it is made. When there is none any more, the session ends.
func TestReadSession_RenewsItsHoldUntilTheBudgetIsUsedUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.002")}}, replies("", ""))
	responses := 0
	for {
		hold, err := b.ledger.Reserve(b.ctx, acme, tenant.Estimate{Model: "test-model", InputTokens: 400, OutputTokens: 200, LeastOutputTokens: 200})
		if err != nil {
			require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
			break
		}
		responses++
		used, ok := tenanthttp.ReadSession([]byte(spoken))
		require.True(t, ok)
		_, err = b.ledger.Settle(b.ctx, hold, used.Actual)
		require.NoError(t, err)
	}
	require.Equal(t, 3, responses, "each has used $0.00043 of $0.002, and needs room for $0.0008")
	for _, e := range b.executions() {
		require.EqualValues(t, 430_000, e.CostNano)
		require.Equal(t, "resp_1", e.RequestID)
	}
}

// A voice session over WebSocket or WebRTC: the program reads its events anyway, and hands them over.
func ExampleReadSession() {
	ledger, _, done := openExample() // two calls a day for each tenant
	defer done()
	ctx, acme := context.Background(), tenant.ID("acme")
	room := tenant.Estimate{Model: "test-model", InputTokens: 20_000, OutputTokens: 4096} // of one response, with what was said before it

	events := []string{ // which come one by one
		`{"type":"session.updated"}`,
		`{"type":"response.done","response":{"id":"resp_1","status":"completed","usage":{"input_tokens":900,"output_tokens":100,"total_tokens":1000}}}`,
		`{"type":"response.done","response":{"id":"resp_2","status":"completed","usage":{"input_tokens":1000,"output_tokens":500,"total_tokens":1500}}}`,
		`{"type":"response.created"}`,
	}
	hold, err := ledger.Reserve(ctx, acme, room)
	for _, event := range events {
		if err != nil {
			fmt.Println("the session is closed:", errors.Is(err, tenant.ErrBudgetExceeded))
			return
		}
		used, ok := tenanthttp.ReadSession([]byte(event))
		if !ok {
			continue
		}
		if used.Transcription { // of what was heard, by the model that the session is set up with
			used.Model = "gpt-4o-transcribe"
			if _, err := ledger.Record(ctx, acme, used.Actual, tenant.WithIdempotencyKey(used.RequestID)); err != nil {
				log.Print(err)
			}
			continue
		}
		s, settling := ledger.Settle(ctx, hold, used.Actual)
		if settling != nil {
			log.Print(settling)
		}
		fmt.Printf("%s: $%s\n", used.RequestID, s.Cost)
		hold, err = ledger.Reserve(ctx, acme, room) // for the next one
	}
	if _, err := ledger.Release(ctx, hold); err != nil { // it ends without another one
		log.Print(err)
	}
	// Output:
	// resp_1: $0.0011
	// resp_2: $0.002
	// the session is closed: true
}
