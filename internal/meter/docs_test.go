package meter

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A field that is read is explained, by its last name at least.
func TestDocs_NameEveryCountThatIsRead(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/usage.md")
	require.NoError(t, err)
	var walk func(n *node, name string)
	read := 0
	walk = func(n *node, name string) {
		if n.field > fieldNone && n.field < numCounts || n.field == fieldCost || n.field == fieldTicks || n.field == fieldQuery {
			read++
			require.Contains(t, string(page), name, name)
		}
		for member, m := range n.members {
			walk(m, member)
		}
		if n.elements != nil {
			walk(n.elements, name)
		}
	}
	for _, s := range []*node{openAISchema, anthropicSchema, geminiSchema, ollamaSchema, cohereSchema, converseSchema, invokeSchema, nativeSchema,
		interactionsSchema, conversationsSchema, asyncChatSchema} {
		walk(s, "")
	}
	require.Greater(t, read, 100)
}

// What is known and not counted is said, so that nobody takes it for counted.
func TestDocs_NameEveryServiceThatIsNotCounted(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/transport.md")
	require.NoError(t, err)
	for _, s := range services {
		require.Contains(t, string(page), s.name)
	}
}
