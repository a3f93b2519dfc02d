package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/examples/internal/localmodel"
)

// printer says what happens.
type printer struct {
	db  *gorm.DB
	out io.Writer
}

func (p printer) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format, args...)
}

func (p printer) header(books string, server *localmodel.Server) {
	p.printf("Books  %s\n", books)
	if server == nil {
		p.printf("Model  %s at OpenAI\n", model)
		return
	}
	p.printf("Model  %s, played by a local server at %s, because OPENAI_API_KEY is not set\n", model, server.URL)
}

// standing prints what each organization has spent, read from the books.
func (p printer) standing(ctx context.Context, title string, orgs ...*Organization) error {
	p.printf("\n%s\n", title)
	columns := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
	table := printer{out: columns}
	table.printf("  \ttoday\tthis month\tcalls today\tdaily limit\tremaining\n")
	for _, org := range orgs {
		today, err := tenant.CostToday(ctx, p.db, org)
		if err != nil {
			return err
		}
		month, err := tenant.CostThisMonth(ctx, p.db, org)
		if err != nil {
			return err
		}
		calls, err := tenant.ExecutionCountToday(ctx, p.db, org)
		if err != nil {
			return err
		}
		budget, err := tenant.BudgetStatus(ctx, p.db, org)
		if err != nil {
			return err
		}
		table.printf("  %s\t%s\t%s\t%d", org.Slug, dollars(today), dollars(month), calls)
		for _, limit := range budget.Limits {
			table.printf("\t%s\t%s", dollars(limit.Limit), dollars(limit.Remaining))
		}
		table.printf("\n")
	}
	return columns.Flush()
}

func (p printer) begin(org *Organization) {
	p.printf("\n%s asks\n", org.Name)
}

func (p printer) answered(question string, reply *tenant.Reply) {
	var notes strings.Builder
	for _, note := range []struct {
		applies bool
		text    string
	}{
		{reply.Shortened, "shortened by the budget"}, {reply.Estimated, "estimated"},
		{reply.Pending, "not on the books yet"}, {reply.Unpriced, "no price known"},
	} {
		if note.applies {
			notes.WriteString(", " + note.text)
		}
	}
	p.printf("  > %s\n    %s\n    [%d tokens in, %d out: %s%s]\n", question, strings.Join(strings.Fields(reply.Text), " "),
		reply.Usage.InputTokens(), reply.Usage.OutputTokens(), dollars(reply.Cost), notes.String())
}

func (p printer) refused(question string, e *tenant.BudgetExceededError) {
	limit := e.Limit
	p.printf("  > %s\n    [refused before it was made: of the limit of %s a %s, %s is spent and %s is held, and the call could cost %s;\n"+
		"    the limit resets at %s]\n",
		question, dollars(limit.Limit), limit.Window, dollars(limit.Spent), dollars(limit.Held), dollars(e.Requested),
		e.ResetsAt.UTC().Format(time.RFC1123))
}

func dollars(d decimal.Decimal) string { return "$" + d.String() }
