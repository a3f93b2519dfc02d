package lane

import (
	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
)

// newID returns a UUIDv7, which sorts by the time of its making. Only a machine without randomness fails to make one;
// google/uuid then panics as crypto/rand itself does.
func newID() book.ID { return uuid.Must(uuid.NewV7()) }
