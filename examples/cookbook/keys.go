package cookbook

import (
	"net/http"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/tenanthttp"
)

// keys sends each customer's own key. It stands below the metering transport, which never sees it.
type keys struct {
	next http.RoundTripper
	of   func(tenantID string) (key string, ok bool)
}

func (k *keys) RoundTrip(r *http.Request) (*http.Response, error) {
	if t, ok := tenant.TenantFromContext(r.Context()); ok {
		if key, ok := k.of(t.LLMTenantID()); ok {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+key)
		}
	}
	return k.next.RoundTrip(r)
}

func ownKeys(ledger *tenant.Ledger, of func(string) (string, bool)) (*http.Client, error) {
	transport, err := tenanthttp.NewTransport(ledger, &keys{http.DefaultTransport, of})
	return &http.Client{Transport: transport}, err
}

// pricesOf charges nothing for calls to OpenAI by customers who pay OpenAI themselves.
func pricesOf(book *pricing.Book, withKeys ...string) (*pricing.Book, error) {
	var terms []pricing.Option
	for _, id := range withKeys {
		terms = append(terms, pricing.TenantTerms(id, pricing.Terms{OwnKeys: []string{"openai"}}))
	}
	return book.With(terms...)
}
