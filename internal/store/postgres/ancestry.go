package postgres

import (
	"bytes"
	"slices"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
)

// maxAncestry bounds the memory of an ancestry. Beyond, it is asked for anew.
const maxAncestry = 10_000

// ancestry is what a session has seen of who is who and who stands above whom. It saves a batch the search for all that are to be
// locked. It may be out of date: what a batch reads under its locks says whether they were the right ones.
type ancestry struct {
	ids     map[string]book.ID  // by key
	parents map[book.ID]book.ID // the zero one stands for none
	scoped  map[book.ID]bool    // who has balances beside those of its anchor
}

// of returns whom a batch wants and all that stand above them, or false if they have to be searched for.
func (a *ancestry) of(want *book.Want) (ids []book.ID, ok bool) {
	ids = make([]book.ID, 0, 2*(len(want.Tenants)+len(want.Keys)+1))
	enter := func(id book.ID) bool {
		for range book.MaxDepth + 1 {
			ids = append(ids, id)
			above, met := a.parents[id]
			if !met || above == uuid.Nil {
				return met
			}
			id = above
		}
		return false
	}
	for _, id := range want.Tenants {
		if !enter(id) {
			return nil, false
		}
	}
	for _, key := range want.Keys {
		if id, met := a.ids[key]; !met || !enter(id) {
			return nil, false
		}
	}
	return ids, true
}

// ordered sorts ids in the order in which anchors are locked, and drops those that come twice.
func ordered(ids []book.ID) []book.ID {
	slices.SortFunc(ids, descending)
	return slices.Compact(ids)
}

func descending(a, b book.ID) int { return bytes.Compare(b[:], a[:]) }

// learn enters what a batch has read. It reports whether the ids, whom it has locked, are all that it wants and all that stand
// above them.
func (a *ancestry) learn(want *book.Want, ids []book.ID, read []relation) bool {
	if a.parents == nil || max(len(a.ids), len(a.parents))+len(read) > maxAncestry { // a tenant may have had many keys
		a.ids, a.parents, a.scoped = map[string]book.ID{}, map[book.ID]book.ID{}, map[book.ID]bool{}
	}
	for _, key := range want.Keys {
		delete(a.ids, key)
	}
	for _, id := range ids {
		a.parents[id] = uuid.Nil
	}
	complete := true
	has := func(id book.ID) bool {
		_, found := slices.BinarySearchFunc(ids, id, descending)
		return found
	}
	for _, r := range read {
		if r.parent != uuid.Nil && !has(r.parent) {
			complete = false
		}
		a.parents[r.id] = r.parent
		if r.key != "" {
			a.ids[r.key] = r.id
		}
	}
	for _, key := range want.Keys {
		if id, met := a.ids[key]; !met || !has(id) {
			return false
		}
	}
	return complete
}

// relation is who a tenant is, and who stands above it.
type relation struct {
	id, parent book.ID
	key        string
}
