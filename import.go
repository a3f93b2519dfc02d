package tenant

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/text"
)

// ImportedCall is a call that was made elsewhere, for [Ledger.Import].
type ImportedCall struct {
	// ID is what the source calls it, at most 190 bytes. A tenant's call of a source is booked once for its ID, however often it
	// is imported.
	ID string

	Tenant Tenant    // whom it was made for; nil: nobody
	At     time.Time // when it was made, from 1970 on and not to come

	Agent string            // see [WithAgent]
	Actor string            // see [ContextWithActor]; that of the Import's ctx where it is empty
	Tags  map[string]string // see [WithTag]

	// AskedModel is the model that was asked for, where that is not the one of Actual.
	AskedModel string

	// Actual is what it used. It costs what Actual says, otherwise what the price book says for the time at which it was over.
	Actual Actual
}

// ImportOption is an option of [Ledger.Import].
type ImportOption func(*importing) error

// WithImportProgress has Import tell a function what is done so far, after every thousand calls. Defaults to none.
func WithImportProgress(told func(ImportReport)) ImportOption {
	return func(i *importing) error {
		if told == nil {
			return fmt.Errorf("WithImportProgress: the function is nil")
		}
		i.told = told
		return nil
	}
}

// WithImportDryRun has Import check the calls and report what it would book, and write nothing. An ID that is there twice among the
// calls counts twice. Defaults to off.
func WithImportDryRun() ImportOption {
	return func(i *importing) error {
		i.dry = true
		return nil
	}
}

// ImportReport is what an [Ledger.Import] has done.
type ImportReport struct {
	Booked     int64 // calls that are on the books now, and were not before
	Duplicates int64 // calls that were there already
	Unpriced   int64 // those of Booked for which no price is known
}

// ImportError says which call could not be imported.
type ImportError struct {
	Source string
	ID     string // of the call; empty where it has none
	Number int64  // its place among the calls, from 1
	Err    error
}

// Error implements error.
func (e *ImportError) Error() string {
	return fmt.Sprintf("tenant: Import: call %d of %s, %q: %v", e.Number, e.Source, e.ID, e.Err)
}

// Unwrap returns what was wrong with the call.
func (e *ImportError) Unwrap() error { return e.Err }

// Import books calls that were made elsewhere and earlier: those of another gateway, or from before the ledger was there. Nothing
// can refuse them. Each counts where it would count if the ledger had booked it at its time: in its hour and day in every
// question, in the total of its tenant, and in those of the windows that are open now in which it was made, so that a call of
// today takes room today, and one of last month none. It counts for those who stand above its tenant now. A tenant that is not
// there is made, as by its first call.
//
// Source names where the calls come from, in at most 60 bytes without a colon. With the ID of a call it makes it happen once: an
// Import that ended, for whatever reason, is run again from its beginning, and books the rest. Calls may be in any order, and
// are booked beside other calls and on the same path. Import keeps some ten thousand in memory.
//
//	report, err := ledger.Import(ctx, "old-gateway", calls)
//
// Where the sequence yields an error, or a call cannot be booked, Import ends with an [*ImportError]: the calls before it are
// booked. It books what it has begun although ctx ends. The observer hears of thresholds, and not of single calls.
//
// Errors: those of [Ledger.Record] but [*DuplicateError], in an [*ImportError]; [ErrInvalidOption] for a source that is none, for a
// call without an ID or at a time that cannot be, and for an option that is invalid; [ErrPruned] for one from the time whose
// calls of its tenant were pruned, because nobody knows whether it was there; [ErrUnavailable], [ErrNotMigrated], [ErrClosed],
// and ctx's own.
func (l *Ledger) Import(ctx context.Context, source string, calls iter.Seq2[ImportedCall, error], options ...ImportOption) (ImportReport, error) {
	i := &importing{
		Ledger: l, ctx: ctx, source: source, told: func(ImportReport) {}, actor: callctx.Actor(ctx), latest: l.options.clock().Add(clockMargin),
		met: map[askedFor]identity{}, pruned: map[string]time.Time{},
	}
	err := i.open(calls, options)
	if err != nil {
		return i.report, fmt.Errorf("%w: Import: %w", ErrInvalidOption, err)
	}
	if err := l.enter(); err != nil {
		return i.report, err
	}
	defer l.leave(nil)
	if !i.dry {
		if err := l.start(ctx, &decide.Op{Kind: decide.Record}); err != nil {
			return i.report, err
		}
	}
	if i.prunes, err = i.anyPruned(ctx); err != nil {
		return i.report, err
	}
	err = i.run(calls)
	i.told(i.report)
	return i.report, err
}

// importing is one run of Import.
type importing struct {
	*Ledger
	ctx    context.Context //nolint:containedctx // it is the one call's
	source string
	actor  string
	told   func(ImportReport)
	latest time.Time
	dry    bool
	report ImportReport

	prunes bool                  // something was pruned
	pruned map[string]time.Time  // up to when, by tenant id
	met    map[askedFor]identity // tenants that were looked up or made
	number int64
	read   []underway // which are not in the lanes yet
	under  []underway
}

// askedFor is a tenant as a call names it.
type askedFor struct{ key, ownerType, ownerID string }

// underway is a call on its way.
type underway struct {
	number int64
	id     string
	asked  askedFor
	who    identity
	op     decide.Op
	tries  int
	moves  int
	task   *lane.Task
}

const (
	// importRead is how many calls are read before they are sent to the lanes.
	importRead = 16_384

	// importAtOnce is how many calls are in the lanes at a time.
	importAtOnce = 2048

	// importPatience is how long one is waited for.
	importPatience = time.Minute

	importProgress = 1000
)

// open checks what Import is given.
func (i *importing) open(calls iter.Seq2[ImportedCall, error], options []ImportOption) error {
	for _, option := range options {
		if option == nil {
			return fmt.Errorf("a nil ImportOption")
		}
		if err := option(i); err != nil {
			return err
		}
	}
	const longest = 60
	switch {
	case calls == nil:
		return fmt.Errorf("the calls are nil")
	case len(i.source) > longest:
		return fmt.Errorf("the source %.32q… has %d bytes, and %d are allowed", i.source, len(i.source), longest)
	case strings.Contains(i.source, ":"):
		return fmt.Errorf("the source %q has a colon", i.source)
	}
	return cmp.Or(text.Valid(ErrInvalidOption, "source", i.source, true), text.Valid(ErrInvalidOption, "actor in ContextWithActor", i.actor, false))
}

func (i *importing) run(calls iter.Seq2[ImportedCall, error]) (err error) {
	for call, failed := range calls {
		i.number++
		u := underway{number: i.number, id: call.ID}
		switch {
		case failed != nil:
			err = i.failed(&u, failed)
		case i.ctx.Err() != nil:
			err = i.ctx.Err()
		default:
			if err = i.describe(&u, &call); err != nil {
				err = i.failed(&u, err)
			}
		}
		if err != nil {
			break
		}
		i.read = append(i.read, u)
		if len(i.read) == importRead {
			if err = i.submit(); err != nil {
				break
			}
		}
	}
	return cmp.Or(i.submit(), i.settle(0), err) // also after an error: what was read before it is booked
}

// submit sends what was read to the lanes, those of a tenant one after the other, and in the order of their time: each batch
// then changes few balances and hours.
func (i *importing) submit() (err error) {
	if i.dry {
		return i.tried()
	}
	slices.SortFunc(i.read, func(a, b underway) int {
		return cmp.Or(cmp.Compare(a.who.Key, b.who.Key), a.op.Exec.AdmittedAt.Compare(b.op.Exec.AdmittedAt), cmp.Compare(a.number, b.number))
	})
	for _, u := range i.read {
		if err = i.ctx.Err(); err != nil {
			break
		}
		u.task = i.lanes.Submit(u.op, u.who.Key)
		i.under = append(i.under, u)
		if len(i.under) >= importAtOnce {
			if err = i.settle(importAtOnce / 2); err != nil {
				break
			}
		}
	}
	clear(i.read)
	i.read = i.read[:0]
	return err
}

// tried counts what would become of what was read.
func (i *importing) tried() error {
	slices.SortStableFunc(i.read, func(a, b underway) int { return cmp.Compare(a.who.Key, b.who.Key) })
	for rest := i.read; len(rest) > 0; {
		n := 1
		for n < len(rest) && n < triedAtOnce && rest[n].who.Key == rest[0].who.Key {
			n++
		}
		part := rest[:n]
		rest = rest[n:]
		keys := make([]string, n)
		for j, u := range part {
			keys[j] = u.op.Exec.IdempotencyKey
		}
		taken, err := i.taken(part[0].who, keys)
		if err != nil {
			return i.failed(&part[0], err)
		}
		for j, u := range part {
			switch {
			case taken[keys[j]]:
				i.report.Duplicates++
				continue
			case u.op.Exec.Unpriced:
				i.report.Unpriced++
			}
			i.report.Booked++
		}
		i.told(i.report)
	}
	i.read = i.read[:0]
	return i.ctx.Err()
}

// triedAtOnce is how many keys are looked up at a time.
const triedAtOnce = 500

// taken returns which keys of a tenant are taken.
func (i *importing) taken(who identity, keys []string) (map[string]bool, error) {
	id := book.NoTenant
	if !who.none() {
		var err error
		if id, err = i.directory().ByKey(i.ctx, i.pool, who.Key); err != nil {
			return nil, i.failure(i.ctx, err)
		}
		if id == book.NoTenant {
			if i.options.knownOnly {
				return nil, i.unknownTenant(i.ctx, i.pool, who.Key)
			}
			return nil, nil
		}
	}
	taken, _, err := inItsPlace(i.ctx, i.Ledger, id, func(b books.Books) (map[string]bool, error) { return b.KeysTaken(i.ctx, id, keys) })
	return taken, err
}

// settle waits for the first calls that are underway, until so many are left. What comes after one that cannot be booked is
// waited for too, so that the report says what was booked.
func (i *importing) settle(left int) (err error) {
	for len(i.under) > left {
		u := i.under[0]
		i.under = i.under[1:]
		again, failed := i.end(&u)
		switch {
		case failed != nil:
			err = cmp.Or(err, i.failed(&u, failed))
			left = 0
		case again:
			i.under = append(i.under, u)
		default:
			if n := i.report.Booked + i.report.Duplicates; n%importProgress == 0 {
				i.told(i.report)
			}
		}
	}
	return err
}

// end waits for a call, and reports whether it was sent anew, because its tenant had to be made first.
func (i *importing) end(u *underway) (again bool, err error) {
	ctx := context.WithoutCancel(i.ctx)
	if err := i.await(ctx, u.task, &u.op, importPatience); err != nil {
		return false, err
	}
	out, err := u.task.Outcome()
	switch {
	case err != nil:
		return false, i.explain(err)
	case (out.Code == decide.Unknown || out.Code == decide.WrongOwner) && !u.who.none() && u.tries < maxFirstUses:
		moved, err := i.moved(ctx, &u.op, u.who, u.task)
		if err != nil {
			return false, err
		}
		who, known := i.met[u.asked]
		if moved && u.moves < maxMoves {
			who = u.who
			u.moves++
			u.tries--
		} else if !known || u.tries > 0 {
			if who, err = i.firstUse(ctx, u.who); err != nil {
				return false, err
			}
			i.met[u.asked] = who
		}
		u.tries++
		u.who, u.op.Key, u.op.OwnerType, u.op.OwnerID = who, who.Key, who.OwnerType, who.OwnerID
		u.task = i.lanes.Submit(u.op, who.Key)
		return true, nil
	case out.Code == decide.Duplicate, out.Code == decide.AlreadySettled:
		i.report.Duplicates++
		return false, nil
	case out.Code == decide.Settled:
		i.crossed(ctx, &out)
		i.report.Booked++
		if out.Exec.Unpriced {
			i.report.Unpriced++
		}
		return false, nil
	}
	return false, i.refusal(&u.op, &out)
}

func (i *importing) failed(u *underway, err error) error {
	return &ImportError{Source: i.source, ID: u.id, Number: u.number, Err: err}
}

// describe makes the operation of a call.
func (i *importing) describe(u *underway, c *ImportedCall) error {
	const longest = 190
	at := books.Admission(c.At)
	switch {
	case c.ID == "":
		return fmt.Errorf("%w: the ID is empty", ErrInvalidOption)
	case len(c.ID) > longest:
		return fmt.Errorf("%w: the ID has %d bytes, and %d are allowed", ErrInvalidOption, len(c.ID), longest)
	case c.At.IsZero(), c.At.Before(time.Unix(0, 0)):
		return fmt.Errorf("%w: At is %s, and not from 1970 on", ErrInvalidOption, c.At.Format(time.RFC3339))
	case c.At.After(i.latest):
		return fmt.Errorf("%w: At is %s, and to come", ErrInvalidOption, c.At.Format(time.RFC3339))
	}
	who, err := i.identify(c.Tenant)
	if err != nil {
		return err
	}
	u.asked = askedFor{who.Key, who.OwnerType, who.OwnerID}
	if found, ok := i.met[u.asked]; ok {
		who = found
	}
	if err := i.unpruned(who, at); err != nil {
		return err
	}
	o := callOptions{agent: c.Agent, tags: c.Tags, idempotency: "import:" + i.source + ":" + c.ID}
	for _, f := range []struct{ what, value string }{
		{"Agent", c.Agent}, {"Actor", c.Actor}, {"AskedModel", c.AskedModel}, {"ID", c.ID},
	} {
		if err := text.Valid(ErrInvalidOption, f.what, f.value, false); err != nil {
			return err
		}
	}
	for name, value := range c.Tags {
		if err := cmp.Or(text.Valid(ErrInvalidOption, "name in Tags", name, true), text.Valid(ErrInvalidOption, "value in Tags", value, false)); err != nil {
			return err
		}
	}
	if len(c.Tags) > maxTags {
		return fmt.Errorf("%w: Tags: more than %d tags", ErrInvalidOption, maxTags)
	}
	op := &u.op
	op.Kind = decide.Record
	op.Exec.Provider, op.Exec.Model = c.Actual.Provider, cmp.Or(c.AskedModel, c.Actual.Model)
	if err := i.Ledger.describe(i.ctx, op, who, &o); err != nil {
		return err
	}
	e := &op.Exec
	e.ID, e.Actor, e.AdmittedAt = idFrom(at), cmp.Or(c.Actor, i.actor), at
	e.FinishedAt = books.Admission(at.Add(max(c.Actual.Duration, 0)))
	e.SettledAt = e.FinishedAt
	if err := i.conclude(e, c.Actual, false); err != nil {
		return err
	}
	if e.ErrorCode == implausible {
		return fmt.Errorf("%w: %+v cannot be the usage of one call", ErrInvalidOption, c.Actual.Usage)
	}
	u.who = who
	return nil
}

// idFrom is a new id that tells a time in the place of the present.
func idFrom(at time.Time) book.ID {
	id := book.NewID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())) //nolint:gosec // it is after 1970
	copy(id[:6], ms[2:])
	return id
}

// unpruned returns an error for a call from the time whose calls of its tenant were pruned.
func (i *importing) unpruned(who identity, at time.Time) error {
	if !i.prunes {
		return nil
	}
	to, known := i.pruned[who.Key]
	if !known {
		q := i.questionAbout(who, i.pool, i.db.WithContext(i.ctx))
		s, err := q.state(i.ctx)
		if err != nil && !errors.Is(err, ErrIdentityConflict) {
			return err
		}
		id := book.NoTenant
		if !who.none() && err == nil && s.Tenant != nil {
			id = s.Tenant.ID
		}
		if who.none() || id != book.NoTenant {
			if to, _, err = inItsPlace(i.ctx, i.Ledger, id, func(b books.Books) (time.Time, error) { return b.PrunedTo(i.ctx, id) }); err != nil {
				return err
			}
		}
		i.pruned[who.Key] = to
	}
	if at.Before(to) {
		return fmt.Errorf("%w: it was made at %s, and those up to %s were pruned", ErrPruned, at.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return nil
}

func (i *importing) anyPruned(ctx context.Context) (bool, error) {
	any, err := ofOneMoment(ctx, i.db.Session(&gorm.Session{NewDB: true, Context: ctx}), func(db *gorm.DB) (any bool, err error) {
		for _, p := range i.places {
			if any || err != nil {
				break
			}
			any, err = p.on(db.Statement.ConnPool).AnyPruned(ctx)
		}
		return any, err
	})
	if err != nil {
		return false, i.failure(ctx, err)
	}
	return any, nil
}
