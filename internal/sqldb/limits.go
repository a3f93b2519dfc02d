package sqldb

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
)

// Limits are a tenant's own limits and its top-ups. They stand in the tenant's row, and not in rows of their own: whoever
// makes a tenant writes one row, and a call reads one.
type Limits struct {
	Own    []book.Limit
	TopUps []book.TopUp
}

// limit is a limit or, with a key, a top-up, as the row has it. The view llm_limits has a column for each.
type limit struct {
	Window string      `json:"window_unit"`
	Agent  string      `json:"agent,omitempty"`
	Model  string      `json:"model,omitempty"`
	Metric book.Metric `json:"metric"`
	Max    int64       `json:"amount"`
	TopUp  string      `json:"topup,omitempty"`
	Ends   string      `json:"ends_at,omitempty"`
}

func limitOf(l book.Limit) limit {
	return limit{Window: l.Window.String(), Agent: l.Agent, Model: l.Model, Metric: l.Metric, Max: l.Max}
}

// String returns limits as the column limits keeps them.
func (l Limits) String() string {
	rows := make([]limit, 0, len(l.Own)+len(l.TopUps))
	for _, own := range l.Own {
		rows = append(rows, limitOf(own))
	}
	for _, up := range l.TopUps {
		row := limitOf(up.Limit)
		row.TopUp = up.Key
		if !up.Ends.IsZero() {
			row.Ends = Text(up.Ends)
		}
		rows = append(rows, row)
	}
	document, _ := json.Marshal(rows) // of strings and numbers: it cannot fail
	return string(document)
}

// ParseLimits reads what String returns. A decision goes by the order: of two limits that are passed, the first is told.
func ParseLimits(document string) (Limits, error) {
	var (
		all  Limits
		rows []limit
	)
	if document == "[]" {
		return all, nil
	}
	if err := json.Unmarshal([]byte(document), &rows); err != nil {
		return all, fmt.Errorf("the limits %q: %w", document, err)
	}
	for _, row := range rows {
		window, err := period.ParseWindow(row.Window)
		if err != nil {
			return all, fmt.Errorf("the limits %q: %w", document, err)
		}
		l := book.Limit{Scope: book.Scope{Window: window, Agent: row.Agent, Model: row.Model}, Metric: row.Metric, Max: row.Max}
		if row.TopUp == "" {
			all.Own = append(all.Own, l)
			continue
		}
		up := book.TopUp{Limit: l, Key: row.TopUp}
		if row.Ends != "" {
			if err := (*instant)(&up.Ends).Scan(row.Ends); err != nil {
				return all, fmt.Errorf("the limits %q: %w", document, err)
			}
		}
		all.TopUps = append(all.TopUps, up)
	}
	slices.SortFunc(all.Own, compareLimits)
	slices.SortFunc(all.TopUps, func(a, b book.TopUp) int { return cmp.Or(compareLimits(a.Limit, b.Limit), cmp.Compare(a.Key, b.Key)) })
	return all, nil
}

func compareLimits(a, b book.Limit) int {
	return cmp.Or(cmp.Compare(a.Window.String(), b.Window.String()), cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.Metric, b.Metric))
}
