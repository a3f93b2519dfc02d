package tenanthttp_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/units"
)

// asOpenAI prices every call as OpenAI's, whoever the host is.
type asOpenAI struct{}

func (asOpenAI) Price(_, model string, at time.Time) (tenant.Price, bool) {
	return pricing.Default().Price(pricing.OpenAI, model, at)
}

// Speech, its transcription and images are held at what the request says of them, and booked as they were made, at the
// prices of the book: none of it has tokens.
func TestMade_IsHeldAndBookedByThePiece(t *testing.T) {
	t.Parallel()
	const text = "The barge is late."
	recording := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.ogg\"\r\n\r\n" + strings.Repeat("?", 30_000) +
		"\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x--\r\n"
	for _, c := range []struct {
		name, path, request, typ, reply string
		held, cost                      int64 // nano-dollars
		counts                          units.Counts
		estimated                       bool
	}{
		{
			"images, of which one was made", "/v1/images/generations", `{"model":"dall-e-2","prompt":"x","n":3,"size":"512x512"}`, "application/json",
			`{"created":1,"data":[{"url":"a"}]}`, 54_000_000, 18_000_000, units.Of(units.OutputImages.With("512x512"), 1), false,
		},
		{
			"speech", "/v1/audio/speech", `{"model":"tts-1-hd","voice":"a","input":"` + text + `"}`, "audio/mpeg",
			"\xff\xfb\x90", 540_000, 540_000, units.Of(units.InputCharacters, int64(len(text))), false,
		},
		{
			"a transcription", "/v1/audio/transcriptions", recording, "application/json",
			`{"text":"a","usage":{"type":"duration","seconds":4}}`, 3_000_000, 400_000, units.Of(units.InputAudio, 4000), false,
		},
		{
			"a transcription that does not say how long it was", "/v1/audio/transcriptions", recording, "text/plain",
			"The barge is late.", 3_000_000, 3_000_000, units.Of(units.InputAudio, 30_000), true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.06")}, prices: asOpenAI{}}, replies(c.typ, c.reply))
			resp, _ := b.post(c.path, c.request)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			e := b.execution()
			require.Equal(t, c.held, e.HeldCostNano)
			require.Equal(t, c.cost, e.CostNano)
			require.Equal(t, c.counts, e.Usage.Units)
			require.Equal(t, c.estimated, e.Estimated)
			require.False(t, e.Unpriced)
			require.Empty(t, b.witness.unmetered())
		})
	}

	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.06")}, prices: asOpenAI{}}, replies("application/json", `{}`))
	resp, _ := b.post("/v1/images/generations", `{"model":"dall-e-3","prompt":"x","quality":"hd"}`)
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode, "one costs more than there is")
	resp, _ = b.post("/v1/images/generations", `{"model":"dall-e-2","prompt":"x","n":3}`)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	e := b.execution()
	require.EqualValues(t, 60_000_000, e.CostNano, "what was made is not in the reply")
	require.True(t, e.Estimated)
}
