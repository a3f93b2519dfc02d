package tenant

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/focus"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/text"
)

// FOCUS is usage in the form of the FinOps Open Cost and Usage Specification, for [Export]:
//
//	report, err := tenant.Export(ctx, db, file, tenant.CSV(), tenant.FOCUS{
//		Everybody: true, Period: tenant.LastMonth, BillingAccountID: "org-4711", BillingAccountName: "Example Ltd.",
//	})
//
// A row is what a tenant has used in an hour of a model and of one class: of tokens by class, of web searches, or of a unit. It is
// the host's view: BilledCost and EffectiveCost are what the provider bills for it, and the column x_Charge is what the tenant
// pays. SubAccountId is what never changes of the tenant, and x_ConsumerId its id. The sum of EffectiveCost is the cost that
// [QueryUsage] says for the period, to the nano-dollar.
//
// List prices are those of the ledger's price book of that hour, without a tenant's terms; contracted prices are the same. What calls
// cost is shared among the classes in the proportion of their list prices, also where the provider stated it, or the hold was charged. What
// cannot be shared has a row of its own, of Requests. What had no price has NULL for a price. What was booked to correct usage later is
// a row of its own: a Correction on the bill of the month in which it was booked, where the month that it belongs to was over, otherwise an
// Adjustment. Months are those of UTC.
type FOCUS struct {
	Tenant      Tenant // whose calls are meant; nil: the calls without a tenant
	Descendants bool   // with those of all tenants that stood below it when they were made
	Everybody   bool   // those of all tenants, and those without one, in the place of Tenant, which is nil then

	// Period is when the calls were admitted. One that begins or ends within an hour cuts that hour.
	Period Period

	// Version is that of the specification. Defaults to FOCUS12. A file of FOCUS13 has ServiceProviderName and HostProviderName beside
	// ProviderName and PublisherName, which that version keeps for the last time.
	Version FOCUSVersion

	// BillingAccountID and BillingAccountName are the host's account with its providers. The id is needed.
	BillingAccountID   string
	BillingAccountName string

	// InvoiceIssuerName is who sends the host its invoices. Defaults to the provider of each row.
	InvoiceIssuerName string

	// By takes rows apart by agents ([ByAgent]) and tags ([ByTag]), which stand in the column Tags: a tag by its name, the agent
	// as "tenant/agent". Tags are looked up call by call, so that this takes longer, and is an [ErrPruned] where calls
	// were pruned. Defaults to none: Tags is NULL.
	By []Group
}

// FOCUSVersion is a version of the FinOps Open Cost and Usage Specification.
type FOCUSVersion = focus.Version

// The versions that [FOCUS] is written in.
const (
	FOCUS12 = focus.V12
	FOCUS13 = focus.V13
)

// tagOfAgent is the key of an agent among tags.
const tagOfAgent = "tenant/agent"

func (f *FOCUS) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: FOCUS."+format, append([]any{ErrInvalidOption}, args...)...)
}

// check finds out what is asked for.
func (f *FOCUS) check() (of books.Hourly, names []string, err error) {
	of = books.Hourly{Alone: !f.Descendants, Everybody: f.Everybody}
	switch {
	case f.Everybody && (f.Tenant != nil || f.Descendants):
		return of, nil, f.invalid("Everybody: there is a Tenant, or there are Descendants, too")
	case f.Period == nil:
		return of, nil, f.invalid("Period is nil")
	case f.Version != "" && f.Version != FOCUS12 && f.Version != FOCUS13:
		return of, nil, f.invalid("Version: %q is neither %s nor %s", f.Version, FOCUS12, FOCUS13)
	}
	for _, field := range []struct{ name, value string }{
		{"BillingAccountID", f.BillingAccountID}, {"BillingAccountName", f.BillingAccountName}, {"InvoiceIssuerName", f.InvoiceIssuerName},
	} {
		if err := text.Valid(ErrInvalidOption, "FOCUS."+field.name, field.value, field.name == "BillingAccountID"); err != nil {
			return of, nil, err
		}
	}
	seen := map[Group]bool{}
	for _, g := range f.By {
		tag, tagged := strings.CutPrefix(string(g), tagGroup)
		switch {
		case seen[g]:
			return of, nil, f.invalid("By: the group %q is there twice", g)
		case g == ByAgent:
			of.By, names = append(of.By, books.Group{Dimension: books.ByAgent}), append(names, tagOfAgent)
		case tagged && tag != "" && tag != tagOfAgent:
			of.By, names = append(of.By, books.Group{Dimension: books.ByTag, Tag: tag}), append(names, tag)
		default:
			return of, nil, f.invalid("By: the group %q is neither ByAgent nor a tag", g)
		}
		seen[g] = true
	}
	return of, names, nil
}

// exported implements [Exportable].
func (f FOCUS) exported(ctx context.Context, db *gorm.DB, after string) (exported, error) {
	of, names, err := f.check()
	if err != nil {
		return exported{}, err
	}
	q, err := askThere(ctx, db, f.Tenant)
	if err != nil {
		return exported{}, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return exported{}, err
	}
	t := q.expected(s)
	if of.From, of.To, err = f.Period.bounds(moment{decide.Time(t, s.Now), q.zones.Location(t.Zone), q.windows.WeekStart}); err != nil {
		return exported{}, err
	}
	of.From, of.To = books.Admission(of.From), books.Admission(of.To)
	if s.Tenant != nil && !f.Everybody {
		of.Tenant = s.Tenant.ID
	}
	if f.Version == "" {
		f.Version = FOCUS12
	}
	e := &focusExport{question: q, handle: db, tenant: f.Tenant, of: of, names: names, whose: of.Tenant.String(), file: focus.File{
		Version: f.Version, AccountID: f.BillingAccountID, AccountName: f.BillingAccountName, Issuer: f.InvoiceIssuerName, From: of.From, To: of.To,
	}}
	if f.Everybody {
		e.whose = whoseAll
	}
	if after != "" {
		if e.from, err = e.place(after); err != nil {
			return exported{}, err
		}
	}
	return exported{f.Version.Columns(), func(ctx context.Context, enter func([][]byte) error, kept func(string) error) error {
		if s.Tenant == nil && !f.Everybody {
			return nil
		}
		return e.write(ctx, enter, kept)
	}}, nil
}

// focusExport is a file on its way out.
type focusExport struct {
	*question
	handle *gorm.DB // the host's
	tenant Tenant
	of     books.Hourly
	names  []string // of the tags
	file   focus.File
	whose  string
	from   time.Time // where it goes on
}

// cursor says where an export goes on.
func (e *focusExport) cursor(at time.Time) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "f%s %s %d", e.file.Version, e.whose, at.UnixMicro()))
}

func (e *focusExport) place(cursor string) (time.Time, error) {
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	if micros, ok := strings.CutPrefix(string(decoded), fmt.Sprintf("f%s %s ", e.file.Version, e.whose)); ok && err == nil {
		if n, err := strconv.ParseInt(micros, 10, 64); err == nil {
			return sqldb.FromMicros(n), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: WithExportAfter: %.60q is no cursor of this export", ErrInvalidOption, cursor)
}

// write writes the rows of one slice of time after the other.
func (e *focusExport) write(ctx context.Context, enter func([][]byte) error, kept func(string) error) error {
	var first, last time.Time
	_, err := ofOneMoment(ctx, e.handle, func(db *gorm.DB) (none struct{}, err error) {
		q, err := e.now(ctx, db)
		if err == nil {
			first, last, err = q.extent(ctx, books.Question{Tenant: e.of.Tenant, Everybody: e.of.Everybody})
		}
		return none, err
	})
	if err != nil {
		return e.failure(ctx, err)
	}
	all, w := e.of.Range, focus.NewWriter(e.file)
	for _, from := range []time.Time{first, e.from} {
		if all.From.Before(from) {
			all.From = from
		}
	}
	if end := last.Add(time.Hour); !first.IsZero() && end.Before(all.To) {
		all.To = end
	}
	const longest = 512 * time.Hour
	width := 24 * time.Hour
	for at := all.From; !first.IsZero() && at.Before(all.To); {
		slice := e.of
		slice.From, slice.To = at, at.Add(width).Truncate(time.Hour)
		if slice.To.After(all.To) {
			slice.To = all.To
		}
		rows := 0
		write := func(l *books.HourLine) error {
			line, err := e.line(l)
			if err != nil {
				return err
			}
			return w.Rows(line, func(cells [][]byte) error {
				rows++
				return enter(cells)
			})
		}
		if err := e.eachHour(ctx, slice, write); err != nil {
			return e.failure(ctx, err)
		}
		at = slice.To
		if err := kept(e.cursor(at)); err != nil {
			return err
		}
		switch {
		case rows < exportPage:
			width = min(2*width, longest)
		case rows > 4*exportPage:
			width = max(width/2, time.Hour)
		}
	}
	return nil
}

// now is the question on a handle, asked where the tenant is now.
func (e *focusExport) now(ctx context.Context, db *gorm.DB) (*question, error) {
	if len(e.places) == 1 {
		return e.question, nil
	}
	q, err := askThere(ctx, db, e.tenant)
	if err == nil {
		_, err = q.answer(ctx)
	}
	return q, err
}

// eachHour hands over what was used, hour by hour, whatever place it is in: so that a file is the same however it is sliced.
func (e *focusExport) eachHour(ctx context.Context, slice books.Hourly, write func(*books.HourLine) error) error {
	if len(e.places) == 1 {
		return e.books.EachHour(ctx, slice, write)
	}
	lines, err := ofOneMoment(ctx, e.handle, func(db *gorm.DB) (lines []*books.HourLine, err error) {
		q, err := e.now(ctx, db)
		if err != nil {
			return nil, err
		}
		read := func(b books.Books) error {
			return b.EachHour(ctx, slice, func(l *books.HourLine) error {
				lines = append(lines, l)
				return nil
			})
		}
		if slice.Everybody {
			err = q.everywhere(read)
		} else {
			err = read(q.books)
		}
		return lines, err
	})
	slices.SortStableFunc(lines, func(a, b *books.HourLine) int { return a.Hour.Compare(b.Hour) })
	for _, l := range lines {
		if err == nil {
			err = write(l)
		}
	}
	return err
}

// line gives what was used in an hour its list prices.
func (e *focusExport) line(l *books.HourLine) (*focus.Line, error) {
	price, priced := e.list(l.Provider, l.Model, l.Hour)
	if !priced {
		price, priced = e.list(l.Provider, l.Asked, l.Hour)
	}
	price = price.ForService(l.Tier)
	line := &focus.Line{
		Hour: l.Hour, TenantID: l.TenantKey, Name: l.Name, Model: l.Model, Tier: l.Tier, Adjusted: l.Adjusted, Booked: l.Booked,
		Cost: l.Charged.Cost, Charge: l.Charged.Charge, Calls: l.Charged.Calls, Unpriced: l.Unpriced > 0,
	}
	if line.Provider = l.Provider; line.Provider == "" {
		line.Provider = price.Provider
	}
	for _, name := range []string{e.file.Issuer, e.file.AccountName, e.file.AccountID} {
		if line.Provider == "" {
			line.Provider = name
		}
	}
	if l.Tenant != book.NoTenant {
		line.Tenant = l.Tenant.String()
	}
	tags := map[string]string{}
	for i, value := range l.Keys {
		if value != "" {
			tags[e.names[i]] = value
		}
	}
	if len(tags) > 0 {
		var err error
		if line.Tags, err = json.Marshal(tags); err != nil {
			return nil, err
		}
	}
	if l.Adjusted {
		return line, nil
	}
	classified := l.Usage
	line.Unclassified = l.Charged.Tokens - Usage(classified).TotalTokens()
	line.Parts = price.parts(Usage(l.Usage), l.Charged.Calls, price.Rates, priced)
	// A prompt that is longer than a threshold is charged otherwise, as a whole. Where all calls of the hour were, or none, what they cost says so.
	if !cameTo(line) {
		for _, tier := range price.Tiers {
			long := *line
			if long.Above, long.Parts = tier.Above, price.parts(Usage(l.Usage), l.Charged.Calls, tier.Rates, priced); cameTo(&long) {
				return &long, nil
			}
		}
	}
	return line, nil
}

// list is the list price of a model: without the terms of a tenant.
func (e *focusExport) list(provider, model string, at time.Time) (Price, bool) {
	if e.options.prices == nil || model == "" {
		return Price{}, false
	}
	return e.options.prices.Price(provider, model, at)
}

// cameTo reports whether the cost of a line is what its parts come to, each call rounded by itself.
func cameTo(l *focus.Line) bool {
	const nano = 1_000_000
	off := focus.Exact(l.Parts)
	off.Sub(off, new(big.Int).Mul(big.NewInt(l.Cost), big.NewInt(nano)))
	return off.CmpAbs(new(big.Int).Mul(big.NewInt(max(l.Calls, 1)), big.NewInt(nano))) <= 0
}

// parts are what was used of each class, with its list price.
func (p Price) parts(u Usage, calls int64, r Rates, priced bool) (parts []focus.Part) {
	counts, rates := book.Usage(u), r.classes()
	for i, n := range counts.Classes() {
		switch {
		case *n == 0:
		case i < len(rates):
			parts = append(parts, focus.Part{Name: book.UsageColumns[i], Unit: "Tokens", N: *n, Rate: rates[i], Priced: priced && (r.Input != 0 || r.Output != 0 || len(r.Units) == 0)})
		default:
			parts = append(parts, focus.Part{Name: book.UsageColumns[i], Unit: "Requests", N: *n, Rate: r.WebSearch, Each: true, Priced: priced})
		}
	}
	for unit, n := range u.Units.All() {
		rate, known := r.unit(unit)
		parts = append(parts, focus.Part{Name: string(unit), Unit: focus.UnitOf(string(unit.Kind())), N: n, Rate: rate, Priced: priced && known})
	}
	if priced && r.Request > 0 && calls > 0 {
		parts = append(parts, focus.Requests(calls, r.Request))
	}
	return parts
}

// exportPlace is a place in an export of executions: whose they are, and which of them is the last.
type exportPlace struct {
	ascending bool
	whose     string // a tenant's id, or one of the words
	last      books.Position
}

func (p exportPlace) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "x%t %s %d %s", p.ascending, p.whose, p.last.AdmittedAt.UnixMicro(), p.last.ID))
}

func parsePlace(cursor string, ascending bool) (p exportPlace, err error) {
	p.ascending = ascending
	if cursor == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		parts := strings.Split(string(text), " ")
		if len(parts) == 4 && parts[0] == fmt.Sprintf("x%t", ascending) {
			micros, wrong := strconv.ParseInt(parts[2], 10, 64)
			id, none := uuid.Parse(parts[3])
			_, stranger := uuid.Parse(parts[1])
			if wrong == nil && none == nil && (stranger == nil || parts[1] == whoseBelow || parts[1] == whoseAll) {
				p.whose, p.last = parts[1], books.Position{AdmittedAt: sqldb.FromMicros(micros), ID: id}
				return p, nil
			}
		}
	}
	return p, fmt.Errorf("%w: WithExportAfter: %.60q is no cursor of an export in this order", ErrInvalidOption, cursor)
}
