// Package store says what the ledger needs of a database; its subpackages give it for each one that is supported.
package store

import (
	"context"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Store is a database that keeps the books.
type Store interface {
	// Session takes a connection for one lane. It connects at the first batch, and again after the connection was lost.
	Session() Session

	// Classify says what an error of this database means for whoever could try again.
	Classify(error) fault.Class
}

// Session runs batches one after the other. It is used by one goroutine.
type Session interface {
	// Batch runs one transaction. It locks the anchor of every tenant that is wanted and of all above it, reads the state
	// and the clock after that, fills in the balances that want.Missing names, hands the state to decide, and commits what
	// decide returns. When it returns nil, the effects are durable; when it returns an error, they may be: see [fault.Class].
	// Decide is called at most once. The state is there until the batch is over; of what is in it, only executions stay.
	//
	// What want.Rehearse returns is written after the effects, and undone before the commit: if that fails, so does the batch.
	Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error

	// Do runs some statements on the session's connection, outside a batch.
	Do(ctx context.Context, do func(context.Context, sqldb.Conn) error) error

	// Close gives the connection back.
	Close() error
}
