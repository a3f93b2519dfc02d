package postgres

import (
	"hash/maphash"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// maxPresent bounds the memory of a present. Beyond, it is learned anew.
const maxPresent = 50_000

// present is the rows of the roll-up that a session has written, by a hash. It may be wrong: whoever changes what is not there fails, and
// the batch is run again without it.
type present struct {
	seed maphash.Seed
	rows map[uint64]struct{}
}

// has reports whether the row of an hour was written.
func (p *present) has(h store.Hour) bool {
	if p.rows == nil {
		return false
	}
	_, ok := p.rows[maphash.Comparable(p.seed, h.HourKey)]
	return ok
}

// learn enters the rows that a batch has written. After one that failed nothing is known.
func (p *present) learn(eff *book.Effects, err error) {
	if err != nil {
		p.rows = nil
		return
	}
	if p.rows == nil || len(p.rows)+len(eff.Hours) > maxPresent {
		p.seed, p.rows = maphash.MakeSeed(), make(map[uint64]struct{}, len(eff.Hours))
	}
	for key := range eff.Hours {
		p.rows[maphash.Comparable(p.seed, key)] = struct{}{}
	}
}
