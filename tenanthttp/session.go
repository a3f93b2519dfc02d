package tenanthttp

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
	"github.com/llmtenant/tenant/units"
)

// SessionUsage is what an event of a session says was used; see [ReadSession].
type SessionUsage struct {
	// Actual is what to settle or record. Its Model and Provider are empty: the session has them.
	tenant.Actual

	// Transcription reports that it was used by the model that writes down what the session hears, which the session is set
	// up with and which has a price of its own. Otherwise a response has ended.
	Transcription bool
}

// ReadSession reads what an event of a session over WebSocket or WebRTC says was used: response.done and
// conversation.item.input_audio_transcription.completed (and .failed) of OpenAI's Realtime API, which others serve too, and
// usageMetadata of Gemini's Live API. It returns false for an event that says nothing of it.
//
// No transport sees such sessions, so that the host hands their events over: it holds room for a response with
// [tenant.Ledger.Reserve], settles that with what the event says, and reserves again for the next one. A response that
// states no usage is charged nothing if it has failed, and otherwise what it holds.
func ReadSession(event []byte) (SessionUsage, bool) {
	if !bytes.Contains(event, []byte("usage")) && !bytes.Contains(event, []byte("response.done")) && !bytes.Contains(event, []byte("failed")) {
		return SessionUsage{}, false
	}
	var head struct {
		Type     string          `json:"type"`
		ItemID   string          `json:"item_id"`
		Usage    json.RawMessage `json:"usageMetadata"`
		Response struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		} `json:"response"`
	}
	if json.Unmarshal(event, &head) != nil {
		return SessionUsage{}, false
	}
	var s SessionUsage
	e := meter.Endpoint{Kind: meter.Chat, Format: meter.Responses}
	switch head.Type {
	case "response.done":
		s.RequestID = head.Response.ID
	case "conversation.item.input_audio_transcription.completed", "conversation.item.input_audio_transcription.failed":
		s.RequestID, s.Transcription = head.ItemID, true
		e.Kind, e.Format = meter.Transcription, meter.OpenAI
	case "":
		if head.Usage == nil {
			return s, false
		}
		e.Format = meter.Gemini
	default:
		return s, false
	}
	reader := meter.NewReader(e, http.StatusOK, http.Header{"Content-Type": {"application/json"}})
	_, _ = reader.Write(event)
	r := reader.Result()
	s.Usage = tenant.Usage(r.Usage)
	if s.Transcription && s.Usage.Units.IsZero() && r.AudioDuration > 0 {
		s.Usage.Units = units.Of(units.InputAudio, r.AudioDuration.Milliseconds())
	}
	failed := head.Response.Status == "failed" || head.Type == "conversation.item.input_audio_transcription.failed"
	if failed {
		s.ErrorCode = "error"
	}
	if s.Usage == (tenant.Usage{}) {
		switch {
		case failed || r.Found:
			s.Cost = tenant.USDFrom(decimal.Zero)
		case s.Transcription:
			return s, false
		default:
			s.AsHeld = true
		}
	}
	return s, true
}
