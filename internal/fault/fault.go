// Package fault is what can go wrong: the errors that a program tells apart, and which of them an error of a database amounts to.
package fault

import (
	"errors"
	"fmt"
)

// The errors that a program tells apart, which package tenant shows and describes.
var (
	ErrInvalidTenant    = errors.New("tenant: invalid tenant")
	ErrUnknownTenant    = errors.New("tenant: unknown tenant")
	ErrReadDB           = errors.New("tenant: the replica of WithReadDB")
	ErrRowsOpen         = errors.New("tenant: rows are still open on this transaction; close them, or read them all, before anything else is asked on it")
	ErrTenantRequired   = errors.New("tenant: the call has no tenant, and its agent or transport requires one: ContextWithTenant puts it into the context")
	ErrTenantSuspended  = errors.New("tenant: the tenant is suspended")
	ErrIdentityConflict = errors.New("tenant: the tenant id belongs to another record")
	ErrHierarchy        = errors.New("tenant: the tenant cannot stand there")
	ErrNoBudget         = errors.New("tenant: no budget")
	ErrBudgetExceeded   = errors.New("tenant: budget exceeded")
	ErrNoPrice          = errors.New("tenant: no price is known")
	ErrDuplicate        = errors.New("tenant: the idempotency key was used before")
	ErrNotMigrated      = errors.New("tenant: the ledger's tables are missing or incomplete; call ledger.Migrate(ctx) first")
	ErrNotOpen          = errors.New("tenant: no ledger is open on this *gorm.DB; use the one given to tenant.Open, or a session of it")
	ErrClosed           = errors.New("tenant: the ledger is closed")
	ErrUnavailable      = errors.New("tenant: the books are not available")
	ErrReleased         = errors.New("tenant: the hold was released, so its usage is not booked; Record books a call without a hold")
	ErrNotDeferred      = errors.New("tenant: the call is not deferred")
	ErrPruned           = errors.New("tenant: what was asked for needs calls that were pruned")
	ErrInvalidOption    = errors.New("tenant: invalid option")
	ErrNotBilled        = errors.New("the provider charges nothing for it")
)

// Class is what an error of a database means for whoever could try again.
type Class uint8

// The classes of errors.
const (
	Fatal       Class = iota // trying the same again fails again
	Conflict                 // the transaction lost against another one; it can be tried again at once
	Locked                   // a lock was not to be had in time: somebody sits on one of the rows
	Unavailable              // the database cannot be reached or does not write now, or the connection broke: what was sent may have been done
	NotMigrated              // the tables are not there
)

// Passes reports whether others were in the way, who may be gone soon.
func (c Class) Passes() bool { return c == Conflict || c == Locked }

// Reader says of which class an error of one kind of database is.
type Reader func(error) Class

// Unreachable reports whether an error says that the database cannot be reached, or does not write now.
func (r Reader) Unreachable(err error) bool { return r(err) == Unavailable }

// Of is what an error amounts to; see [Of].
func (r Reader) Of(err error) error {
	if err == nil {
		return nil
	}
	return Of(r(err), err)
}

// ErrConnect marks an error that came while connecting. Whatever it says, it is of the database, not of what was to be sent.
var ErrConnect = errors.New("connect to the database")

// HostError is an error of a statement on a table of the host's: that one is missing says nothing of the ledger's.
type HostError struct{ Err error }

func (e *HostError) Error() string { return e.Err.Error() }
func (e *HostError) Unwrap() error { return e.Err }

// UnreachableError is an [ErrUnavailable] for which nobody but the database is to blame, no lock of a host and no limit.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%v: the database cannot be reached: %v", ErrUnavailable, e.Err)
}

func (e *UnreachableError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// RefusedError is an [ErrUnavailable]: the database does not write an operation, and would not the next time.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v: the database refuses it: %v", ErrUnavailable, e.Err)
}

func (e *RefusedError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// NotAvailable is the [ErrUnavailable] that err amounts to where the database is away, and where it is not.
func NotAvailable(err error, away bool) error {
	if away {
		return &UnreachableError{err}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Of is the error that one of a class amounts to, with what the database said. It is the error itself where the class has none.
func Of(class Class, err error) error {
	var (
		hosts *HostError
		away  *UnreachableError
	)
	switch {
	case class == NotMigrated && !errors.As(err, &hosts):
		return fmt.Errorf("%w (%w)", ErrNotMigrated, err)
	case class == Unavailable && !errors.As(err, &away):
		return &UnreachableError{err}
	case class == Locked && !errors.Is(err, ErrUnavailable):
		return fmt.Errorf("%w: another transaction has locked what is needed, perhaps because it is creating or changing the same tenant; "+
			"a call made inside the transaction that creates its tenant has to wait for the commit: %w", ErrUnavailable, err)
	}
	return err
}
