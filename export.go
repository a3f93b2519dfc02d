package tenant

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/export"
)

// Exportable is what [Export] writes: an [ExecutionQuery], a [Query] or [FOCUS].
type Exportable interface {
	// exported finds out what is to be written, from a cursor on.
	exported(ctx context.Context, db *gorm.DB, after string) (exported, error)
}

// exported is rows on their way out.
type exported struct {
	columns []export.Column

	// rows enters all rows. It calls kept after some of them, with the cursor behind these.
	rows func(ctx context.Context, enter func(cells [][]byte) error, kept func(cursor string) error) error
}

// ExportFormat is how rows are written: [CSV], [NDJSON], or one of the host's own.
type ExportFormat = export.Format

// ExportEncoder writes rows in a format; see [ExportFormat].
type ExportEncoder = export.Encoder

// ExportColumn is a column of what is exported, with what its cells are.
type ExportColumn = export.Column

// ExportKind is what the cells of a column are, and in which form an encoder gets them.
type ExportKind = export.Kind

// The kinds of cells. A nil cell is NULL in all of them.
const (
	ExportText    = export.Text
	ExportInteger = export.Integer
	ExportMoney   = export.Money
	ExportTime    = export.Time
	ExportBool    = export.Bool
	ExportJSON    = export.JSON
	ExportSecond  = export.Second
)

// CSV is the format of RFC 4180, with a header, in UTF-8 and with lines that end in a newline. Amounts are plain decimals of
// US dollars with nine digits, times are in UTC as RFC 3339 has them. NULL is an empty cell. A text that a spreadsheet would run
// as a formula begins with an apostrophe.
func CSV() ExportFormat { return export.CSV{} }

// NDJSON is one JSON object a line, with the columns' names. Amounts are strings with plain decimals of US dollars with nine
// digits, because most readers make a binary fraction of a number.
func NDJSON() ExportFormat { return export.NDJSON{} }

// ExportReport is what an [Export] has written.
type ExportReport struct {
	Rows  int64 // without the header
	Bytes int64

	// Cursor says where to go on behind these rows; see [WithExportAfter]. Empty where nothing can be gone on with.
	Cursor string
}

// ExportOption is an option of [Export].
type ExportOption func(*exporting) error

// WithExportAfter has Export go on where another one of the same ended or was cut off: behind the Cursor of its report, without a
// header. Whoever appends to a file first cuts it to the Bytes of that report. Defaults to the beginning.
func WithExportAfter(cursor string) ExportOption {
	return func(e *exporting) error {
		if cursor == "" {
			return fmt.Errorf("WithExportAfter: the cursor is empty")
		}
		e.after = cursor
		return nil
	}
}

// WithExportProgress has Export tell a function what is with the writer, after every some thousand rows. Defaults to none.
func WithExportProgress(told func(ExportReport)) ExportOption {
	return func(e *exporting) error {
		if told == nil {
			return fmt.Errorf("WithExportProgress: the function is nil")
		}
		e.told = told
		return nil
	}
}

type exporting struct {
	after string
	told  func(ExportReport)
}

// Export writes executions, or what a question about usage has for an answer:
//
//	report, err := tenant.Export(ctx, db, file, tenant.CSV(), tenant.ExecutionQuery{Tenant: org, Period: tenant.LastMonth})
//
// Executions are those that have ended and count, without what runs and what was released, all columns of [Execution]: the
// oldest first, or the newest (see ExecutionQuery.Ascending); of everybody, in no certain order. They are read in short
// pages, each of its own moment, so that an export of any size takes little memory and holds no snapshot open. It is the host's
// own query, which goes where a resolver sends reads; conditions that db has hold too.
//
// The report says what is with the writer for good, also with an error, after which the export can be gone on with. A call that
// ended late, and was admitted before what is written already, is not among the rest: export what is past.
//
// Errors: those of the question; [ErrInvalidOption] for a writer, a format or a list that cannot be exported, a cursor that is
// not of it, or an invalid option; and the writer's own.
func Export(ctx context.Context, db *gorm.DB, w io.Writer, format ExportFormat, what Exportable, options ...ExportOption) (ExportReport, error) {
	e := exporting{told: func(ExportReport) {}}
	var err error
	switch {
	case w == nil:
		err = fmt.Errorf("the writer is nil")
	case format == nil:
		err = fmt.Errorf("the format is nil: it is CSV, NDJSON or one of your own")
	case what == nil:
		err = fmt.Errorf("there is nothing to export: give an ExecutionQuery or a Query")
	}
	for _, option := range options {
		switch {
		case err != nil:
		case option == nil:
			err = fmt.Errorf("a nil ExportOption")
		default:
			err = option(&e)
		}
	}
	if err != nil {
		return ExportReport{}, fmt.Errorf("%w: Export: %w", ErrInvalidOption, err)
	}
	counted := &counter{w: w}
	report, err := e.export(ctx, db, counted, format, what)
	if err == nil || counted.failed || !isReplica(db) {
		return report, err
	}
	l, closed := ledgerOf(db)
	if closed != nil {
		return report, err
	}
	named, again := l.replicaFailed(ctx, db, err)
	if !again || counted.n > 0 { // what is written goes on behind its cursor
		return report, named
	}
	return e.export(ctx, l.primary(ctx, db), counted, format, what)
}

func (e *exporting) export(ctx context.Context, db *gorm.DB, counted *counter, format ExportFormat, what Exportable) (ExportReport, error) {
	from, err := what.exported(ctx, db, e.after)
	if err != nil {
		return ExportReport{}, err
	}
	report := ExportReport{Cursor: e.after}
	encoder, err := format.Encoder(counted, from.columns, e.after != "")
	if err != nil {
		return report, fmt.Errorf("tenant: Export: %w", err)
	}
	rows := report.Rows
	err = from.rows(ctx, func(cells [][]byte) error {
		rows++
		return encoder.Row(cells)
	}, func(cursor string) error {
		if err := encoder.Flush(); err != nil {
			return err
		}
		report = ExportReport{Rows: rows, Bytes: counted.n, Cursor: cursor}
		e.told(report)
		return ctx.Err()
	})
	if err != nil {
		return report, err
	}
	if err := encoder.Close(); err != nil {
		return report, err
	}
	report.Rows, report.Bytes = rows, counted.n
	return report, nil
}

// counter counts what a writer has taken.
type counter struct {
	w      io.Writer
	n      int64
	failed bool
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.failed = c.failed || err != nil
	return n, err
}

// exportPage is how many rows are read at a time.
const exportPage = 5000

// exported implements [Exportable].
func (q ExecutionQuery) exported(ctx context.Context, db *gorm.DB, after string) (exported, error) {
	switch {
	case q.ByCost:
		return exported{}, fmt.Errorf("%w: Export: ExecutionQuery.ByCost: executions are exported by time", ErrInvalidOption)
	case q.After != "":
		return exported{}, fmt.Errorf("%w: Export: ExecutionQuery.After: an export goes on by WithExportAfter", ErrInvalidOption)
	}
	for _, status := range []string{string(book.Running), string(book.Cancelled)} {
		if slices.Contains(q.Statuses, status) {
			return exported{}, fmt.Errorf("%w: Export: ExecutionQuery.Statuses: what is %s is not exported", ErrInvalidOption, status)
		}
	}
	at, err := parsePlace(after, q.Ascending)
	if err != nil {
		return exported{}, err
	}
	l, err := ofOneMoment(ctx, db, func(db *gorm.DB) (*lister, error) { return q.open(ctx, db) })
	if err != nil {
		return exported{}, err
	}
	l.from = db
	if at.whose == whoseAll != (q.Everybody && l.dialect.LocksRows) && at.whose != "" {
		at.whose = uuid.Max.String() // of nobody
	}
	if mine := at.whose == l.whose.String() || at.whose == whoseBelow && q.Descendants; at.whose != "" && !q.Everybody && !mine {
		return exported{}, fmt.Errorf("%w: WithExportAfter: %.60q is the cursor of another tenant's export", ErrInvalidOption, after)
	}
	return exported{books.Exported, func(ctx context.Context, enter func([][]byte) error, kept func(string) error) error {
		return l.export(ctx, at, enter, kept)
	}}, nil
}

const (
	whoseBelow = "below"
	whoseAll   = "all" // of everybody, by slices of time
)

// export writes the executions of a list.
func (l *lister) export(ctx context.Context, at exportPlace, enter func([][]byte) error, kept func(string) error) error {
	if l.nobody || !l.span.From.Before(l.span.To) {
		return nil
	}
	own := func(id book.ID) error {
		if at.whose != "" && at.whose != id.String() {
			if l.Everybody && at.whose > id.String() || at.whose == whoseBelow {
				return nil // which is written
			}
			at.last = books.Position{}
		}
		at.whose = id.String()
		return l.exportOf(ctx, func(l *lister) *gorm.DB { return l.all.Where("tenant = ?", id.String()) }, &at, enter, kept)
	}
	switch {
	case l.Everybody && l.dialect.LocksRows:
		return l.exportSlices(ctx, at, enter, kept)
	case l.Everybody:
		return l.tenants(ctx, func(_ *place, id book.ID) error { return own(id) })
	case !l.Descendants:
		return own(l.whose)
	}
	if err := own(l.whose); err != nil {
		return err
	}
	if at.whose != whoseBelow {
		at.whose, at.last = whoseBelow, books.Position{}
	}
	id := l.whose.String()
	below := func(l *lister) *gorm.DB {
		return l.all.Where("parents <> '{}' AND "+l.dialect.Below("parents")+" AND tenant <> ?", id, id)
	}
	return l.exportOf(ctx, below, &at, enter, kept)
}

// exportSlices writes those of everybody by slices of time, which PostgreSQL finds beside each other. A slice is one statement,
// and in no order.
func (l *lister) exportSlices(ctx context.Context, at exportPlace, enter func([][]byte) error, kept func(string) error) error {
	left := l.span
	if at.whose != "" && l.Ascending {
		left.From = at.last.AdmittedAt
	} else if at.whose != "" {
		left.To = at.last.AdmittedAt
	}
	at.whose = whoseAll
	for _, other := range l.others {
		if other.first.Before(l.first) {
			l.first = other.first
		}
		if other.last.After(l.last) {
			l.last = other.last
		}
	}
	for left.From.Before(left.To) {
		var slice books.Range
		slice, left = l.slice(left)
		n := 0
		err := l.part(ctx, enter, func(l *lister, enter func([][]byte) error) error {
			n = 0
			for _, in := range append([]*lister{l}, l.others...) {
				of := in.all.Where(books.Ended).Where("admitted_at >= ? AND admitted_at < ?", slice.From, slice.To)
				found, _, err := l.books.ReadExported(func(list string) (*sql.Rows, error) { return of.Select(list).Rows() }, enter)
				if err != nil {
					return l.failure(ctx, err)
				}
				n += found
			}
			return nil
		})
		if err != nil {
			return err
		}
		if at.last.AdmittedAt = slice.To; !l.Ascending {
			at.last.AdmittedAt = slice.From
		}
		if err := kept(at.String()); err != nil {
			return err
		}
		switch {
		case n < exportPage:
			l.width = min(2*l.width, 512*time.Hour)
		case n > 4*exportPage:
			l.width = max(l.width/2, time.Second)
		}
	}
	return nil
}

// exportOf writes those that meet a condition, page by page.
func (l *lister) exportOf(ctx context.Context, of func(*lister) *gorm.DB, at *exportPlace, enter func([][]byte) error, kept func(string) error) error {
	direction, beyond := " DESC", "<"
	if l.Ascending {
		direction, beyond = "", ">"
	}
	for {
		span := l.span
		beyondLast, args := "1 = 1", []any(nil)
		if last := at.last; !last.AdmittedAt.IsZero() {
			if l.Ascending {
				span.From = last.AdmittedAt
			} else if end := last.AdmittedAt.Add(time.Microsecond); end.Before(span.To) {
				span.To = end
			}
			beyondLast, args = "(admitted_at "+beyond+" ? OR id "+beyond+" ?)", []any{l.dialect.Time(last.AdmittedAt), last.ID.String()}
		}
		var (
			n    int
			last books.Position
		)
		err := l.part(ctx, enter, func(l *lister, enter func([][]byte) error) (err error) {
			page := of(l).Where(books.Ended).Where(beyondLast, args...).
				Where("admitted_at >= ? AND admitted_at < ?", l.dialect.Time(span.From), l.dialect.Time(span.To)).
				Order("admitted_at" + direction + ", id" + direction).Limit(exportPage)
			n, last, err = l.books.ReadExported(func(list string) (*sql.Rows, error) { return page.Select(list).Rows() }, enter)
			if err != nil {
				return l.failure(ctx, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n > 0 {
			at.last = last
			if err := kept(at.String()); err != nil {
				return err
			}
		}
		if n < exportPage {
			return nil
		}
	}
}

// exported implements [Exportable].
func (query Query) exported(ctx context.Context, db *gorm.DB, after string) (e exported, err error) {
	if after != "" {
		return e, fmt.Errorf("%w: WithExportAfter: a Query is answered at once, and has no cursor", ErrInvalidOption)
	}
	answer, err := QueryUsage(ctx, db, query)
	if err != nil {
		return e, err
	}
	t := tableOf(query)
	e.columns = t.columns
	e.rows = func(ctx context.Context, enter func([][]byte) error, _ func(string) error) error {
		for i := range answer.Rows {
			if i%exportPage == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if err := enter(t.row(&answer.Rows[i])); err != nil {
				return err
			}
		}
		return nil
	}
	return e, nil
}

// usageTable is the columns that the rows of an answer have.
type usageTable struct {
	columns []export.Column
	groups  int
	tenants bool
	compare bool
}

func tableOf(q Query) *usageTable {
	t := &usageTable{groups: len(q.By), compare: q.Compare}
	for _, g := range q.By {
		t.tenants = t.tenants || g == ByTenant
		name := string(g)
		if !strings.HasPrefix(name, tagGroup) {
			name = strings.ReplaceAll(name, " ", "_")
		}
		t.columns = append(t.columns, export.Column{Name: name})
	}
	if t.tenants {
		t.columns = append(t.columns, export.Column{Name: "tenant_uuid"})
	}
	measures := func(before string) {
		for _, name := range []string{"cost", "charge", "margin"} {
			t.columns = append(t.columns, export.Column{Name: before + name, Kind: export.Money})
		}
		names := slices.Concat([]string{"tokens", "calls", "errors", "refusals", "estimated", "unpriced", "average_latency_us", "p95_latency_us"}, book.UsageColumns[:])
		for _, name := range names {
			t.columns = append(t.columns, export.Column{Name: before + name, Kind: export.Integer})
		}
		t.columns = append(t.columns, export.Column{Name: before + "units", Kind: export.JSON})
	}
	measures("")
	if t.compare {
		measures("before_")
	}
	return t
}

// row is the cells of a row.
func (t *usageTable) row(r *UsageRow) [][]byte {
	cells := make([][]byte, 0, len(t.columns))
	for _, key := range r.Keys {
		cells = append(cells, []byte(key))
	}
	if t.tenants {
		cells = append(cells, []byte(r.Tenant))
	}
	measures := func(m *Measures) {
		for _, amount := range []decimal.Decimal{m.Cost, m.Charge, m.Margin} {
			cells = append(cells, []byte(amount.Shift(9).Truncate(0).String()))
		}
		counts := []int64{m.Tokens, m.Calls, m.Errors, m.Refusals, m.Estimated, m.Unpriced, m.AverageLatency.Microseconds(), m.P95Latency.Microseconds()}
		usage := book.Usage(m.Usage)
		for _, class := range usage.Classes() {
			counts = append(counts, *class)
		}
		for _, n := range counts {
			cells = append(cells, strconv.AppendInt(nil, n, 10))
		}
		var units []byte
		if !m.Usage.Units.IsZero() {
			units = []byte(m.Usage.Units.String())
		}
		cells = append(cells, units)
	}
	measures(&r.Measures)
	if t.compare {
		before := r.Before
		if before == nil {
			before = &Measures{}
		}
		measures(before)
	}
	return cells
}
