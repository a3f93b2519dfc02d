package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/llmtenant/tenant/internal/fault"
)

// Primary result codes of SQLite.
const (
	codeBusy      = 5
	codeLocked    = 6
	codeNoMemory  = 7
	codeInterrupt = 9
	codeIO        = 10
	codeFull      = 13
	codeCantOpen  = 14
	codeProtocol  = 15
	codeSchema    = 17
)

var (
	// errMoved says that a write did not find the row that it expects.
	errMoved = errors.New("an execution has changed since it was read")

	// errOverflow says that a sum does not fit into 64 bits.
	errOverflow = errors.New("a sum of the roll-up does not fit into 64 bits")
)

// busyError says in words what a busy database means to its host.
type busyError struct{ cause error }

func (e *busyError) Error() string {
	return "the SQLite database is busy: another transaction is writing " +
		"(a call made inside the host's own write transaction must be made after its commit): " + e.cause.Error()
}

func (e *busyError) Unwrap() error { return e.cause }

func explain(err error) error {
	if isBusy(err) {
		return &busyError{err}
	}
	return err
}

// Classify implements store.Store.
func (s *Store) Classify(err error) fault.Class {
	switch {
	case errors.Is(err, fault.ErrConnect) && !isBusy(err):
		return fault.Unavailable
	case errors.Is(err, errMoved):
		return fault.Conflict
	case errors.Is(err, errOverflow):
		return fault.Fatal
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Unavailable
	case isBusy(err):
		return fault.Locked
	case says(err, "no such table", "no such column", "has no column named"):
		return fault.NotMigrated
	}
	switch code, _ := code(err); code {
	case codeNoMemory, codeInterrupt, codeIO, codeFull, codeCantOpen, codeProtocol:
		return fault.Unavailable
	case codeSchema:
		return fault.Conflict
	}
	if says(err, "disk I/O error", "unable to open database", "database or disk is full", "interrupted") {
		return fault.Unavailable
	}
	return fault.Fatal
}

func isBusy(err error) bool {
	if code, ok := code(err); ok {
		return code == codeBusy || code == codeLocked
	}
	return says(err, "database is locked", "database table is locked", "SQLITE_BUSY", "SQLITE_LOCKED")
}

// code returns the primary result code, of the drivers whose errors have a method for it.
func code(err error) (int, bool) {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return 0, false
	}
	return coded.Code() & 0xff, true // the rest of an extended code says more about the same
}

func says(err error, texts ...string) bool {
	if err == nil {
		return false
	}
	message := err.Error()
	for _, text := range texts {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}
