package postgres

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// memory is what a session's batches have last read and written of tenants, so that the next one need not be told again. A batch asks
// for all the same, under its locks, and is told nothing of a row that is still the version that the session has seen.
type memory map[book.ID]*seen

// maxSeen bounds the memory. Beyond, it begins anew with the next batch. Of fewTenants, with the root and the defaults, all is read: to
// say what is known costs more than to be told.
const maxSeen, fewTenants = 2048, few + 2

// seen is what is known of a tenant: its row in llm_tenants, and its anchor, where it has no balances beside that.
type seen struct {
	row      version
	tenant   book.Tenant
	anchor   version
	balances [3]book.Balance
}

// version is a version of a row: where it is, and which transaction has written it. The zero one is none.
type version struct {
	at  book.Place
	xid uint32
}

// of returns what is known of a tenant, for what is learned of it.
func (m *memory) of(id book.ID) *seen {
	s := (*m)[id]
	if s == nil {
		if *m == nil {
			*m = memory{}
		}
		s = &seen{}
		(*m)[id] = s
	}
	return s
}

// versions is what is known of rows of tenants, as the texts of arrays.
func (m memory) versions(ids []book.ID, of func(*seen) version) (places, xids string) {
	at := append(make([]byte, 0, 12*len(ids)+2), '{')
	by := append(make([]byte, 0, 8*len(ids)+2), '{')
	for i, id := range ids {
		var v version
		if s := m[id]; s != nil {
			v = of(s)
		}
		if i > 0 {
			at, by = append(at, ','), append(by, ',')
		}
		at = append(appendPlace(append(at, '"'), v.at), '"')
		by = strconv.AppendUint(by, uint64(v.xid), 10)
	}
	return string(append(at, '}')), string(append(by, '}'))
}

// anchor enters the row of an anchor that is locked. That of the defaults, who have none, says that none is.
func (s *session) anchor(row sqldb.Row, more ...any) (*book.Tenant, error) {
	r := s.reads
	if r.anchor == nil {
		r.times.targets, r.numbers.targets = r.Standing()
		r.anchor = append([]any{idTarget{&r.id}, &r.times, &r.numbers}, more...)
	}
	if err := row.Scan(r.anchor...); err != nil || r.id == book.Defaults {
		return nil, err
	}
	if r.numbers.null {
		return r.Lock(r.id, &s.memory[r.id].balances), nil
	}
	return r.Lock(r.id, nil), nil
}

// tenant learns the row of a tenant. One that is gone is not known any more.
func (s *session) tenant(row sqldb.Row) error {
	r := s.reads
	t, err := r.ScanTenant(row, idTarget{&r.id}, &r.rowAt, &r.xid)
	if err != nil {
		return err
	}
	seen := s.memory.of(r.id)
	seen.row, seen.tenant = version{book.Place(r.rowAt), uint32(r.xid)}, *t
	return nil
}

// effect is what a batch adds to anchors, and by which transaction. It is learned when that is committed.
type effect struct {
	sums []addition
	xid  uint32
}

// learn enters what was written.
func (m *memory) learn(w *effect) {
	for i := range w.sums {
		a := &w.sums[i]
		if s := m.of(a.ID); a.Stored.Others == 0 && len(a.Balances) == len(s.balances) {
			s.anchor = version{a.at, w.xid}
			copy(s.balances[:], a.Balances)
		}
	}
}

// placesOf is the target to scan the places of rows into, one after the other.
type placesOf[T any] struct {
	rows  []T
	place func(*T) *book.Place
}

// SetDimensions implements pgtype.ArraySetter.
func (p *placesOf[T]) SetDimensions(d []pgtype.ArrayDimension) error {
	if len(d) != 1 || int(d[0].Length) != len(p.rows) {
		return fmt.Errorf("%d rows were written, and their places are %v", len(p.rows), d)
	}
	return nil
}

// ScanIndex implements pgtype.ArraySetter.
func (p *placesOf[T]) ScanIndex(i int) any { return (*place)(p.place(&p.rows[i])) }

// ScanIndexType implements pgtype.ArraySetter.
func (p *placesOf[T]) ScanIndexType() any { return new(place) }

// transaction is the target to scan the id of one into. NULL is zero.
type transaction uint32

// ScanUint32 implements pgtype.Uint32Scanner.
func (t *transaction) ScanUint32(v pgtype.Uint32) error {
	*t = transaction(v.Uint32)
	return nil
}

// listed is the target to scan an array into, each element of which has a target of its own. It may be NULL.
type listed struct {
	targets []any
	null    bool
}

// SetDimensions implements pgtype.ArraySetter.
func (l *listed) SetDimensions(d []pgtype.ArrayDimension) error {
	l.null = d == nil
	if !l.null && (len(d) != 1 || int(d[0].Length) != len(l.targets)) {
		return fmt.Errorf("an array of %v has the columns of %d", d, len(l.targets))
	}
	return nil
}

// ScanIndex implements pgtype.ArraySetter.
func (l *listed) ScanIndex(i int) any { return l.targets[i] }

// ScanIndexType implements pgtype.ArraySetter.
func (l *listed) ScanIndexType() any { return l.targets[0] }

// places reports whether the session keeps in mind where rows are. Not where a pooler stands before the server, which may be another
// one the next time; and Citus does not tell where a row was written.
func (s *session) places() bool { return !s.manner.apart && !s.untyped }
