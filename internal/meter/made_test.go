package meter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

func TestReadRequest_BoundsWhatIsMadeAndHeard(t *testing.T) {
	t.Parallel()
	const openAI = "https://api.openai.com/v1/"
	image := units.OutputImages
	for _, c := range []struct {
		url, body string
		want      units.Counts
	}{
		{openAI + "images/generations", `{"model":"dall-e-3","prompt":"a","size":"1024x1792","quality":"hd"}`, units.Of(image.With("1024x1792", "hd"), 1)},
		{openAI + "images/generations", `{"model":"dall-e-3","prompt":"a"}`, units.Of(image.With("1024x1024", "standard"), 1)},
		{openAI + "images/generations", `{"model":"dall-e-2","prompt":"a","n":4,"size":"256x256"}`, units.Of(image.With("256x256"), 4)},
		{openAI + "images/generations", `{"model":"gpt-image-1","prompt":"a","n":2,"size":"auto","quality":"auto"}`, units.Of(image, 2)},
		{openAI + "images/edits", upload("image", "PNG", "model", "dall-e-2", "n", "3", "size", "512x512", "prompt", "a"), units.Of(image.With("512x512"), 3)},
		{"https://generativelanguage.googleapis.com/v1beta/models/imagen-4.0-generate-001:predict", `{"instances":[{"prompt":"a"}],"parameters":{"sampleCount":2}}`, units.Of(image, 2)},
		{"https://generativelanguage.googleapis.com/v1beta/models/imagen-4.0-generate-001:predict", `{"instances":[{"prompt":"a"}]}`, units.Of(image, 4)},
		{openAI + "audio/speech", `{"model":"tts-1","voice":"alloy","input":"Grüße,\n\"Welt\" 你好","instructions":"slowly"}`, units.Of(units.InputCharacters, 16)},
		{openAI + "audio/transcriptions", upload("file", string(recorded(16_000, 40_000)), "model", "whisper-1"), units.Of(units.InputAudio, 2503)},
		{openAI + "audio/translations", upload("file", strings.Repeat("?", 5000), "model", "whisper-1"), units.Of(units.InputAudio, 5000)},
		{openAI + "chat/completions", `{"model":"m","messages":[],"input":"abc","size":"1x1"}`, units.Counts{}},
	} {
		require.Equal(t, c.want, ReadRequest(at(t, http.MethodPost, c.url), []byte(c.body)).Units, "%s %s", c.url, c.body[:min(len(c.body), 90)])
	}
}

// upload is a form with a file and some fields.
func upload(name, file string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=%q; filename=\"f\"\r\n\r\n%s\r\n", name, file)
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", fields[i], fields[i+1])
	}
	return b.String() + "--x--\r\n"
}

// recorded is a file of sound that is not compressed, with some bytes for each second.
func recorded(perSecond uint32, n int) []byte {
	b := append([]byte("RIFF----WAVEfmt "), 16, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, perSecond)
	b = append(b, "\x02\x00\x10\x00data----"...)
	return append(b, make([]byte, n)...)
}

func TestLengthOf_IsWhatTheFileSays(t *testing.T) {
	t.Parallel()
	be32, be64, le64 := binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64, binary.LittleEndian.AppendUint64
	flac := be64(append([]byte("fLaC"), make([]byte, 14)...), 44_100<<44|44_100*90)
	opus := append(append([]byte("OggS"), make([]byte, 30)...), "OpusHead"+strings.Repeat("x", 40)...)
	opus = append(le64(append(opus, "OggS\x00\x04"...), 48_000*7), make([]byte, 20)...)
	movie := append([]byte("....ftypM4A ....mvhd\x00\x00\x00\x00--------"), be32(be32(nil, 1000), 61_500)...)
	long := append([]byte("....ftypM4A ....mvhd\x01\x00\x00\x00----------------"), be64(be32(nil, 600), 6000)...)
	vorbis := append([]byte("OggS"+strings.Repeat("x", 24)+"\x01vorbis\x00\x00\x00\x00\x02"), binary.LittleEndian.AppendUint32(nil, 22_050)...)
	vorbis = append(le64(append(vorbis, "OggS\x00\x04"...), 22_050*3), make([]byte, 20)...)
	constant := append([]byte{0xff, 0xfb, 0x90, 0}, make([]byte, 159_996)...) // 128 kbit/s
	tagged := append(append([]byte("ID3\x04\x00\x00\x00\x00\x00\x05xxxxx"), 0xff, 0xf3, 0x48, 0), make([]byte, 4000)...)
	copy(tagged[15+36:], append([]byte("Xing\x00\x00\x00\x01"), be32(nil, 1000)...)) // frames of 576 samples, at 16 kHz
	for name, c := range map[string]struct {
		file []byte
		ms   int64
	}{
		"wav": {recorded(32_000, 64_000), 2002}, "flac": {flac, 90_000}, "opus": {opus, 7000}, "vorbis": {vorbis, 3000},
		"mp4": {append(movie, make([]byte, 40)...), 61_500}, "mp4, 64 bits": {append(long, make([]byte, 40)...), 10_000},
		"mp3": {constant, 10_000}, "mp3 that says its frames": {tagged, 36_000},
		"nothing known": {make([]byte, 700), 700}, "nothing": {nil, 1},
		"a header that lies": {append(recorded(1<<31, 0), make([]byte, 192_000)...), 1000},
	} {
		require.Equal(t, c.ms, lengthOf(c.file), name)
		for i := range c.file[:min(len(c.file), 100)] {
			require.Positive(t, lengthOf(c.file[:i]), name)
		}
	}
}

func FuzzLengthOf(f *testing.F) {
	f.Add(recorded(1, 2))
	f.Add([]byte("....ftypM4A mvhd"))
	f.Add([]byte("OggS\x01vorbis"))
	f.Add([]byte("fLaC"))
	f.Add([]byte{0xff, 0xfb, 0x90, 0})
	f.Fuzz(func(t *testing.T, file []byte) {
		ms := lengthOf(file)
		require.Positive(t, ms)
		require.LessOrEqual(t, ms, int64(maxCount))
		require.LessOrEqual(t, int64(len(bytes.TrimSpace(file)))/mostBytes, ms)
	})
}

func TestReplies_StateWhatWasMadeByThePiece(t *testing.T) {
	t.Parallel()
	const openAI = "https://api.openai.com/v1/"
	check(t, []golden{
		{name: "images that state no tokens", url: openAI + "images/generations", body: `{"created":1,"data":[{"url":"a"},{"url":"b"}]}`, usage: book.Usage{Units: units.Of(units.OutputImages, 2)}},
		{name: "images that state tokens", url: openAI + "images/edits", body: `{"data":[{"b64_json":"a"}],"usage":{"input_tokens":5,"output_tokens":70}}`, usage: book.Usage{Input: 5, OutputImage: 70}},
		{name: "Google's", url: "https://generativelanguage.googleapis.com/v1beta/models/imagen-4.0-generate-001:predict",
			body: `{"predictions":[{"mimeType":"image/png","bytesBase64Encoded":"a"},{"mimeType":"image/png","bytesBase64Encoded":"b"},{"raiFilteredReason":"no"}]}`, usage: book.Usage{Units: units.Of(units.OutputImages, 2)}},
		{name: "a transcription by its length", url: openAI + "audio/transcriptions", body: `{"text":"Yes.","usage":{"type":"duration","seconds":8}}`, usage: book.Usage{Units: units.Of(units.InputAudio, 8000)}},
		{name: "the length as it is billed", url: openAI + "audio/transcriptions", body: `{"task":"transcribe","duration":7.62,"text":"Yes.","usage":{"type":"duration","seconds":8}}`, usage: book.Usage{Units: units.Of(units.InputAudio, 8000)}},
		{name: "to whole seconds", url: "https://api.groq.com/openai/v1/audio/transcriptions", body: `{"task":"transcribe","duration":12.49,"text":"Yes."}`, usage: book.Usage{Units: units.Of(units.InputAudio, 12_000)}},
		{name: "at Groq, which charges ten seconds at least", url: "https://api.groq.com/openai/v1/audio/transcriptions", body: `{"task":"transcribe","duration":3.2,"text":"Yes."}`, usage: book.Usage{Units: units.Of(units.InputAudio, 10_000)}},
		{name: "images of Amazon's on Bedrock", url: bedrockModel + "amazon.titan-image-generator-x:0/invoke", body: `{"images":["iVBORw0KGgo","iVBORw0KGgo"],"error":null}`, usage: book.Usage{Units: units.Of(units.OutputImages, 2)}},
		{name: "one of Stability's there", url: bedrockModel + "stability.sd-x:1/invoke", body: `{"seeds":[7],"finish_reasons":[null],"images":["iVBORw0KGgo"]}`, usage: book.Usage{Units: units.Of(units.OutputImages, 1)}},
		{name: "of its older models", url: bedrockModel + "stability.stable-diffusion-xl-x/invoke", body: `{"result":"success","artifacts":[{"seed":1,"base64":"iVBORw0KGgo","finishReason":"SUCCESS"}]}`, usage: book.Usage{Units: units.Of(units.OutputImages, 1)}},
		{name: "images that Cohere embeds", url: "https://api.cohere.com/v2/embed", body: `{"id":"e","embeddings":{"float":[[0.1]]},"images":[{"width":9,"height":9}],"meta":{"billed_units":{"images":4}}}`, usage: book.Usage{Units: units.Of(units.InputImages, 4)}},
		{name: "those that it counts in tokens", url: "https://api.cohere.com/v2/embed", body: `{"id":"e","embeddings":{"float":[[0.1]]},"meta":{"billed_units":{"images":1,"input_tokens":12,"image_tokens":300}}}`, usage: book.Usage{Input: 12, InputImage: 300}},
		{name: "characters that Vertex AI embeds", url: "https://aiplatform.googleapis.com/v1/projects/p/locations/x/publishers/google/models/text-embedding-x:predict",
			body:  `{"predictions":[{"embeddings":{"values":[0.1],"statistics":{"token_count":11,"truncated":false}}}],"metadata":{"billableCharacterCount":52}}`,
			usage: book.Usage{Input: 11, Units: units.Of(units.InputCharacters, 52)}},
		{name: "searches of files, and a container that two calls share", url: openAI + "responses",
			body: `{"status":"completed","output":[{"type":"file_search_call"},{"type":"code_interpreter_call","container_id":"c1"},{"type":"code_interpreter_call","container_id":"c1"},` +
				`{"type":"code_interpreter_call","container_id":"c2"},{"type":"file_search_call"},{"type":"file_search_call"}],"usage":{"input_tokens":9,"output_tokens":3}}`,
			finished: []string{"completed"}, usage: book.Usage{Input: 9, Output: 3, Units: units.Of(units.FileSearches, 3).Plus(units.Of(units.Containers, 2))}},
		{name: "likewise in a stream", url: openAI + "responses", finished: []string{"completed"},
			body: sseOpen(`{"type":"response.output_item.done","item":{"type":"file_search_call"}}`, `{"type":"response.output_item.done","item":{"type":"code_interpreter_call","container_id":"c"}}`,
				`{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":9,"output_tokens":3}}}`),
			usage: book.Usage{Input: 9, Output: 3, Units: units.Of(units.FileSearches, 1).Plus(units.Of(units.Containers, 1))}},
		{name: "a shell in a container, with as much memory as the tools say", url: openAI + "responses",
			body: `{"status":"completed","output":[{"type":"shell_call","environment":{"type":"container_reference","container_id":"c3"}},{"type":"code_interpreter_call","container_id":"c3"},` +
				`{"type":"shell_call","environment":{"type":"local"}}],"tools":[{"type":"shell","environment":{"type":"container_auto","memory_limit":"4g"}},{"type":"code_interpreter","container":{"type":"auto","memory_limit":"16g"}}],` +
				`"usage":{"input_tokens":9,"output_tokens":3}}`,
			finished: []string{"completed"}, usage: book.Usage{Input: 9, Output: 3, Units: units.Of(units.Containers.With("16g"), 1)}},
		{name: "a gigabyte is the usual one, and a shell of the caller's own is none", url: openAI + "responses", finished: []string{"completed"},
			body: sseOpen(`{"type":"response.created","response":{"status":"in_progress","tools":[{"type":"code_interpreter","container":{"type":"auto","memory_limit":"1g"}}]}}`,
				`{"type":"response.output_item.done","item":{"type":"shell_call","environment":{"type":"container_reference","container_id":"c"}}}`,
				`{"type":"response.output_item.done","item":{"type":"shell_call","environment":{"type":"local"}}}`,
				`{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":9,"output_tokens":3}}}`),
			usage: book.Usage{Input: 9, Output: 3, Units: units.Of(units.Containers, 1)}},
		{name: "searches of files elsewhere", url: "http://localhost:8000/v1/responses", finished: []string{"completed"},
			body: `{"status":"completed","output":[{"type":"file_search_call"}],"usage":{"input_tokens":9,"output_tokens":3}}`, usage: book.Usage{Input: 9, Output: 3}},
		{name: "video that is embedded", url: "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-2:embedContent",
			body:  `{"usageMetadata":{"promptTokenCount":1000,"promptTokensDetails":[{"modality":"VIDEO","tokenCount":900},{"modality":"TEXT","tokenCount":100}]}}`,
			usage: book.Usage{Input: 100, Units: units.Of(units.InputVideoTokens, 900)}},
		{name: "video that is seen", url: "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash:generateContent",
			body:     `{"usageMetadata":{"promptTokenCount":1000,"promptTokensDetails":[{"modality":"VIDEO","tokenCount":900}]},"candidates":[{"finishReason":"STOP"}]}`,
			finished: []string{"STOP"}, usage: book.Usage{Input: 1000}},
	})
	bad := readIn(1, at(t, http.MethodPost, openAI+"audio/transcriptions"), 200, nil, []byte(`{"text":"a","duration":-3}`))
	require.True(t, bad.Implausible)
}
