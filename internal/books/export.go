package books

import (
	"cmp"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/export"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Exported are the columns of executions that are exported, by the names that they have in their table.
var Exported = append([]export.Column{
	{Name: "id"}, {Name: "tenant_id"}, {Name: "status"}, {Name: "agent"}, {Name: "provider"}, {Name: "model"}, {Name: "billed_model"},
	{Name: "request_id"}, {Name: "idempotency_key"}, {Name: "tags", Kind: export.JSON}, {Name: "actor"},
	{Name: "admitted_at", Kind: export.Time}, {Name: "deadline_at", Kind: export.Time}, {Name: "finished_at", Kind: export.Time},
	{Name: "settled_at", Kind: export.Time}, {Name: "held_cost", Kind: export.Money}, {Name: "held_charge", Kind: export.Money}, {Name: "held_tokens", Kind: export.Integer},
	{Name: "cost", Kind: export.Money}, {Name: "charge", Kind: export.Money}, {Name: "tokens", Kind: export.Integer}, {Name: "calls", Kind: export.Integer},
	{Name: "price"}, {Name: "service_tier"}, {Name: "reported_cost", Kind: export.Money}, {Name: "overrun_cost", Kind: export.Money}, {Name: "overrun_charge", Kind: export.Money},
	{Name: "overrun_tokens", Kind: export.Integer}, {Name: "estimated", Kind: export.Bool}, {Name: "unpriced", Kind: export.Bool},
	{Name: "error_code"}, {Name: "reason"}, {Name: "corrects"},
}, append(classes(), export.Column{Name: "units", Kind: export.JSON}, export.Column{Name: "latency_us", Kind: export.Integer})...)

// nullable are those of them that may be NULL.
var nullable = []string{"idempotency_key", "tags", "finished_at", "settled_at", "reported_cost", "corrects", "units", "latency_us"}

func classes() (columns []export.Column) {
	for _, name := range book.UsageColumns {
		columns = append(columns, export.Column{Name: name, Kind: export.Integer})
	}
	return columns
}

// Position is an execution in the order of admission, which the next page begins behind; zero for the beginning.
type Position struct {
	AdmittedAt time.Time
	ID         book.ID
}

// ReadExported runs a query, which is given what to select, and enters the cells of its rows. It returns how many they were and
// the position of the last.
func (b Books) ReadExported(query func(list string) (*sql.Rows, error), enter func(cells [][]byte) error) (n int, last Position, err error) {
	columns := make([]string, len(Exported))
	at, of := 0, 0
	for i, c := range Exported {
		columns[i] = b.cell(c.Name, c.Kind)
		switch c.Name {
		case "admitted_at":
			at = i
		case "id":
			of = i
		}
	}
	record, list := b.Record(columns, func(i int) bool { return slices.Contains(nullable, Exported[i].Name) })
	rows, err := query(list)
	if err != nil {
		return 0, last, err
	}
	defer func() { err = cmp.Or(err, rows.Close()) }()
	for rows.Next() {
		cells, err := record.Scan(rows)
		if err == nil {
			err = enter(cells)
		}
		if err == nil {
			last, err = position(cells[at], cells[of])
		}
		if err != nil {
			return n, last, err
		}
		n++
	}
	return n, last, rows.Err()
}

// cell is an expression for a column in the form that a kind of cell has.
func (b Books) cell(column string, kind export.Kind) string {
	switch kind {
	case export.Time:
		return b.Micros(column)
	case export.Bool:
		return b.Flag(column)
	default:
		return column
	}
}

func position(at, id []byte) (p Position, err error) {
	micros, err := strconv.ParseInt(string(at), 10, 64)
	if err != nil {
		return p, fmt.Errorf("the time of an admission is %q", at)
	}
	p.AdmittedAt = sqldb.FromMicros(micros)
	p.ID, err = uuid.ParseBytes(id)
	return p, err
}
