package meter

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each format's least request has its form, and is not of the form of one without what the model is given.
func TestHasForm_KnowsEachFormatByItsLeastRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, body string }{
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"}]}`},
		{"/v1/completions", `{"model":"m","prompt":["a","b"]}`},
		{"/v1/responses", `{"model":"m","input":[{"role":"user","content":"Hi"}]}`},
		{"/v1/responses", `{"model":"m","previous_response_id":"resp_1"}`},
		{"/v1/embeddings", `{"model":"m","input":[1,2,3]}`},
		{"/v1/images/generations", `{"model":"m","prompt":"a cat"}`},
		{"/v1/images/edits", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n"},
		{"/v1/audio/transcriptions", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n"},
		{"/v1/audio/speech", `{"model":"m","input":"Hi","voice":"v"}`},
		{"/v1/moderations", `{"model":"m","input":"Hi"}`},
		{"/v1/rerank", `{"model":"m","query":"q","documents":["a"]}`},
		{"/v1/ocr", `{"model":"m","document":{"type":"document_url"}}`},
		{"/v1/batches", `{"input_file_id":"f","endpoint":"/v1/embeddings","completion_window":"24h"}`},
		{"/v1/messages", `{"model":"m","max_tokens":9,"messages":[]}`},
		{"/v1/messages/batches", `{"requests":[{"custom_id":"a","params":{}}]}`},
		{"/v1beta/models/m:generateContent", `{"contents":[]}`},
		{"/v1beta/models/m:batchGenerateContent", `{"batch":{"display_name":"d"}}`},
		{"/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict", `{"messages":[]}`},
		{"/model/m/converse", `{"messages":[]}`},
		{"/model/m/invoke", `{"whatever":"the model takes"}`},
		{"/api/chat", `{"model":"m","messages":[]}`},
		{"/api/generate", `{"model":"m","keep_alive":0}`},
		{"/api/generate", `{"model":"m","prompt":"a text that is longer than what the scanner keeps of a string, which must be found all the same, for prompts are seldom as short as the names of models and other such things are"}`},
		{"/v2/chat", `{"model":"m","messages":[]}`},
		{"/v2/embed", `{"model":"m","texts":["a"]}`},
	} {
		u, err := url.Parse("https://stranger.example" + c.path)
		require.NoError(t, err)
		e, ok := Recognise(http.MethodPost, u)
		require.True(t, ok, c.path)
		require.True(t, HasForm(e, []byte(c.body)), c.path)
		for _, other := range []string{``, `{}`, `[]`, `"a"`, `{"model":"m"`, `{"model":"m","text":""}`, `{"id":7,"name":"x"}`} {
			if e.Format == Ollama && other == `{"model":"m","text":""}` {
				continue // it loads the model
			}
			if e.Format != Invoke || other == "" || other == `{"model":"m"` {
				require.False(t, HasForm(e, []byte(other)), c.path+" "+other)
			}
		}
	}
}
