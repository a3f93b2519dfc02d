package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/llmtenant/tenant"
)

type exportCommand struct {
	ID          string            `arg:"" optional:"" name:"tenant" help:"The tenant's id. Defaults to everybody."`
	NoTenant    bool              `help:"The calls without a tenant."`
	Descendants bool              `help:"With the calls of the tenants below."`
	Period      string            `default:"last-month" placeholder:"PERIOD" help:"When the calls were admitted: ${period}. Defaults to ${default}."`
	Status      []string          `placeholder:"STATUS" help:"One of them: succeeded, failed, abandoned, adjusted."`
	Agent       []string          `placeholder:"NAME" help:"One of them."`
	Model       []string          `placeholder:"NAME" help:"One of them asked for, or billed."`
	Provider    []string          `placeholder:"NAME" help:"One of them."`
	Tag         map[string]string `placeholder:"NAME=VALUE" help:"All of them."`
	Format      string            `enum:"csv,ndjson,focus" default:"csv" help:"csv, ndjson, or focus: usage in the form of the FinOps Open Cost and Usage Specification, as CSV. Defaults to ${default}."`
	AccountID   string            `name:"account-id" placeholder:"ID" help:"The billing account with the providers, for focus."`
	AccountName string            `placeholder:"NAME" help:"Its name, for focus."`
	Output      string            `short:"o" placeholder:"FILE" help:"Write to this file, which must not be there. Defaults to the standard output."`
	After       string            `placeholder:"CURSOR" help:"Go on where the same export ended, behind what is in the file."`
	pricesFlags
}

// Help is the help of the command.
func (exportCommand) Help() string {
	return `Executions that have ended are written, the oldest first; of everybody, in no certain order. Amounts are exact decimals of US dollars.

Ctrl-C ends it behind a whole line, and says with which --after the same command goes on.`
}

func (c *exportCommand) query() (q tenant.ExecutionQuery, err error) {
	if q.Tenant, q.Everybody, err = whose(c.ID, c.NoTenant); err != nil {
		return q, err
	}
	if c.Descendants && q.Tenant == nil {
		return q, wrong("--descendants is about one tenant; give its id")
	}
	if q.Period, err = period(c.Period); err != nil {
		return q, err
	}
	for _, s := range c.Status {
		if !slices.Contains([]string{"succeeded", "failed", "abandoned", "adjusted"}, s) {
			return q, wrong("--status: %q is none of succeeded, failed, abandoned, adjusted", s)
		}
	}
	q.Descendants, q.Ascending = c.Descendants, true
	q.Statuses, q.Agents, q.Models, q.Providers, q.Tags = c.Status, c.Agent, c.Model, c.Provider, c.Tag
	return q, nil
}

// what is what is exported.
func (c *exportCommand) what() (tenant.Exportable, error) {
	q, err := c.query()
	if err != nil {
		return nil, err
	}
	if c.Format != "focus" {
		if c.AccountID != "" || c.AccountName != "" {
			return nil, wrong("--account-id and --account-name are for --format focus")
		}
		return q, nil
	}
	switch {
	case c.AccountID == "":
		return nil, wrong("--account-id is missing: FOCUS names the billing account of each row")
	case len(c.Status)+len(c.Agent)+len(c.Model)+len(c.Provider)+len(c.Tag) > 0:
		return nil, wrong("--format focus has all calls of the period; --status, --agent, --model, --provider and --tag are for executions")
	}
	return tenant.FOCUS{
		Tenant: q.Tenant, Descendants: q.Descendants, Everybody: q.Everybody, Period: q.Period, BillingAccountID: c.AccountID, BillingAccountName: c.AccountName,
	}, nil
}

func (c *exportCommand) Run(ctx context.Context, a *app) (err error) {
	q, err := c.what()
	if err != nil {
		return err
	}
	book, err := c.book(nil)
	if err != nil {
		return err
	}
	if a.JSON && c.Output == "" {
		return wrong("--json is the report of an export, and the standard output has the export; give --output FILE, or --format ndjson")
	}
	l, end, err := a.open(ctx, tenant.WithPrices(book))
	if err != nil {
		return err
	}
	defer end()
	to := io.Writer(a.out)
	if c.Output != "" {
		f, failed := c.file()
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	format := tenant.CSV()
	if c.Format == "ndjson" {
		format = tenant.NDJSON()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, p := &whole{to: to}, a.progress()
	options := []tenant.ExportOption{tenant.WithExportProgress(func(r tenant.ExportReport) {
		if w.commit() != nil {
			cancel()
		}
		p.tell("%d rows, %d bytes", r.Rows, r.Bytes)
	})}
	if c.After != "" {
		options = append(options, tenant.WithExportAfter(c.After))
	}
	report, err := tenant.Export(ctx, l.db, w, format, q, options...)
	p.end()
	if err == nil {
		err = w.commit()
	}
	if w.err != nil {
		err = w.err
	}
	switch {
	case errors.Is(err, context.Canceled), err != nil && report.Rows > 0 && w.err == nil:
		if report.Cursor == "" {
			a.problems.say("Nothing was exported.")
		} else {
			a.problems.say("%d rows were exported; to go on, type the same with --after %s", report.Rows, report.Cursor)
		}
	case err == nil:
		a.note("%d rows were exported.", report.Rows)
	}
	if a.JSON {
		a.out.json(report)
	}
	return err
}

// file opens the file, anew or to go on.
func (c *exportCommand) file() (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if c.After != "" {
		flags = os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(c.Output, flags, 0o600) //nolint:gosec // whoever types the command says which
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, wrong("--output: %s is there already; to go on with it, give --after", c.Output)
	case err != nil:
		return nil, wrong("--output: %v", err)
	}
	return f, nil
}
