package tenanthttp_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// byThePiece is a book with one model, which is charged by units alone: $0.10 a second of video, and twice that above 720p,
// $0.002 a page and a search.
type byThePiece struct{ stated bool }

func (p byThePiece) Price(provider, model string, _ time.Time) (tenant.Price, bool) {
	const second, piece = 100_000_000_000, 2_000_000_000_000 // nano-dollars for a million
	return tenant.Price{Provider: provider, Model: model, ChargeReported: p.stated, Rates: tenant.Rates{Units: []tenant.UnitRate{
		{Unit: units.OutputVideo, Rate: second}, {Unit: units.OutputVideo.With("1080p"), Rate: 2 * second},
		{Unit: units.Pages, Rate: piece}, {Unit: units.Pages.With("annotated"), Rate: 2 * piece}, {Unit: units.SearchUnits, Rate: piece},
	}}}, model == "test-model"
}

func TestVideos_AreChargedWhenTheirResultIsRead(t *testing.T) {
	t.Parallel()
	const hour = "/v1/videos"
	for _, c := range []struct {
		name, create, request, made, read, done string
		stated                                  bool
		held, cost                              int64 // nano-dollars
		film                                    units.Counts
		estimated                               bool
	}{
		{
			name: "one that says how long it is", create: hour, request: `{"model":"test-model","prompt":"x","seconds":"8","size":"1080x1920"}`,
			made: `{"id":"video_1","status":"queued","model":"test-model","seconds":"8","size":"1080x1920"}`, read: hour + "/video_1",
			done: `{"id":"video_1","status":"completed","model":"test-model","seconds":"8","size":"1080x1920"}`,
			held: 1_600_000_000, cost: 1_600_000_000, film: units.Of(units.OutputVideo.With("1080x1920", "1080p"), 8_000),
		},
		{
			name: "one that is shorter than it was to be", create: hour + "/generations", request: `{"model":"test-model","prompt":"x","duration":10,"resolution":"720p"}`,
			made: `{"request_id":"g"}`, read: hour + "/g", done: `{"status":"done","video":{"duration":6},"model":"test-model"}`,
			held: 1_000_000_000, cost: 600_000_000, film: units.Of(units.OutputVideo.With("720p"), 6_000),
		},
		{
			name: "one whose cost is stated", create: hour, request: `{"model":"test-model","prompt":"x","duration":8,"resolution":"720p"}`, stated: true,
			made: `{"id":"job","status":"pending","polling_url":"/x"}`, read: hour + "/job", done: `{"id":"job","status":"completed","usage":{"cost":0.25}}`,
			held: 800_000_000, cost: 250_000_000, film: units.Of(units.OutputVideo.With("720p"), 8_000), estimated: true,
		},
		{
			name: "an operation, which says nothing", create: "/v1beta/models/test-model:predictLongRunning", request: `{"instances":[{"prompt":"x"}],"parameters":{"durationSeconds":6}}`,
			made: `{"name":"models/test-model/operations/op"}`, read: "/v1beta/models/test-model/operations/op",
			done: `{"name":"models/test-model/operations/op","done":true,"response":{"generateVideoResponse":{"generatedSamples":[{"video":{"uri":"u"}}]}}}`,
			held: 1_200_000_000, cost: 600_000_000, film: units.Of(units.OutputVideo, 6_000), estimated: true,
		},
		{
			name: "one that is fetched unasked", create: hour, request: `{"model":"test-model","prompt":"x","seconds":"4","size":"1280x720"}`,
			made: `{"id":"video_2","status":"queued"}`, read: hour + "/video_2/content", done: "MP4",
			held: 400_000_000, cost: 400_000_000, film: units.Of(units.OutputVideo.With("1280x720", "720p"), 4_000), estimated: true,
		},
	} {
		for _, here := range []bool{true, false} {
			p := &provider{made: c.made, result: c.done}
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("5")}, prices: byThePiece{c.stated}}, p.ServeHTTP)
			b.post(c.create, c.request)
			e := b.execution()
			require.Equal(t, "running", e.Status, c.name)
			require.Equal(t, c.held, e.HeldCostNano, c.name)
			require.Zero(t, e.HeldTokens, c.name)
			for range 2 {
				if here {
					b.do(b.request(b.ctx, http.MethodGet, c.read, ""))
				} else {
					b.elsewhere(b.ctx, c.read)
				}
			}
			e = b.execution()
			require.Equal(t, "succeeded", e.Status, c.name)
			switch {
			case here:
				require.Equal(t, c.cost, e.CostNano, c.name)
				require.Equal(t, c.film, e.Usage.Units, c.name)
				require.Equal(t, c.estimated, e.Estimated, c.name)
			case c.estimated && !c.stated: // who has not seen the request knows what was held for it
				require.Equal(t, c.held, e.CostNano, c.name)
				require.True(t, e.Estimated, c.name)
			default:
				require.Equal(t, c.cost, e.CostNano, c.name)
				require.Equal(t, c.stated, e.Estimated, c.name)
			}
			require.Empty(t, b.witness.unmetered(), c.name)
		}
	}
}

func TestVideos_ThatFailedCostNothing(t *testing.T) {
	t.Parallel()
	for _, here := range []bool{true, false} {
		p := &provider{made: `{"id":"video_3","status":"queued"}`, result: `{"id":"video_3","status":"failed","error":{"code":"moderation_blocked"}}`}
		b := newBench(t, setting{prices: byThePiece{}}, p.ServeHTTP)
		b.post("/v1/videos", `{"model":"test-model","prompt":"x","seconds":"4"}`)
		if here {
			b.do(b.request(b.ctx, http.MethodGet, "/v1/videos/video_3", ""))
		} else {
			b.elsewhere(b.ctx, "/v1/videos/video_3")
		}
		e := b.execution()
		require.Equal(t, "failed", e.Status)
		require.Zero(t, e.CostNano)
	}
}

// What is charged by the piece is held by what the request says of it, and refused where there is no room for that.
func TestPieces_AreHeldAndBooked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, request, reply string
		held, cost                 int64
		counts                     units.Counts
	}{
		{"a ranking", "/v2/rerank", `{"model":"test-model","query":"x","documents":["a","b"]}`, `{"results":[],"meta":{"billed_units":{"search_units":1}}}`, 2_000_000, 2_000_000, units.Of(units.SearchUnits, 1)},
		{"pages", "/v1/ocr", `{"model":"test-model","pages":[0,1,2],"document":{"document_url":"https://e.com/x.pdf"}}`, `{"pages":[{"markdown":"A"}],"model":"test-model","usage_info":{"pages_processed":2}}`, 12_000_000, 4_000_000, units.Of(units.Pages, 2)},
		{"pages that are described", "/v1/ocr", `{"model":"test-model","pages":[0,1,2],"bbox_annotation_format":{"type":"json_schema"},"document":{"document_url":"https://e.com/x.pdf"}}`, `{"pages":[],"model":"test-model","usage_info":{"pages_processed":3}}`, 12_000_000, 12_000_000, units.Of(units.Pages.With("annotated"), 3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.02")}, prices: byThePiece{}}, replies("application/json", c.reply))
			b.post(c.path, c.request)
			e := b.execution()
			require.Equal(t, c.held, e.HeldCostNano)
			require.Equal(t, c.cost, e.CostNano)
			require.Equal(t, c.counts, e.Usage.Units)
			require.False(t, e.Estimated)
			require.False(t, e.Unpriced)
		})
	}
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.02")}, prices: byThePiece{}}, replies("application/json", `{}`))
	resp, _ := b.post("/v1/ocr", `{"model":"test-model","document":{"document_url":"https://e.com/x.pdf"}}`)
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode, "a document of any length")
}

// madeAndRanked is a price for whatever is asked for: $0.04 an image that is made, $0.002 a search, $0.0001 an image that is embedded
// beside $0.50 a million tokens.
type madeAndRanked struct{}

func (madeAndRanked) Price(provider, model string, _ time.Time) (tenant.Price, bool) {
	const micro = 1_000_000_000 // nano-dollars for a million, of what costs a millionth
	r := tenant.Rates{Units: []tenant.UnitRate{{Unit: units.OutputImages, Rate: 40_000 * micro}, {Unit: units.SearchUnits, Rate: 2000 * micro}}}
	if strings.Contains(model, "embed") {
		r = tenant.Rates{Input: micro / 2, Units: []tenant.UnitRate{{Unit: units.InputImages, Rate: 100 * micro}}}
	}
	return tenant.Price{Provider: provider, Model: model, Rates: r}, true
}

// Models that are invoked on Bedrock say little of what they are charged by: their request says the rest.
func TestPieces_OfModelsThatAreInvokedOnBedrock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, model, request, reply string
		held, cost                  int64
		counts                      units.Counts
		estimated                   bool
	}{
		{"a ranking", "cohere.rerank-x:0", `{"query":"x","documents":["a","b"],"api_version":2}`, `{"results":[{"index":1,"relevance_score":0.2}]}`, 2_000_000, 2_000_000, units.Of(units.SearchUnits, 1), true},
		{"images", "amazon.nova-canvas-x:0", `{"taskType":"TEXT_IMAGE","imageGenerationConfig":{"numberOfImages":3,"quality":"premium","width":512,"height":640}}`, `{"images":["iVBORw0KGgo=","iVBORw0KGgo="]}`,
			120_000_000, 80_000_000, units.Of(units.OutputImages.With("512x640", "premium"), 2), false},
		{"one that was refused", "stability.sd-x:0", `{"prompt":"x"}`, `{"seeds":[1],"finish_reasons":["Filter reason: prompt"],"images":[]}`, 40_000_000, 40_000_000, units.Of(units.OutputImages, 1), true},
		{"an image that is embedded", "amazon.titan-embed-image-x", `{"inputText":"a quay","inputImage":"iVBORw0KGgo="}`, `{"embedding":[0.1],"inputTextTokenCount":4}`, -1, 102_000, units.Of(units.InputImages, 1), false},
		{"text that is embedded", "amazon.titan-embed-image-x", `{"inputText":"a quay"}`, `{"embedding":[0.1],"inputTextTokenCount":4}`, -1, 2_000, units.Counts{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.2")}, prices: madeAndRanked{}}, replies("application/json", c.reply))
			b.through(b.throughHosts(), http.MethodPost, "https://bedrock-runtime.us-east-1.amazonaws.com/model/"+c.model+"/invoke", c.request)
			e := b.execution()
			require.Equal(t, "bedrock", e.Provider)
			require.Equal(t, c.model, e.Model)
			if c.held >= 0 {
				require.Equal(t, c.held, e.HeldCostNano)
			}
			require.GreaterOrEqual(t, e.HeldCostNano, e.CostNano)
			require.Equal(t, c.cost, e.CostNano)
			require.Equal(t, c.counts, e.Usage.Units)
			require.Equal(t, c.estimated, e.Estimated)
			require.False(t, e.Unpriced)
		})
	}
}

// Bedrock's ranking states nothing, and costs what it was asked for.
func TestPieces_OfBedrockAreThoseOfTheRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.02")}, prices: byThePiece{}}, replies("application/json", `{"results":[{"index":0,"relevanceScore":0.9}]}`))
	b.through(b.throughHosts(), http.MethodPost, "https://bedrock-agent-runtime.us-east-1.amazonaws.com/rerank", `{"queries":[{"type":"TEXT","textQuery":{"text":"x"}}],
		"sources":[{"type":"INLINE"},{"type":"INLINE"}],"rerankingConfiguration":{"bedrockRerankingConfiguration":{"modelConfiguration":{"modelArn":"test-model"}}}}`)
	e := b.execution()
	require.Equal(t, "bedrock", e.Provider)
	require.Equal(t, units.Of(units.SearchUnits, 1), e.Usage.Units)
	require.EqualValues(t, 2_000_000, e.CostNano)
	require.Empty(t, b.witness.unmetered())
}
