package harness

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llmtenant/tenant"
)

// Gemini is the format of the Gemini API and of Vertex AI. Cached tokens are inside the prompt, thoughts beside the
// candidates. Writing to the cache has no place in it.
type Gemini struct{}

// Streams implements [Wire].
func (Gemini) Streams(r *Request) bool { return strings.Contains(r.Path, ":streamGenerateContent") }

func geminiStates(u tenant.Usage) tenant.Usage {
	return tenant.Usage{Input: u.Input, CacheRead: u.CacheRead, Output: u.Output, Reasoning: u.Reasoning}
}

// generated is a reply, or a chunk of one. Its counts are sums up to here.
func generated(part, rest string, u tenant.Usage) string {
	return fmt.Sprintf(`{"candidates":[{"content":{"parts":[%s],"role":"model"},%s"index":0}],"usageMetadata":{"promptTokenCount":%d,`+
		`"cachedContentTokenCount":%d,"candidatesTokenCount":%d,"thoughtsTokenCount":%d,"totalTokenCount":%d,`+
		`"promptTokensDetails":[{"modality":"TEXT","tokenCount":%d}],"cacheTokensDetails":[{"modality":"TEXT","tokenCount":%d}]},`+
		`"modelVersion":%q,"responseId":"response-1"}`,
		part, rest, u.InputTokens(), u.CacheRead, u.Output, u.Reasoning, u.TotalTokens(), u.InputTokens(), u.CacheRead, Billed)
}

const geminiStop = `"finishReason":"STOP",`

func geminiReply(part string, u tenant.Usage) Reply {
	u = geminiStates(u)
	r := whole(generated(part, geminiStop, u))
	r.Model, r.Usage = Billed, u
	return r
}

// Reply implements [Wire].
func (Gemini) Reply(_ *Request, text string, u tenant.Usage) Reply {
	return geminiReply(fmt.Sprintf(`{"text":%q}`, text), u)
}

// ToolCall implements [Wire].
func (Gemini) ToolCall(_ *Request, u tenant.Usage) Reply {
	return geminiReply(fmt.Sprintf(`{"functionCall":{"name":%q,"args":%s}}`, ToolName, ToolArguments), u)
}

// Stream implements [Wire]. Each chunk has the counts so far.
func (Gemini) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	u = geminiStates(u)
	reply := stream()
	sofar := u
	for i, p := range pieces {
		sofar.Output = int64(i + 1)
		reply.Parts = append(reply.Parts, Part{
			Data: "data: " + generated(fmt.Sprintf(`{"text":%q}`, p), "", sofar) + "\r\n\r\n", Text: p, Stated: sofar,
		})
	}
	reply.Parts = append(reply.Parts, Part{Data: "data: " + generated(`{"text":""}`, geminiStop, u) + "\r\n\r\n", Stated: u})
	reply.Model, reply.Usage = Billed, u
	return reply
}

// Error implements [Wire].
func (Gemini) Error(status int) Reply {
	kind := "INTERNAL"
	if status == http.StatusTooManyRequests {
		kind = "RESOURCE_EXHAUSTED"
	}
	r := whole(fmt.Sprintf(`{"error":{"code":%d,"message":"Try again later.","status":%q}}`, status, kind))
	r.Status = status
	return r
}
