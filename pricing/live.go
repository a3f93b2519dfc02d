package pricing

import (
	"sync/atomic"
	"time"

	"github.com/llmtenant/tenant"
)

var (
	_ tenant.Prices       = (*Live)(nil)
	_ tenant.TenantPrices = (*Live)(nil)
	_ tenant.DatedPrices  = (*Live)(nil)
)

// Live is a place for a book that is replaced while calls go on: a ledger that was opened with it prices each call by
// the book that is in it at that moment. What is on the books already stays as it is. Safe for use by many goroutines.
type Live struct{ book atomic.Pointer[Book] }

// NewLive returns a Live with this book in it. A nil book knows no price.
func NewLive(b *Book) *Live {
	l := &Live{}
	l.Set(b)
	return l
}

// Set puts another book in.
func (l *Live) Set(b *Book) {
	if b == nil {
		b = &Book{}
	}
	l.book.Store(b)
}

// Book returns the book that is in it.
func (l *Live) Book() *Book { return l.book.Load() }

// AsOf returns the day of the book that is in it, as [Book.AsOf].
func (l *Live) AsOf() time.Time { return l.Book().AsOf() }

// Price implements [tenant.Prices].
func (l *Live) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	return l.Book().Price(provider, model, at)
}

// TenantPrice implements [tenant.TenantPrices].
func (l *Live) TenantPrice(tenantID, provider, model string, at time.Time) (tenant.Price, bool) {
	return l.Book().TenantPrice(tenantID, provider, model, at)
}
