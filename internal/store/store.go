// Package store says what the ledger needs of a database; its subpackages give it for each one that is supported.
package store

import (
	"context"
	"errors"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Store is a database that keeps the books.
type Store interface {
	// Session takes a connection for one lane. It connects at the first batch, and again after the connection was lost.
	Session() Session

	// Classify says what an error of this database means for whoever could try again.
	Classify(error) Class
}

// Session runs batches one after the other. It is used by one goroutine.
type Session interface {
	// Batch runs one transaction. It locks the anchor of every tenant that is wanted and of all above it, reads the state
	// and the clock after that, fills in the balances that want.Missing names, hands the state to decide, and commits what
	// decide returns. When it returns nil, the effects are durable; when it returns an error, they may be: see Class.
	// Decide is called at most once.
	//
	// What want.Rehearse returns is written after the effects, and undone before the commit: if that fails, so does the batch.
	Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error

	// Do runs some statements on the session's connection, outside a batch.
	Do(ctx context.Context, do func(context.Context, sqldb.Conn) error) error

	// Close gives the connection back.
	Close() error
}

// Class is what an error means.
type Class uint8

// The classes of errors.
const (
	Fatal       Class = iota // trying the same again fails again
	Conflict                 // the transaction lost against another one; it can be tried again at once
	Locked                   // a lock was not to be had in time: somebody sits on one of the rows
	Unavailable              // the database cannot be reached or does not write now, or the connection broke: what was sent may have been done
	NotMigrated              // the tables are not there
)

// ErrConnect marks an error that came while connecting. Whatever it says, it is of the database, not of what was to be sent.
var ErrConnect = errors.New("connect to the database")
