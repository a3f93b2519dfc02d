package pricing

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/meter"
)

// A call is booked under the provider that its host is known as. Were the book to call it otherwise, no model of it would
// have a price.
func TestProviders_OfCallsAreThoseOfTheBook(t *testing.T) {
	t.Parallel()
	own := make(map[string]bool)
	for _, name := range meter.Providers() {
		require.Equal(t, name, canonical(name), "the book has another name for it")
		_, listed := others[name]
		_, priced := providers[name]
		require.NotEqual(t, listed, priced, "%s: it is one of the book's, or one that lists are read for", name)
		require.Equal(t, priced, Default().providers[name], name)
		own[name] = true
	}
	for name := range providers {
		require.True(t, own[name], "%s: no host is known as it", name)
	}
	for name := range others {
		require.True(t, own[name], "%s: no host is known as it", name)
	}
}

func TestProviders_OfListsHaveTheNamesOfCalls(t *testing.T) {
	t.Parallel()
	for listed, name := range map[string]string{
		"together_ai": "together", "fireworks_ai": "fireworks", "voyage": "voyageai", "jina_ai": "jina", "nvidia_nim": "nvidia", "dashscope": "alibaba",
		"cerebras": "cerebras", "deepinfra": "deepinfra", "moonshot": "moonshot", "snowflake": "snowflake", "zai": "zai",
	} {
		list := `{"` + listed + `/some/model-x":{"litellm_provider":"` + listed + `","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":2e-06}}`
		book, err := Load(strings.NewReader(list))
		require.NoError(t, err)
		price, ok := book.Price(name, "some/model-x", time.Now())
		require.True(t, ok, listed)
		require.EqualValues(t, 1_000_000_000, price.Input, listed)
	}
	for listed, name := range map[string]string{"togetherai": "together", "fireworks-ai": "fireworks", "moonshotai": "moonshot", "github-models": "github", "snowflake-cortex": "snowflake"} {
		require.Equal(t, name, canonical(listed), "models.dev")
	}
}
