package meter

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

var everyFormat = []Endpoint{
	{Format: ChatCompletions, Kind: Chat}, {Format: ChatCompletions, Kind: Chat, Provider: Vercel}, {Format: Responses, Kind: Chat},
	{Format: OpenAI, Kind: Embeddings}, {Format: OpenAI, Kind: Images}, {Format: OpenAI, Kind: Transcription},
	{Format: ChatCompletions, Kind: Chat, Provider: Perplexity}, {Format: Anthropic, Kind: Chat},
	{Format: Gemini, Kind: Chat}, {Format: Ollama, Kind: Chat}, {Format: Converse, Kind: Chat}, {Format: Invoke, Kind: Chat}, {Format: Cohere, Kind: Chat},
	{Format: Interactions, Kind: Chat}, {Format: Conversations, Kind: Chat}, {Format: AsyncChat, Kind: Chat},
	{Format: Videos, Kind: Video}, {Format: OpenAI, Kind: OCR}, {Format: OpenAI, Kind: Rerank},
	{Format: CloudflareRun, Kind: Chat}, {Format: WatsonxText, Kind: Chat}, {Format: DashScope, Kind: Chat}, {Format: VoyageMultimode, Kind: Embeddings},
	{Format: Completions, Kind: Chat}, {Format: LlamaCpp, Kind: Chat}, {Format: TextGeneration, Kind: Chat}, {Format: TextGeneration, Kind: Embeddings},
}

func seeds(f *testing.F) {
	for _, body := range []string{
		chatReply("Yes."),
		sse(`{"choices":[{"delta":{"content":"\ud83d\ude00\u00e9"}}]}`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":-2,"cost":1e3}}`),
		sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":200,"output_tokens":1}}}`,
			`{"type":"message_delta","usage":{"output_tokens":4,"iterations":[{"type":"compaction","model":"x","input_tokens":5}]}}`),
		sseOpen(`{"type":"response.completed","response":{"tools":[{"type":"image_generation","model":"p"}],"tool_usage":{"image_gen":{"input_tokens":3,"output_tokens":4},"web_search":{"num_requests":2}},"output":[{"svg_usage":{"model":"d","input_tokens":1,"output_tokens":2}}],"usage":{"input_tokens":9,"output_tokens":"2"}}}`),
		`{"model":"b","usage":{"input_tokens":1,"output_tokens":2,"speed":"fast","cost":0.1,"iterations":[{"type":"message","model":"a","output_tokens":7},{"type":"fallback_message","model":"b","output_tokens":2}]}}`,
		`[{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":4}]}},{}]`,
		"{\"done\":false}\n{\"done\":true,\"eval_count\":3}\n",
		sseOpen(`{"event_type":"interaction.completed","interaction":{"usage":{"total_input_tokens":9,"grounding_tool_count":[{"type":"google_search","count":-1}]}}}`),
		`{"id":"a","status":"COMPLETED","response":{"usage":{"prompt_tokens":9,"completion_tokens":2}}}`, `{"request_id":"f"}`,
		`{"outputs":[{"content":"x"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":9,"connector_tokens":3}}`,
		`{"id":"v","status":"completed","seconds":"8","size":"720x1280","video":{"duration":-3},"usage":{"cost":0.5}}`, `{"usage_info":{"pages_processed":7}}`,
		`{"name":"a/b","done":true,"response":{"videos":[{},{}]}}`,
		`{"meta":{"billed_units":{"input_tokens":7.0}}}`,
		`{"choices":[{"index":1,"message":{"content":"a"},"usage":{"prompt_tokens":4}},{"index":0}],"system_fingerprint":"b7-x","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":40,"prompt_tokens_details":{"cached_read_tokens":29,"cached_write_tokens":3}}}`,
		sseOpen(`{"content":"a","stop":false,"tokens_predicted":1,"tokens_evaluated":8}`, `{"content":"","stop":true,"tokens_predicted":2,"tokens_evaluated":8,"timings":{"cache_n":9}}`),
		`{"generated_text":"a","details":{"generated_tokens":3,"prefill":[{},{}],"best_of_sequences":[{"generated_tokens":4}]}}`,
		event("metadata", `{"usage":{"inputTokens":9,"outputTokens":2,"cacheDetails":[{"ttl":"1h","inputTokens":3}]}}`),
		chunk(`{"amazon-bedrock-invocationMetrics":{"inputTokenCount":9,"outputTokenCount":2}}`),
		event("chunk", `{"bytes":"eyJpbnB!dFRva2VuQ291bnQiOjksIm91dHB1dFRva2VuQ291bnQiOjJ9fQ==","p":"abc"}`),
		event("chunk", `{"bytes":"eyJh\n\nIjoxfQ==e30="}`),
		"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2\x48\xeb\x00\x00\x00\x00",
		"\x1f\x8b\x08\x00", "data:[DON", `{"a":"\u12`, "\xef\xbb\xbfdata: {}\r\r",
	} {
		for i := range everyFormat {
			f.Add([]byte(body), uint8(i), uint16(3))
		}
	}
}

// FuzzReader holds for any bytes: no panic, the same result in pieces of any size, and no usage that a call cannot have.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte, format uint8, pieces uint16) {
		e := everyFormat[int(format)%len(everyFormat)]
		got := readIn(1, e, 200, nil, body)
		sound(t, got, len(body))
		for _, n := range []int{int(pieces), len(body)} {
			again := readIn(n, e, 200, nil, body)
			if a, b := marshalled(got), marshalled(again); a != b {
				t.Fatalf("%d pieces:\n%s\n%s", n, a, b)
			}
		}
		if len(body) < 1<<10 {
			sound(t, readIn(2, e, 200, http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/x-ndjson"}}, body), 1<<30)
		}
	})
}

func marshalled(r *Result) string {
	b, _ := json.Marshal(r)
	return string(b)
}

func sound(t *testing.T, r *Result, size int) {
	all := append([]ModelUsage{{"", r.Usage}}, r.Also...)
	for _, m := range all {
		for _, n := range m.Usage.Classes() {
			if *n < 0 || *n > maxCount {
				t.Fatalf("%+v", m)
			}
		}
	}
	if r.ReportedCost < notStated || r.ReportedCost > 2*maxCost || r.AudioDuration < 0 {
		t.Fatalf("cost %d, duration %d", r.ReportedCost, r.AudioDuration)
	}
	if r.OutputChars < 0 || r.OutputChars > int64(size) || r.OutputEstimate < 0 || r.OutputEstimate > int64(size) {
		t.Fatalf("%d characters, %d tokens of %d bytes", r.OutputChars, r.OutputEstimate, size)
	}
	if len(r.Also) > maxModels || len(r.FinishReasons) > maxReasons || len(r.Model) > maxToken+4 {
		t.Fatalf("%+v", r)
	}
	u, _ := r.Charged(5)
	for _, n := range u.Classes() {
		if *n < 0 {
			t.Fatalf("charged %+v", u)
		}
	}
}

// FuzzScannerReadsWhatEncodingJSONReads compares the scanner with the standard decoder on valid documents.
func FuzzScannerReadsWhatEncodingJSONReads(f *testing.F) {
	f.Add([]byte(`{"usage":{"prompt_tokens":9,"completion_tokens":2},"x":[{"y":"\"}]"}]}`))
	f.Add([]byte(`{"usage":{"prompt_tokens":1,"Completion_tokens":0}}`))
	f.Add([]byte(`{"\u0075sage":{"prompt_tokens":9,"completion_tokens":2}}`))
	f.Add([]byte(`{"usage":{"prompt_tokens":1,"prompt_tokens":9,"completion_tokens":2},"model":"a\ud83d\ude00\n"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || len(body) == 0 || bytes.ContainsAny(body[:1], " \t\r\n") {
			return
		}
		var want struct {
			Usage struct {
				Prompt     json.RawMessage `json:"prompt_tokens"`
				Completion json.RawMessage `json:"completion_tokens"`
			}
			Model string
		}
		var members map[string]json.RawMessage
		got := readIn(1, Endpoint{Format: ChatCompletions, Kind: Chat}, 200, nil, body)
		if body[0] == '{' && !got.Complete {
			t.Fatalf("a whole document is said not to be: %s", body)
		}
		if json.Unmarshal(body, &members) != nil || json.Unmarshal(members["usage"], &map[string]json.RawMessage{}) != nil {
			return
		}
		// The standard decoder takes names of any case, and joins what is stated twice; other counts take from these two.
		if lower := bytes.ToLower(body); bytes.Count(lower, []byte("usage")) != 1 || bytes.Count(lower, []byte("_tokens\"")) != 2 ||
			!bytes.Contains(body, []byte(`"prompt_tokens"`)) || !bytes.Contains(body, []byte(`"completion_tokens"`)) ||
			bytes.Contains(body, []byte("\\")) || bytes.Contains(body, []byte("search")) || json.Unmarshal(body, &want) != nil {
			return
		}
		prompt, okP := whole(want.Usage.Prompt)
		completion, okC := whole(want.Usage.Completion)
		if !okP || !okC {
			return
		}
		if prompt < 0 || completion < 0 || max(prompt, completion) > maxCount {
			if got.Found {
				t.Fatalf("%s: %+v", body, got)
			}
			return
		}
		if !got.Found || got.Usage.Input != prompt || got.Usage.Output != completion {
			t.Fatalf("%s: %+v", body, got)
		}
	})
}

func whole(raw json.RawMessage) (int64, bool) {
	var n int64
	err := json.Unmarshal(raw, &n)
	return n, err == nil && len(raw) > 0 && raw[0] != 'n'
}

func FuzzRequest(f *testing.F) {
	for i := range everyFormat {
		f.Add([]byte(`{"model":"m","max_tokens":100,"prompt":["a",[1]],"tools":[{"type":"x"}],"generationConfig":{"maxOutputTokens":7},"options":null,"stream_options":{}}`), uint8(i), int64(50))
		f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n3\r\n--b--\r\n"), uint8(i), int64(1))
		f.Add([]byte(`{"n_predict":-1,"parameters":{"max_new_tokens":9},"tools":[{"type":"web_search_1","max_uses":2}],"reasoning":{"mode":"pro"}}`), uint8(i), int64(5))
		f.Add([]byte(`{"max\u005ftokens":1e3 , "inferenceConfig" : { } }`), uint8(i), int64(9))
	}
	f.Fuzz(func(t *testing.T, body []byte, format uint8, limit int64) {
		e := everyFormat[int(format)%len(everyFormat)]
		e.Model = "anthropic.claude-x"
		before := bytes.Clone(body)
		r := ReadRequest(e, body)
		if r.Choices < 1 || r.Prompts < 1 || r.MaxTokens < 0 || r.InputBytes < 0 || r.MediaBytes < 0 || r.InputBytes+r.MediaBytes != int64(len(body)) {
			t.Fatalf("%+v", r)
		}
		limited, ok := LimitOutput(e, body, limit)
		asked, _ := AskForUsage(e, body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was written to")
		}
		if json.Valid(body) && !(json.Valid(limited) && json.Valid(asked)) {
			t.Fatalf("%s became %s and %s", body, limited, asked)
		}
		if !ok {
			if !bytes.Equal(limited, body) {
				t.Fatal("a body without a limit was changed")
			}
			return
		}
		if again, _ := LimitOutput(e, limited, limit); !bytes.Equal(again, limited) {
			t.Fatalf("%s was limited, and then %s", limited, again)
		}
		if got := ReadRequest(e, limited).MaxTokens; got > limit {
			t.Fatalf("%s is limited to %d, not %d", limited, got, limit)
		}
		if now, _ := AskForUsage(e, asked); !bytes.Equal(now, asked) {
			t.Fatalf("%s was asked, and then %s", asked, now)
		}
	})
}

// FuzzUsageFilter holds for any stream: what comes out is what went in, less whole events, in pieces of any size.
func FuzzUsageFilter(f *testing.F) {
	f.Add([]byte(sse(`{"choices":[{}]}`, `{"choices":[],"usage":{}}`)), uint8(5))
	f.Add([]byte(sse(`{"choices":[],"usage":{}}`)+": a\n\n"+sse(`{"system_fingerprint":"b1-a","choices":[],"usage":{}}`, `{"choices":[],"usage":{},"error":{}}`)), uint8(7))
	f.Add([]byte("data: {\"choices\":[],\r\ndata: \"usage\":{}}\r\n\r\n\n\n:x\n"), uint8(1))
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		run := func(size int) []byte {
			filter := NewUsageFilter()
			var out []byte
			for p := body; len(p) > 0; p = p[min(size, len(p)):] {
				out = filter.Append(out, p[:min(size, len(p))])
			}
			return filter.Flush(out)
		}
		out := run(max(len(body), 1))
		if again := run(int(size) + 1); !bytes.Equal(out, again) {
			t.Fatalf("%q\n%q", out, again)
		}
		if !bytes.Contains(body, []byte("usage")) && !bytes.Contains(body, []byte(`\u`)) && !bytes.Equal(out, body) {
			t.Fatalf("%q became %q", body, out)
		}
		if i := isSubsequence(out, body); i >= 0 {
			t.Fatalf("%q became %q", body, out)
		}
	})
}

func isSubsequence(s, of []byte) int {
	i := 0
	for _, c := range of {
		if i < len(s) && s[i] == c {
			i++
		}
	}
	if i == len(s) {
		return -1
	}
	return i
}

func FuzzRecognise(f *testing.F) {
	f.Add("POST", "https://api.openai.com/v1/responses/x/cancel")
	f.Add("GET", "https://bedrock-runtime.us-east-1.amazonaws.com/model/a%2Fb/converse")
	f.Add("POST", "https://aiplatform.googleapis.com/v1/x:rawPredict")
	f.Fuzz(func(t *testing.T, method, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		e, ok := Recognise(method, u)
		if ok && (e.Kind == "" || e.Kind != Free && e.Format == "") {
			t.Fatalf("%+v", e)
		}
	})
}
