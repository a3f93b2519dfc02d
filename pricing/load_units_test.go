package pricing_test

import (
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/units"
)

// unitList is LiteLLM's format, with a price of each kind that is no price of tokens, and notes of each type of JSON.
const unitList = `{
  "last_updated": "2026-10-01", "version": 7, "stable": true, "authors": ["a"], "none": null,
  "openai/hears": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0002, "output_cost_per_second": 0.0009},
  "stt": {"litellm_provider": "soniox", "mode": "audio_transcription", "output_cost_per_second": 0.00003},
  "gpt-9-hears": {"litellm_provider": "openai", "mode": "audio_transcription", "output_cost_per_second": 0.0001, "output_cost_per_audio_token": 9e-06, "input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06},
  "speaks": {"litellm_provider": "openai", "mode": "audio_speech", "input_cost_per_character": 2.5e-05},
  "draws-9": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 3.5},
  "hd/512-x-1024/draws-9": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_pixel": 1.3352e-07, "output_cost_per_pixel": 0},
  "low/256-x-256/draws-9": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_image": 0.011},
  "azure/low/64-x-64/draws-9": {"litellm_provider": "azure", "mode": "image_generation", "input_cost_per_pixel": 8.0566e-07},
  "512-x-512/max-steps/bedrock/acme.canvas-v1:0": {"litellm_provider": "bedrock", "mode": "image_generation", "output_cost_per_image": 0.06},
  "films": {"litellm_provider": "openai", "mode": "video_generation", "output_cost_per_second": 0.05, "output_cost_per_second_1080p": 0.08},
  "mistral/reads": {"litellm_provider": "mistral", "mode": "ocr", "ocr_cost_per_page": 0.0015, "annotation_cost_per_page": 0.0025},
  "embeds-9": {"litellm_provider": "cohere", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0, "input_cost_per_image": 0.0002},
  "acme.embeds-9": {"litellm_provider": "bedrock", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0, "input_cost_per_image": 0.00003},
  "acme.hears-and-sees": {"litellm_provider": "bedrock", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0, "input_cost_per_image": 0.00003, "input_cost_per_audio_per_second": 0.0001},
  "vertex_ai/embeds-8": {"litellm_provider": "vertex_ai-embedding-models", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0, "input_cost_per_character": 4e-08},
  "voyage/embeds-7": {"litellm_provider": "voyage", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0, "input_cost_per_image": 0.0002},
  "ranks": {"litellm_provider": "cohere", "mode": "rerank", "input_cost_per_query": 0.0025},
  "gpt-9-talks": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "file_search_cost_per_1k_calls": 2.5},
  "openai/container": {"litellm_provider": "openai", "mode": "chat", "code_interpreter_cost_per_session": 0.03},
  "azure/pixels-4": {"litellm_provider": "azure", "mode": "image_generation", "input_cost_per_token": 3e-06, "input_cost_per_image_token": 9e-06, "output_cost_per_image_token": 4.5e-05, "output_cost_per_image": 0.07}
}`

// genaiList is genai-prices' format.
const genaiList = `[
 {"id": "openai", "name": "OpenAI", "models": [
  {"id": "talks-2", "prices": {"input_mtok": {"base": 2, "tiers": [{"start": 200000, "price": 4}]}, "output_mtok": 8, "web_searches_kcount": 10, "storage_searches_kcount": 2.5, "later_kcount": 5}},
  {"id": "hears-2", "prices": {"audio_hours": 0.18, "input_audio_hours": 0.36}},
  {"id": "unknown", "prices": {"input_mtok": 0, "output_mtok": 0}}
 ]},
 {"id": "mistral", "models": [
  {"id": "reads-2", "prices": [
   {"prices": {"input_document_kpages": 1}},
   {"constraint": {"start_date": "2026-03-01"}, "prices": {"input_document_kpages": 2, "input_annotated_document_kpages": 3}}
  ]},
  {"id": "by-the-hour", "prices": [{"constraint": {"start_time": "16:00:00"}, "prices": {"input_mtok": 1, "output_mtok": 1}}]}
 ]},
 {"id": "x-ai", "models": [{"id": "sings", "prices": {"audio_hours": 7.2, "input_text_messages_kcount": 4}}]}
]`

func TestLoad_ReadsPricesOfUnits(t *testing.T) {
	t.Parallel()
	book, err := pricing.Load(strings.NewReader(unitList))
	require.NoError(t, err)
	image := units.OutputImages
	for _, c := range []struct {
		provider, model string
		unit            units.Unit
		n               int64
		dollars         string
	}{
		{"openai", "hears", units.InputAudio, 61_500, "0.0123"},
		{"soniox", "stt", units.InputAudio, 1000, "0.00003"},
		{"openai", "speaks", units.InputCharacters, 4000, "0.1"},
		{"openai", "draws-9", image, 2, "7"},
		{"openai", "draws-9", image.With("hd", "512x1024"), 1, "0.07"},
		{"openai", "draws-9", image.With("low", "256x256"), 3, "0.033"},
		{"openai", "draws-9", image.With("low", "512x1024"), 1, "3.5"},
		{"azure", "draws-9", image.With("low", "64x64"), 1, "0.0033"},
		{"bedrock", "acme.canvas-v1:0", image, 1, "0.06"},
		{"openai", "films", units.OutputVideo.With("720p"), 8000, "0.4"},
		{"openai", "films", units.OutputVideo.With("1080p"), 8000, "0.64"},
		{"mistral", "reads", units.Pages, 12, "0.018"},
		{"mistral", "reads", units.Pages.With("annotated"), 12, "0.03"},
		{"cohere", "ranks", units.SearchUnits, 2, "0.005"},
		{"cohere", "embeds-9", units.InputImages, 3, "0.0006"},
		{"bedrock", "acme.embeds-9", units.InputImages, 2, "0.00006"},
		{"vertex", "embeds-8", units.InputCharacters, 5000, "0.0002"},
		{"openai", "gpt-9-talks", units.FileSearches, 2, "0.005"},
		{"openai", "gpt-9-talks", units.Containers, 1, "0.03"}, // as of all that can use one
		{"openai", "gpt-9-hears", units.Containers, 2, "0.06"},
	} {
		p, ok := book.Price(c.provider, c.model, time.Now())
		require.True(t, ok, c.model)
		want := tenant.USD(c.dollars)
		require.Equal(t, want, tenant.USDFrom(nanoDollars(inNano(p.Cost(tenant.Usage{Units: units.Of(c.unit, c.n)})))), "%s %s", c.model, c.unit)
	}

	// Images that a model embeds beside text are on top of it, where their number is known; characters are in its place.
	for model, dollars := range map[string]string{"embeds-9": "0.0001", "vertex/embeds-8": "0"} {
		p, ok := book.Price("", model, time.Now())
		if provider, name, named := strings.Cut(model, "/"); named {
			p, ok = book.Price(provider, name, time.Now())
		}
		require.True(t, ok, model)
		require.Equal(t, tenant.USD(dollars), tenant.USDFrom(p.Cost(tenant.Usage{Input: 1000})), model)
	}
	for _, model := range []string{"bedrock/acme.hears-and-sees", "voyageai/embeds-7"} {
		provider, name, _ := strings.Cut(model, "/")
		_, ok := book.Price(provider, name, time.Now())
		require.False(t, ok, model)
	}

	// What is charged by tokens is charged by nothing else that measures the same.
	p, _ := book.Price("openai", "gpt-9-hears", time.Now())
	require.Len(t, p.Units, 1)
	p, _ = book.Price("azure", "pixels-4", time.Now())
	require.Equal(t, tenant.Rates{Input: 3e9, InputImage: 9e9, Output: 45e9, OutputImage: 45e9}, p.Rates)

	for bad, want := range map[string]string{
		`"mode": "ocr", "ocr_cost_per_page": -1`:                                  "bad: ocr_cost_per_page: -1 is negative",
		`"mode": "rerank", "input_cost_per_query": "2"`:                           `bad: input_cost_per_query: "2" is not a number`,
		`"mode": "video_generation", "output_cost_per_video_per_second": 1000001`: "bad: output_cost_per_video_per_second: 1000001 is more than",
	} {
		_, err := pricing.Load(strings.NewReader(`{"bad": {"litellm_provider": "acme", ` + bad + `}}`))
		require.ErrorContains(t, err, want)
	}
}

func TestLoad_ReadsGenaiPrices(t *testing.T) {
	t.Parallel()
	book, err := pricing.Load(strings.NewReader(" \n" + genaiList))
	require.NoError(t, err)
	p, ok := book.Price("openai", "talks-2", time.Now())
	require.True(t, ok)
	search := []tenant.UnitRate{{Unit: units.FileSearches, Rate: 25e11}}
	require.Equal(t, tenant.Rates{Input: 2e9, Output: 8e9, WebSearch: 1e7, Units: search}, p.Rates)
	require.Equal(t, []tenant.Tier{{Above: 200_000, Rates: tenant.Rates{Input: 4e9, Output: 8e9, WebSearch: 1e7, Units: search}}}, p.Tiers)
	p, _ = book.Price("openai", "hears-2", time.Now())
	require.Equal(t, []tenant.UnitRate{{Unit: units.InputAudio, Rate: 1e8}}, p.Units)
	_, ok = book.Price("openai", "unknown", time.Now())
	require.False(t, ok, "zero is how a list says that it does not know")
	_, ok = book.Price("mistral", "by-the-hour", time.Now())
	require.False(t, ok)

	day := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	annotated := tenant.Usage{Units: units.Of(units.Pages.With("annotated"), 1000)}
	p, _ = book.Price("mistral", "reads-2", day.Add(-1))
	require.EqualValues(t, 1e9, inNano(p.Cost(annotated)))
	p, _ = book.Price("mistral", "reads-2", day)
	require.EqualValues(t, 3e9, inNano(p.Cost(annotated)))
	p, _ = book.Price("xai", "sings", day)
	require.Equal(t, int64(7_204_000_000), inNano(p.Cost(tenant.Usage{Units: units.Of(units.InputAudio, 3_600_000).Plus(units.Of(units.InputMessages, 1))})))

	for bad, want := range map[string]string{
		`[5]`: "after the beginning: json: cannot unmarshal number",
		`[{"id": "a", "models": [{"id": "m", "prices": {"input_mtok": -1}}]}]`:                                       "a: m: input_mtok: -1 is negative",
		`[{"id": "a", "models": [{"id": "m", "prices": {"audio_hours": true}}]}]`:                                    "a: m: audio_hours: true is not a number",
		`[{"id": "a", "models": [{"id": "m", "prices": {"input_mtok": {"base": 1, "tiers": [{"start": 0}]}}}]}]`:     "a: m: input_mtok: tiers[0].start: 0 is not a number of tokens",
		`[{"id": "a", "models": [{"id": "m", "prices": {}}, {"id": "m", "prices": {}}]}]`:                            `a: "m" is no name, or is there twice`,
		`[{"id": "a", "models": []}, {"id": "a", "models": []}]`:                                                     `the provider "a" has no name, or is there twice`,
		`[{"id": "a", "models": [{"id": "m", "prices": [{"prices": {}}, {"constraint": {"start_date": "soon"}}]}]}]`: "a: m: prices[1]: ",
		genaiList + "[]": "after x-ai: something follows the list",
	} {
		_, err := pricing.Load(strings.NewReader(bad))
		require.ErrorContains(t, err, want, bad)
	}
}

func TestRow_HasUnitsInAnyService(t *testing.T) {
	t.Parallel()
	row := pricing.Row{
		Provider: "acme", Model: "m", Units: map[units.Unit]string{units.Pages: "1000", units.SearchUnits: "5"},
		Services: map[string]pricing.Service{"batch": {Units: map[units.Unit]string{units.Pages: "500"}}},
	}
	book, err := pricing.New(row)
	require.NoError(t, err)
	p, _ := book.Price("acme", "m", time.Now())
	u := tenant.Usage{Units: units.Of(units.Pages, 10).Plus(units.Of(units.SearchUnits, 1_000_000))}
	require.EqualValues(t, 1e7+5e9, inNano(p.Cost(u)))
	require.EqualValues(t, 5e6+5e9, inNano(p.ForService("batch").Cost(u)))

	for unit, want := range map[units.Unit]string{"Pages": `"Pages" is not a unit`, "": `"" is not a unit`, units.Pages: "-1"} {
		bad := row
		bad.Units = map[units.Unit]string{unit: "-1"}
		_, err := pricing.New(bad)
		require.ErrorContains(t, err, "Units")
		require.ErrorContains(t, err, want)
	}
	row.Units, row.Services = nil, nil
	_, err = pricing.New(row)
	require.ErrorContains(t, err, "Input: no rate")
}

func nanoDollars(n int64) decimal.Decimal { return decimal.New(n, -9) }
