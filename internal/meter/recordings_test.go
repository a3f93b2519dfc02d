package meter

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

// The recordings are no part of this repository. An independent script has read their usage.
const recordings = "../../../shared/recordings"

type recording struct {
	File     string
	Provider string
	API      string
	Status   int
	Present  bool `json:"usage_present"`
	Rule     string
	Expected struct {
		inclusive
		Uncached   *int64      `json:"uncached_input_tokens"`
		Cost       json.Number `json:"provider_cost_usd"`
		Tier       string      `json:"service_tier"`
		Searches   int64       `json:"web_search_requests"`
		Queries    int64       `json:"web_search_queries"`
		Extra      []inclusive `json:"extra_iterations_not_in_totals"`
		Items      []inclusive
		OutputItem struct {
			Searches int64 `json:"web_search_call"`
		} `json:"output_items"`
		Headers map[string]int64 `json:"bedrock_headers"`
	}
	Returned  string `json:"model_returned"`
	Streaming bool
	Raw       json.RawMessage `json:"raw_usage"`

	request struct {
		Method, Host, Path, Query string
		Headers                   map[string][]string
		Body                      json.RawMessage
		Text                      string `json:"body_text"`
	}
	header http.Header
	body   []byte
}

type inclusive struct {
	Model       string
	Input       int64 `json:"input_tokens"`
	Output      int64 `json:"output_tokens"`
	CacheRead   int64 `json:"cache_read_tokens"`
	CacheWrite  int64 `json:"cache_write_tokens"`
	Write1h     int64 `json:"cache_write_1h_tokens"`
	Reasoning   int64 `json:"reasoning_tokens"`
	AudioIn     int64 `json:"input_audio_tokens"`
	ImageIn     int64 `json:"input_image_tokens"`
	AudioOut    int64 `json:"output_audio_tokens"`
	ImageOut    int64 `json:"output_image_tokens"`
	TotalStated int64 `json:"total_reported"`
}

func eachRecording(t *testing.T, run func(*testing.T, *recording)) {
	index, err := os.ReadFile(filepath.Join(recordings, "index.json"))
	if os.IsNotExist(err) {
		t.Skip("the recordings are not there: " + recordings)
	}
	require.NoError(t, err)
	var all []json.RawMessage
	require.NoError(t, json.Unmarshal(index, &all))
	require.NotEmpty(t, all)
	for _, entry := range all {
		entry = regexp.MustCompile(`(:\s*\d+)\.0([,\s}])`).ReplaceAll(entry, []byte("$1$2")) // some providers count in floats
		r := new(recording)
		require.NoError(t, json.Unmarshal(entry, r), string(entry))
		t.Run(r.File, func(t *testing.T) {
			t.Parallel()
			r.read(t)
			run(t, r)
		})
	}
}

func (r *recording) read(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(recordings, r.File))
	require.NoError(t, err)
	var file struct {
		Request  json.RawMessage
		Response struct {
			Headers map[string][]string
			Body    json.RawMessage
			Base64  string `json:"body_b64"`
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.NoError(t, json.Unmarshal(file.Request, &r.request))
	r.header = make(http.Header)
	for name, values := range file.Response.Headers {
		for _, v := range values {
			r.header.Add(name, v)
		}
	}
	r.body = file.Response.Body
	var s string
	if json.Unmarshal(file.Response.Body, &s) == nil {
		r.body = []byte(s)
	}
	if file.Response.Base64 != "" {
		r.body, err = base64.StdEncoding.DecodeString(file.Response.Base64)
		require.NoError(t, err)
	}
}

// endpoint skips what nobody knows, if it has no usage.
func (r *recording) endpoint(t *testing.T) Endpoint {
	u := &url.URL{Scheme: "https", Host: strings.TrimSpace(r.request.Host), RawQuery: r.request.Query, RawPath: r.request.Path}
	u.Path, _ = url.PathUnescape(r.request.Path)
	e, ok := Recognise(r.request.Method, u)
	if !ok && !r.Present {
		t.Skip("not recognised, and nothing to read")
	}
	require.True(t, ok, "%s %s is not recognised", r.request.Method, u)
	if e.Kind == BatchResults || e.Kind == File {
		t.Skip("has many replies, or none: see TestRecordings_OfBatchesHaveAUsageForEachLine")
	}
	return e
}

func readIn(pieces int, e Endpoint, status int, header http.Header, body []byte) *Result {
	r := NewReader(e, status, header)
	size := max(len(body)/max(pieces, 1), 1)
	for len(body) > 0 {
		n := min(size, len(body))
		_, _ = r.Write(body[:n])
		body = body[n:]
	}
	return r.Result()
}

func TestRecordings_HaveTheUsageThatWasReadIndependently(t *testing.T) {
	t.Parallel()
	eachRecording(t, func(t *testing.T, r *recording) {
		e := r.endpoint(t)
		got := readIn(1, e, r.Status, r.header, r.body)
		require.False(t, got.Implausible)
		want := r.Expected
		if why, ours := findings[r.File]; ours {
			require.Equal(t, why.usage, got.Usage, why.reason)
			return
		}
		if want.Headers != nil && want.Input == 0 {
			want.Input = want.Headers["x-amzn-bedrock-input-token-count"]
			want.Output = want.Headers["x-amzn-bedrock-output-token-count"]
		}
		stated := want.Input+want.Output > 0
		if images := got.Usage.Units; e.Kind == Images && !stated && r.Status == http.StatusOK {
			require.Positive(t, images.Count(units.OutputImages), "without tokens they are counted")
			got.Found, got.Usage.Units = false, images.Minus(images)
		}
		require.Equal(t, stated, got.Found)
		if !stated {
			require.Zero(t, got.Usage)
		}
		same(t, want.inclusive, got.Usage)
		if want.Uncached != nil {
			require.Equal(t, *want.Uncached, got.Usage.Input)
		}

		searches := max(want.Searches, want.OutputItem.Searches)
		var raw struct {
			Calls struct {
				Web int64 `json:"web_search_calls"`
				X   int64 `json:"x_search_calls"`
			} `json:"server_side_tool_usage_details"`
		}
		_ = json.Unmarshal(r.Raw, &raw)
		switch model := cmp.Or(r.Returned, r.request.Path); {
		case raw.Calls.Web+raw.Calls.X > 0:
			searches = raw.Calls.Web + raw.Calls.X // xAI says what it charges for; some of it is no item
		case strings.Contains(model, "gemini-1") || strings.Contains(model, "gemini-2"):
			searches = min(want.Queries, 1) // Google charges the grounded prompt, whatever it asks, until Gemini 3
		case want.Queries > 0:
			searches = want.Queries
		}
		if billed := regexp.MustCompile(`"web_search":\s*\{\s*"num_requests":\s*(\d+)`).FindSubmatch(r.body); billed != nil {
			searches, _ = strconv.ParseInt(string(billed[1]), 10, 64) // OpenAI counts them itself, and leaves some out
		}
		if regexp.MustCompile(`"(open_page|find_in_page)"`).Match(r.body) { // OpenAI charges the search, not what is done with its results
			require.LessOrEqual(t, got.Usage.WebSearches, searches)
		} else {
			require.Equal(t, searches, got.Usage.WebSearches)
		}

		if strings.HasSuffix(r.API, "responses") && len(want.Extra) == 0 {
			got.Also = nil // what tools used that make images is stated beside the usage, which is all that the script has read
		}
		require.Len(t, got.Also, len(want.Extra))
		for i, x := range want.Extra {
			same(t, x, got.Also[i].Usage)
			require.Equal(t, x.Model, got.Also[i].Model)
		}
		if want.Cost != "" {
			usd, err := want.Cost.Float64()
			require.NoError(t, err)
			require.InDelta(t, usd*1e9, float64(got.ReportedCost), 0.5001)
		} else {
			require.LessOrEqual(t, got.ReportedCost, int64(0))
		}
		if want.Tier != "" {
			tier, _, _ := strings.Cut(got.ServiceTier, "+") // speed and region follow
			require.Equal(t, want.Tier, tier)
		}
		if r.Returned != "" {
			require.Equal(t, r.Returned, got.Model)
		}
	})
}

// same compares classes with counts that contain each other.
func same(t *testing.T, want inclusive, u book.Usage) {
	t.Helper()
	require.Equal(t, want.Input, u.Input+u.CacheRead+u.CacheWrite5m+u.CacheWrite1h+u.InputAudio+u.InputImage, "input in %+v", u)
	require.Equal(t, want.Output, u.Output+u.Reasoning+u.OutputAudio+u.OutputImage, "output in %+v", u)
	require.Equal(t, want.CacheRead, u.CacheRead)
	require.Equal(t, min(want.CacheWrite, want.Input-want.CacheRead), u.CacheWrite5m+u.CacheWrite1h, "disjoint, where a provider's are not")
	require.Equal(t, want.Write1h, u.CacheWrite1h)
	for _, c := range []struct{ want, got int64 }{
		{want.Reasoning, u.Reasoning}, {want.AudioIn, u.InputAudio}, {want.ImageIn, u.InputImage},
		{want.AudioOut, u.OutputAudio}, {want.ImageOut, u.OutputImage},
	} {
		if c.want > 0 {
			require.Equal(t, c.want, c.got, "%+v", u)
		}
	}
}

// findings are what the independent script has not seen, and why it is there.
var findings = map[string]struct {
	usage  book.Usage
	reason string
}{
	"ruby_llm/01689-vertexai-google_predict-json.json": {
		book.Usage{Input: 10, Units: units.Of(units.InputCharacters, 29)},
		"predictions[].embeddings.statistics.token_count is the usage of Vertex AI's text embeddings, metadata.billableCharacterCount what is charged",
	},
	"ai-gateway/01768-openai-openai_chat-stream.json": {
		book.Usage{WebSearches: 1}, "a model that searches first has searched, and states no usage as it was not asked for it",
	},
	"openllmetry/01872-bedrock-bedrock_invoke-stream.json": {
		book.Usage{Input: 6, Output: 3}, "inputTextTokenCount and totalOutputTextTokenCount are Titan's own counts",
	},
	"ruby_llm/01725-cohere-cohere_rerank-json.json": {
		book.Usage{Units: units.Of(units.SearchUnits, 1)}, "meta.billed_units.search_units are charged, and are no tokens",
	},
	"ruby_llm/01716-mistral-mistral_ocr-json.json": {
		book.Usage{Units: units.Of(units.Pages, 1)}, "usage_info.pages_processed are charged, and are no tokens",
	},
}

func TestRecordings_ReadTheSameInPiecesOfAnySize(t *testing.T) {
	t.Parallel()
	eachRecording(t, func(t *testing.T, r *recording) {
		e := r.endpoint(t)
		whole := readIn(1, e, r.Status, r.header, r.body)
		require.Equal(t, whole, readIn(len(r.body), e, r.Status, r.header, r.body), "byte by byte")
		require.Equal(t, whole, readIn(len(r.body)/7, e, r.Status, r.header, r.body))
		require.Equal(t, whole, readIn(2, e, r.Status, r.header, r.body))
	})
}

func TestRecordings_AreComplete(t *testing.T) {
	t.Parallel()
	eachRecording(t, func(t *testing.T, r *recording) {
		e := r.endpoint(t)
		if r.Present {
			got := readIn(1, e, r.Status, r.header, r.body)
			require.True(t, got.Complete, "%+v", got)
		}
		if !r.Streaming {
			cut := readIn(1, e, r.Status, r.header, r.body[:len(r.body)/2])
			require.False(t, cut.Complete, "%+v", cut)
		}
	})
}
