package lane

import (
	"slices"
	"sync"

	"github.com/llmtenant/tenant/internal/book"
)

// chains is who stands above the tenants that have somebody above them, as far as it was seen. It decides which lane an
// operation goes through and who rests with whom, nothing else: what a call counts for is read in each batch.
type chains struct {
	mu    sync.RWMutex
	known map[string][]book.ID
}

// maxChains bounds the memory of a process that sees ever new tenants.
const maxChains = 100_000

func (c *chains) of(route string) []book.ID {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[route]
}

func (c *chains) set(route string, parents []book.ID) {
	if slices.Equal(c.of(route), parents) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(parents) == 0:
		delete(c.known, route)
		return
	case c.known == nil, len(c.known) >= maxChains:
		c.known = map[string][]book.ID{}
	}
	c.known[route] = parents
}
