package lane

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

func TestRoutes_ThatShareATopGoThroughOneLane(t *testing.T) {
	t.Parallel()
	s := New(Config{Store: newMemory(1), Lanes: 8})
	top, department := book.NewID(), book.NewID()
	lanes := map[*lane]bool{}
	for i := range 20 {
		route := fmt.Sprint("team ", i)
		s.learn(route, []book.ID{department, top, book.Root})
		lanes[s.lane(route)] = true
	}
	require.Len(t, lanes, 1)

	lanes = map[*lane]bool{}
	for i := range 20 {
		route := fmt.Sprint("team ", i)
		s.learn(route, []book.ID{book.Root})
		lanes[s.lane(route)] = true
	}
	require.Greater(t, len(lanes), 1, "who stands below none but the root goes by itself")
	s.rooted.Store(true)
	for i := range 20 {
		require.Same(t, s.lanes[0], s.lane(fmt.Sprint("team ", i)), "all share the root")
	}
}

func TestChains_AreForgottenBeforeTheyAreTooMany(t *testing.T) {
	t.Parallel()
	var c chains
	parents := []book.ID{book.NewID()}
	for i := range maxChains + 1 {
		c.set(fmt.Sprint(i), parents)
	}
	require.Len(t, c.known, 1)
	require.Equal(t, parents, c.of(fmt.Sprint(maxChains)))
	c.set(fmt.Sprint(maxChains), nil)
	require.Empty(t, c.known)
}
