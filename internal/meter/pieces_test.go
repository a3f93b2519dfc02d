package meter

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

const bedrockModel = "https://bedrock-runtime.us-east-1.amazonaws.com/model/"

func TestPieces_AreReadFromEachReply(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "pages that were read", url: "https://api.mistral.ai/v1/ocr", model: "mistral-ocr-x",
			body:  `{"pages":[{"index":0,"markdown":"# A"}],"model":"mistral-ocr-x","usage_info":{"pages_processed":7,"doc_size_bytes":1800}}`,
			usage: book.Usage{Units: units.Of(units.Pages, 7)},
		},
		{
			name: "searches of a ranking", url: "https://api.cohere.com/v2/rerank",
			body:  `{"id":"r","results":[],"meta":{"billed_units":{"search_units":3}}}`,
			usage: book.Usage{Units: units.Of(units.SearchUnits, 3)},
		},
		{
			name: "of OpenRouter, whose tokens are not charged", url: "https://openrouter.ai/api/v1/rerank", cost: "3000000",
			body:  `{"id":"r","model":"cohere/rerank-x","results":[],"usage":{"search_units":2,"total_tokens":150,"cost":0.003}}`,
			usage: book.Usage{Units: units.Of(units.SearchUnits, 2)},
		},
		{
			name: "of Cohere at Azure", url: "https://x.services.ai.azure.com/v1/rerank",
			body:  `{"results":[],"meta":{"billed_units":{"search_units":1}}}`,
			usage: book.Usage{Units: units.Of(units.SearchUnits, 1)},
		},
		{
			name: "a ranking that is charged by tokens", url: "https://api.voyageai.com/v1/rerank",
			body:  `{"object":"list","data":[],"model":"rerank-x","usage":{"total_tokens":44}}`,
			usage: book.Usage{Input: 44},
		},
		{name: "a count that cannot be", url: "https://api.mistral.ai/v1/ocr", body: `{"usage_info":{"pages_processed":-1}}`, strange: true},
	})
}

func TestGemini_GroundingByMaps(t *testing.T) {
	t.Parallel()
	const start = "https://generativelanguage.googleapis.com/v1beta/models/"
	reply := `{"candidates":[{"content":{"parts":[{"text":"Two."}]},"finishReason":"STOP","groundingMetadata":{"groundingChunks":[
		{"maps":{"uri":"https://m.example/1","placeId":"p"}},{"maps":{"uri":"https://m.example/2"}}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":3,"totalTokenCount":12}}`
	one := book.Usage{Input: 9, Output: 3, Units: units.Of(units.MapGroundings, 1)}
	counted := func(model string, n string) string {
		return `{"model":"` + model + `","status":"completed","usage":{"total_input_tokens":9,"total_output_tokens":3,"grounding_tool_count":[{"type":"google_maps","count":` + n + `}]}}`
	}
	check(t, []golden{
		{name: "a prompt, however many places", url: start + "gemini-2.5-x:generateContent", body: reply, usage: one},
		{name: "places of the web are not of a map", url: start + "gemini-2.5-x:generateContent", body: strings.ReplaceAll(reply, `"maps"`, `"web"`), usage: book.Usage{Input: 9, Output: 3}},
		{name: "as an interaction", url: interactionsURL, body: counted("gemini-2.5-x", "4"), usage: one},
		{name: "by queries, since Gemini 3", url: interactionsURL, body: counted("gemini-3-x", "4"), usage: book.Usage{Input: 9, Output: 3, Units: units.Of(units.MapGroundings, 4)}},
	})
}

func TestReadRequest_BoundsWhatIsChargedByThePiece(t *testing.T) {
	t.Parallel()
	many := `["a"` + strings.Repeat(`,"a"`, 150) + `]`
	film := func(ms int64, words ...string) units.Counts { return units.Of(units.OutputVideo.With(words...), ms) }
	for _, c := range []struct {
		name, url, body string
		want            units.Counts
		model           string
	}{
		{"a ranking", "https://api.cohere.com/v2/rerank", `{"model":"m","query":"x","documents":["a","b"]}`, units.Of(units.SearchUnits, 1), "m"},
		{"of more than a hundred", "https://api.cohere.com/v2/rerank", `{"model":"m","query":"x","documents":` + many + `}`, units.Of(units.SearchUnits, 2), "m"},
		{"of objects", "https://api.cohere.com/v1/rerank", `{"model":"m","query":"x","documents":[{"text":"a"},{"text":"b"}]}`, units.Of(units.SearchUnits, 1), "m"},
		{"of Bedrock", "https://bedrock-agent-runtime.us-east-1.amazonaws.com/rerank", `{"queries":[{"type":"TEXT"}],"sources":[` + strings.Repeat(`{"type":"INLINE"},`, 120) + `{}],
			"rerankingConfiguration":{"bedrockRerankingConfiguration":{"modelConfiguration":{"modelArn":"arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-x"}}}}`,
			units.Of(units.SearchUnits, 2), "arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-x"},
		{"of whom charges tokens, whose price has no searches", "https://api.voyageai.com/v1/rerank", `{"model":"m","query":"x","documents":["a"]}`, units.Of(units.SearchUnits, 1), "m"},
		{"of Cohere's at Azure", "https://x.models.ai.azure.com/v1/rerank", `{"model":"m","query":"x","documents":` + many + `}`, units.Of(units.SearchUnits, 2), "m"},
		{"of one that is invoked on Bedrock", bedrockModel + "cohere.rerank-x:0/invoke", `{"query":"x","documents":` + many + `,"api_version":2}`, units.Of(units.SearchUnits, 2), "cohere.rerank-x:0"},
		{"images of Amazon's, invoked", bedrockModel + "amazon.nova-canvas-x:0/invoke", `{"taskType":"TEXT_IMAGE","textToImageParams":{"text":"a"},"imageGenerationConfig":{"numberOfImages":3,"quality":"premium","width":1280,"height":720}}`,
			units.Of(units.OutputImages.With("1280x720", "premium"), 3), "amazon.nova-canvas-x:0"},
		{"one of Stability's", bedrockModel + "us.stability.stable-image-x:0/invoke", `{"prompt":"a","mode":"text-to-image"}`, units.Of(units.OutputImages, 1), "us.stability.stable-image-x:0"},
		{"images to embed", "https://api.cohere.com/v2/embed", `{"model":"m","input_type":"image","images":["data:image/png;base64,AAAA","data:image/png;base64,AAAA"]}`, units.Of(units.InputImages, 2), "m"},
		{"one beside its text", "https://api.cohere.com/v2/embed", `{"model":"m","inputs":[{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`, units.Of(units.InputImages, 1), "m"},
		{"one that Amazon embeds", bedrockModel + "amazon.titan-embed-image-x/invoke", `{"inputText":"a","inputImage":"AAAA"}`, units.Of(units.InputImages, 1), "amazon.titan-embed-image-x"},
		{"text that it embeds", bedrockModel + "amazon.titan-embed-image-x/invoke", `{"inputText":"a"}`, units.Counts{}, "amazon.titan-embed-image-x"},
		{"texts to embed on Vertex AI", "https://aiplatform.googleapis.com/v1/projects/p/locations/x/publishers/google/models/text-embedding-x:predict", `{"instances":[{"content":"Grüße","task_type":"a"},{"content":"nine long"}]}`,
			units.Of(units.InputCharacters, 14), "text-embedding-x"},
		{"text that Mistral recognises on Vertex AI", "https://x-aiplatform.googleapis.com/v1/projects/p/locations/x/publishers/mistralai/models/mistral-ocr-x:rawPredict", `{"model":"mistral-ocr-x","pages":[0,4],"document":{"document_url":"data:application/pdf;base64,AAAA"}}`,
			units.Of(units.Pages, 2), "mistral-ocr-x"},
		{"a recording elsewhere", "https://api.groq.com/openai/v1/audio/transcriptions", upload("other", "", "model", "m", "url", "https://e.com/a.ogg"), units.Of(units.InputAudio, 10_800_000), "m"},
		{"a short one at Groq, which charges ten seconds", "https://api.groq.com/openai/v1/audio/transcriptions", upload("file", string(recorded(16_000, 32_000)), "model", "m"), units.Of(units.InputAudio, 10_000), "m"},
		{"a document elsewhere", "https://api.mistral.ai/v1/ocr", `{"model":"m","document":{"document_url":"https://e.com/x.pdf"}}`, units.Of(units.Pages, 1000), "m"},
		{"a document that was uploaded before", "https://api.mistral.ai/v1/ocr", `{"model":"m","document":{"type":"file","file_id":"f"}}`, units.Of(units.Pages, 1000), "m"},
		{"a recording in JSON", "https://openrouter.ai/api/v1/audio/transcriptions", `{"model":"m","input_audio":{"format":"wav","data":"` + base64.StdEncoding.EncodeToString(recorded(8_000, 20_000)) + `"}}`, units.Of(units.InputAudio, 2506), "m"},
		{"one of which nothing is known", "https://openrouter.ai/api/v1/audio/transcriptions", `{"model":"m","input_audio":{"format":"mp3","data":"` + strings.Repeat("AAAA", 500) + `"}}`, units.Of(units.InputAudio, 1500), "m"},
		{"some of its pages, described", "https://api.mistral.ai/v1/ocr", `{"model":"m","pages":[0,1,5],"document_annotation_format":{"type":"json_schema"},"document":{"document_url":"https://e.com/x.pdf"}}`, units.Of(units.Pages.With("annotated"), 3), "m"},
		{"a range of them", "https://api.mistral.ai/v1/ocr", `{"model":"m","pages":"0-3,7","document":{"document_url":"https://e.com/x.pdf"}}`, units.Of(units.Pages, 5), "m"},
		{"a picture", "https://api.mistral.ai/v1/ocr", `{"model":"m","document":{"image_url":"https://e.com/x.png"}}`, units.Of(units.Pages, 1), "m"},
		{"Sora", "https://api.openai.com/v1/videos", `{"prompt":"x","model":"sora-2-pro","seconds":"12","size":"1024x1792"}`, film(12_000, "1024x1792", "1024p"), "sora-2-pro"},
		{"Sora, as it comes", "https://api.openai.com/v1/videos", `{"prompt":"x"}`, film(4_000), "sora-2"},
		{"another one of a video", "https://api.openai.com/v1/videos/video_1/remix", `{"prompt":"x"}`, film(20_000), "sora-2-pro"},
		{"Grok", "https://api.x.ai/v1/videos/generations", `{"prompt":"x","model":"grok-x","duration":6,"resolution":"720P"}`, film(6_000, "720p"), "grok-x"},
		{"OpenRouter", "https://openrouter.ai/api/v1/videos", `{"prompt":"x","model":"google/veo-x","duration":8,"generate_audio":false}`, film(8_000, "silent"), "google/veo-x"},
		{"Veo", "https://generativelanguage.googleapis.com/v1beta/models/veo-x:predictLongRunning", `{"instances":[{"prompt":"x"}],"parameters":{"durationSeconds":6,"sampleCount":2,"resolution":"1080p"}}`, film(12_000, "1080p"), "veo-x"},
		{"Sora at Azure", "https://x.openai.azure.com/openai/v1/video/generations/jobs", `{"prompt":"x","model":"sora","n_seconds":5,"n_variants":2}`, film(10_000), "sora"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := ReadRequest(at(t, http.MethodPost, c.url), []byte(c.body))
			require.Equal(t, c.want, got.Units)
			require.Equal(t, c.model, got.Model)
		})
	}
}

func TestReadRequest_OfAVideoThatHasAFile(t *testing.T) {
	t.Parallel()
	field := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	body := field("model", "sora-2") + field("seconds", "8") + field("size", "1280x720") + "--b\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"x.png\"\r\nContent-Type: image/png\r\n\r\nPNG\r\n--b--\r\n"
	got := ReadRequest(at(t, http.MethodPost, "https://api.openai.com/v1/videos"), []byte(body))
	require.Equal(t, units.Of(units.OutputVideo.With("1280x720", "720p"), 8_000), got.Units)
	require.EqualValues(t, 1, got.Images)
}

func TestVideos_AreReadOnceTheyAreMade(t *testing.T) {
	t.Parallel()
	const (
		sora   = "https://api.openai.com/v1/videos"
		grok   = "https://api.x.ai/v1/videos/"
		open   = "https://openrouter.ai/api/v1/videos"
		veo    = "https://generativelanguage.googleapis.com/v1beta/models/veo-x"
		vertex = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/veo-x:"
	)
	film := book.Usage{Units: units.Of(units.OutputVideo.With("720x1280", "720p"), 8_000)}
	for _, c := range []struct {
		name, method, url, body string
		want                    Result
	}{
		{"Sora, made", "POST", sora, `{"id":"video_1","object":"video","model":"sora-2","status":"queued","progress":0,"seconds":"8","size":"720x1280"}`, Result{ID: "video_1", Pending: true}},
		{"Sora, at work", "GET", sora + "/video_1", `{"id":"video_1","status":"in_progress","seconds":"8"}`, Result{ID: "video_1", Pending: true}},
		{"Sora, there", "GET", sora + "/video_1", `{"id":"video_1","model":"sora-2","status":"completed","seconds":"8","size":"720x1280","error":null}`, Result{ID: "video_1", Found: true, Usage: film}},
		{"Sora, failed", "GET", sora + "/video_1", `{"id":"video_1","status":"failed","seconds":"8","error":{"code":"x"}}`, Result{ID: "video_1", Failed: true}},
		{"Grok, made", "POST", grok + "generations", `{"request_id":"g"}`, Result{ID: "g", Pending: true}},
		{"Grok, at work", "GET", grok + "g", `{"status":"pending","progress":20}`, Result{ID: "g", Pending: true}},
		{"Grok, there", "GET", grok + "g", `{"status":"done","model":"grok-x","video":{"url":"https://e.com/x.mp4","duration":6},"usage":{"cost_in_usd_ticks":3000000000}}`,
			Result{ID: "g", Found: true, Usage: book.Usage{Units: units.Of(units.OutputVideo, 6_000)}, ReportedCost: 300_000_000}},
		{"Grok, expired", "GET", grok + "g", `{"status":"expired"}`, Result{ID: "g", Failed: true}},
		{"OpenRouter, made", "POST", open, `{"id":"job-1","polling_url":"/api/v1/videos/job-1","status":"pending"}`, Result{ID: "job-1", Pending: true}},
		{"OpenRouter, there", "GET", open + "/job-1", `{"id":"job-1","status":"completed","usage":{"cost":0.5,"is_byok":false}}`, Result{ID: "job-1", ReportedCost: 500_000_000}},
		{"Veo, made", "POST", veo + ":predictLongRunning", `{"name":"models/veo-x/operations/op1"}`, Result{ID: "op1", Pending: true}},
		{"Veo, at work", "GET", veo + "/operations/op1", `{"name":"models/veo-x/operations/op1","metadata":{}}`, Result{ID: "op1", Pending: true}},
		{"Veo, there", "GET", veo + "/operations/op1", `{"name":"models/veo-x/operations/op1","done":true,"response":{"generateVideoResponse":{"generatedSamples":[{"video":{"uri":"u"}},{"video":{"uri":"v"}}]}}}`, Result{ID: "op1", Videos: 2}},
		{"Veo, filtered", "GET", veo + "/operations/op1", `{"name":"models/veo-x/operations/op1","done":true,"response":{"generateVideoResponse":{"raiMediaFilteredCount":1}}}`, Result{ID: "op1", Failed: true}},
		{"Veo, failed", "GET", veo + "/operations/op1", `{"name":"models/veo-x/operations/op1","done":true,"error":{"code":3,"message":"no"}}`, Result{ID: "op1", Failed: true}},
		{"Veo on Vertex AI, made", "POST", vertex + "predictLongRunning", `{"name":"projects/p/locations/l/publishers/google/models/veo-x/operations/op2"}`, Result{ID: "op2", Pending: true}},
		{"Veo on Vertex AI, there", "FETCH", vertex + "fetchPredictOperation", `{"name":"projects/p/locations/l/publishers/google/models/veo-x/operations/op2","done":true,"response":{"videos":[{"gcsUri":"gs://b/x.mp4"}]}}`, Result{ID: "op2", Videos: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			method := strings.Replace(c.method, "FETCH", http.MethodPost, 1)
			e := at(t, method, c.url)
			require.Equal(t, Video, e.Kind)
			require.Equal(t, c.method != http.MethodPost, e.Retrieval)
			r := readIn(6, e, 200, nil, []byte(c.body))
			require.True(t, r.Complete)
			if c.want.ReportedCost == 0 {
				c.want.ReportedCost = -1
			}
			require.Equal(t, c.want, Result{ID: r.ID, Pending: r.Pending, Failed: r.Failed, Found: r.Found, Usage: r.Usage, ReportedCost: r.ReportedCost, Videos: r.Videos})
		})
	}
	e := at(t, http.MethodGet, sora+"/video_1/content?variant=video")
	require.Equal(t, Endpoint{Provider: "openai", Kind: Video, Format: Videos, Retrieval: true, Job: "video_1", Download: true}, e)
}
