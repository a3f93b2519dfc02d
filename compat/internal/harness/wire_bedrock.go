package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"

	"github.com/llmtenant/tenant"
)

// BedrockConverse is Bedrock's own format. Cached tokens are beside the input; it names no model.
type BedrockConverse struct{}

// Streams implements [Wire].
func (BedrockConverse) Streams(r *Request) bool { return strings.HasSuffix(r.Path, "/converse-stream") }

func converseStates(u tenant.Usage) tenant.Usage {
	return tenant.Usage{Input: u.Input, CacheRead: u.CacheRead, CacheWrite5m: u.CacheWrite5m, CacheWrite1h: u.CacheWrite1h, Output: u.Output}
}

func converseUsage(u tenant.Usage) string {
	return fmt.Sprintf(`{"inputTokens":%d,"outputTokens":%d,"totalTokens":%d,"cacheReadInputTokens":%d,"cacheReadInputTokenCount":%d,`+
		`"cacheWriteInputTokens":%d,"cacheWriteInputTokenCount":%d,"cacheDetails":[{"ttl":"1h","inputTokens":%d},{"ttl":"5m","inputTokens":%d}]}`,
		u.Input, u.Output, u.TotalTokens(), u.CacheRead, u.CacheRead,
		u.CacheWrite5m+u.CacheWrite1h, u.CacheWrite5m+u.CacheWrite1h, u.CacheWrite1h, u.CacheWrite5m)
}

func converseReply(content, stop string, u tenant.Usage) Reply {
	u = converseStates(u)
	r := whole(fmt.Sprintf(`{"metrics":{"latencyMs":5},"output":{"message":{"content":[%s],"role":"assistant"}},"stopReason":%q,"usage":%s}`,
		content, stop, converseUsage(u)))
	r.Header.Set("X-Amzn-Requestid", "request-1")
	r.Usage = u
	return r
}

// Reply implements [Wire].
func (BedrockConverse) Reply(_ *Request, text string, u tenant.Usage) Reply {
	return converseReply(fmt.Sprintf(`{"text":%q}`, text), "end_turn", u)
}

// ToolCall implements [Wire].
func (BedrockConverse) ToolCall(_ *Request, u tenant.Usage) Reply {
	return converseReply(fmt.Sprintf(`{"toolUse":{"toolUseId":"tooluse_1","name":%q,"input":%s}}`, ToolName, ToolArguments), "tool_use", u)
}

// Stream implements [Wire].
func (BedrockConverse) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	u = converseStates(u)
	reply := messages(Part{Data: message("messageStart", `{"p":"abcdefghijkl","role":"assistant"}`)})
	for _, p := range pieces {
		reply.Parts = append(reply.Parts, Part{
			Data: message("contentBlockDelta", fmt.Sprintf(`{"contentBlockIndex":0,"delta":{"text":%q},"p":"abcdefghij"}`, p)), Text: p,
		})
	}
	reply.Parts = append(reply.Parts,
		Part{Data: message("contentBlockStop", `{"contentBlockIndex":0,"p":"abcdef"}`)},
		Part{Data: message("messageStop", `{"p":"abc","stopReason":"end_turn"}`)},
		Part{Data: message("metadata", `{"metrics":{"latencyMs":5},"p":"abcdefgh","usage":`+converseUsage(u)+`}`), Stated: u})
	reply.Usage = u
	return reply
}

// Broken is a stream that ends with an exception of the model's, after pieces of a text.
func (b BedrockConverse) Broken(r *Request, pieces []string) Reply {
	reply := b.Stream(r, pieces, tenant.Usage{})
	reply.Parts = append(reply.Parts[:1+len(pieces)], Part{
		Data: frame([][2]string{{":exception-type", "modelStreamErrorException"}, {":content-type", "application/json"}, {":message-type", "exception"}},
			`{"message":"The model has stopped.","originalStatusCode":500}`),
	})
	return reply
}

// Error implements [Wire].
func (BedrockConverse) Error(status int) Reply {
	kind := "InternalServerException"
	if status == http.StatusTooManyRequests {
		kind = "ThrottlingException"
	}
	r := whole(`{"message":"Try again later."}`)
	r.Status = status
	r.Header.Set("X-Amzn-Requestid", "request-1")
	r.Header.Set("Retry-After-Ms", "1") // to the SDK of Anthropic
	r.Header.Set("X-Amzn-Errortype", kind+":http://internal.amazon.com/coral/com.amazon.bedrock/")
	return r
}

// BedrockInvoke is what Bedrock makes of a model's own format, of which Anthropic's is the one here: each event of a
// stream is in base64 in a message of an event stream, and the last has counts of Bedrock's.
type BedrockInvoke struct{ BedrockConverse }

// Streams implements [Wire].
func (BedrockInvoke) Streams(r *Request) bool {
	return strings.HasSuffix(r.Path, "/invoke-with-response-stream")
}

func invoked(r Reply, u tenant.Usage) Reply {
	r.Header.Set("X-Amzn-Requestid", "request-1")
	r.Header.Set("X-Amzn-Bedrock-Input-Token-Count", fmt.Sprint(u.Input))
	r.Header.Set("X-Amzn-Bedrock-Output-Token-Count", fmt.Sprint(u.OutputTokens()))
	r.Header.Set("X-Amzn-Bedrock-Cache-Read-Input-Token-Count", fmt.Sprint(u.CacheRead))
	r.Header.Set("X-Amzn-Bedrock-Cache-Write-Input-Token-Count", fmt.Sprint(u.CacheWrite5m+u.CacheWrite1h))
	return r
}

// Reply implements [Wire].
func (BedrockInvoke) Reply(r *Request, text string, u tenant.Usage) Reply {
	return invoked(Anthropic{}.Reply(r, text, u), u)
}

// ToolCall implements [Wire].
func (BedrockInvoke) ToolCall(r *Request, u tenant.Usage) Reply {
	return invoked(Anthropic{}.ToolCall(r, u), u)
}

// Stream implements [Wire].
func (BedrockInvoke) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	reply := messages()
	reply.Header.Set("X-Amzn-Bedrock-Content-Type", "application/json")
	for _, e := range (Anthropic{}).events(pieces, u) {
		switch e.name {
		case "ping":
			continue // is not passed on
		case "message_stop":
			e.rest = fmt.Sprintf(`"amazon-bedrock-invocationMetrics":{"inputTokenCount":%d,"outputTokenCount":%d,"invocationLatency":9,`+
				`"firstByteLatency":3,"cacheReadInputTokenCount":%d,"cacheWriteInputTokenCount":%d}`,
				u.Input, u.OutputTokens(), u.CacheRead, u.CacheWrite5m+u.CacheWrite1h)
		}
		bytes := base64.StdEncoding.EncodeToString([]byte(e.data()))
		reply.Parts = append(reply.Parts, Part{
			Data: message("chunk", fmt.Sprintf(`{"bytes":%q,"p":"abcdefghijklmn"}`, bytes)), Text: e.text, Stated: e.stated,
		})
	}
	reply.Model, reply.Usage = Billed, u
	return reply
}

// messages is a reply that begins with parts, as an event stream of AWS.
func messages(parts ...Part) Reply {
	return Reply{
		Header: http.Header{"Content-Type": {"application/vnd.amazon.eventstream"}, "X-Amzn-Requestid": {"request-1"}}, Parts: parts,
	}
}

// message is one event of an event stream of AWS.
func message(event, payload string) string {
	return frame([][2]string{{":event-type", event}, {":content-type", "application/json"}, {":message-type", "event"}}, payload)
}

// frame is one message of an event stream of AWS: its length and that of its headers, a checksum of these, the headers,
// the payload, and a checksum of all.
func frame(named [][2]string, payload string) string {
	var headers bytes.Buffer
	for _, h := range named {
		const ofString = 7
		headers.WriteByte(byte(len(h[0])))
		headers.WriteString(h[0])
		headers.WriteByte(ofString)
		headers.Write(binary.BigEndian.AppendUint16(nil, uint16(len(h[1]))))
		headers.WriteString(h[1])
	}
	const preludeAndSums = 16
	m := binary.BigEndian.AppendUint32(nil, uint32(preludeAndSums+headers.Len()+len(payload)))
	m = binary.BigEndian.AppendUint32(m, uint32(headers.Len()))
	m = binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m))
	m = append(append(m, headers.Bytes()...), payload...)
	return string(binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m)))
}
