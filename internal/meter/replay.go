package meter

import (
	"net/http"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
)

// replayed reports whether a gateway says of a reply that it comes from the gateway's own cache. Pages: Response caching
// (OpenRouter docs), Caching (Cloudflare AI Gateway docs, Portkey docs, Helicone docs), Viewing cache keys from responses
// (LiteLLM docs): LiteLLM names the key of what it has found, and of nothing else.
func replayed(h http.Header) bool {
	for _, name := range [...]string{"X-Openrouter-Cache-Status", "Cf-Aig-Cache-Status", "X-Portkey-Cache-Status", "Helicone-Cache"} {
		if v := strings.TrimSpace(Header(h, name)); v != "" && strings.HasSuffix(strings.ToUpper(v), "HIT") { // also a semantic one
			return true
		}
	}
	return Header(h, "X-Litellm-Cache-Key") != ""
}

// replay takes back what a reply that was kept states of the call that it is of. Some gateways state zeros in the place of it.
func (to *Result) replay() {
	to.Replayed, to.Found = true, true
	to.Usage, to.Also, to.ReportedCost = book.Usage{}, nil, 0
	to.Partial, to.StatedChars, to.Implausible, to.Failed = false, 0, false, false
}
