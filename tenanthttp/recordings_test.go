package tenanthttp

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/meter"
)

// The recordings are no part of this repository.
const recordings = "../../shared/recordings"

// elided are requests of which the recording has not what was sent, but less.
var elided = map[string]string{
	"openllmetry/01860-bedrock-bedrock_invoke-json.json": "its Content-Length is 67,988; the prompt was cut out when it was recorded",
}

// What is held for the input of a real call covers what the provider says that it was.
func TestRecordings_TheInputIsWithinTheHold(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile(filepath.Join(recordings, "index.json"))
	if os.IsNotExist(err) {
		t.Skip("the recordings are not there: " + recordings)
	}
	require.NoError(t, err)
	var all []struct {
		File     string
		Status   int
		Expected struct {
			Input json.Number `json:"input_tokens"`
		}
	}
	require.NoError(t, json.Unmarshal(index, &all))
	transport, err := newTransport(&ledger{}, nil)
	require.NoError(t, err)
	bounded := 0
	for _, r := range all {
		used, _ := r.Expected.Input.Float64()
		if used == 0 || r.Status >= http.StatusBadRequest {
			continue
		}
		data, err := os.ReadFile(filepath.Join(recordings, r.File))
		require.NoError(t, err)
		var file struct {
			Request struct {
				Method, Host, Path, Query string
				Headers                   map[string][]string
				Body                      json.RawMessage
				Text                      string `json:"body_text"`
				Base64                    string `json:"body_b64"`
			}
		}
		require.NoError(t, json.Unmarshal(data, &file))
		q := file.Request
		body := []byte(q.Body)
		switch {
		case q.Text != "":
			body = []byte(q.Text)
		case q.Base64 != "":
			body, err = base64.StdEncoding.DecodeString(q.Base64)
			require.NoError(t, err)
		}
		u := &url.URL{Scheme: "https", Host: q.Host, RawPath: q.Path, RawQuery: q.Query}
		u.Path, _ = url.PathUnescape(q.Path)
		request := &http.Request{Method: q.Method, URL: u, Header: q.Headers}
		e, ok := meter.Recognise(q.Method, u)
		if !ok || e.Retrieval || len(body) == 0 {
			continue
		}
		held := transport.plan(request, e, body).estimate.InputTokens
		if why, ok := elided[r.File]; ok {
			sent, err := strconv.ParseInt(request.Header.Get("Content-Length"), 10, 64)
			require.NoError(t, err)
			require.Less(t, int64(len(body)), sent, why)
			held += sent - int64(len(body))
		}
		bounded++
		require.LessOrEqual(t, int64(used), held, r.File)
	}
	require.Greater(t, bounded, 150)
}
