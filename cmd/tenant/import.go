package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/llmtenant/tenant"
)

type importCommand struct {
	File   string `arg:"" help:"The file, or - for the standard input."`
	Source string `required:"" placeholder:"NAME" help:"Where the calls come from: each is booked once for its source and id. Required."`
	Format string `enum:"csv,ndjson" default:"ndjson" help:"csv or ndjson. Defaults to ${default}."`
	Create bool   `help:"Make tenants that are not there."`
	DryRun bool   `help:"Check every line, show what would be booked, and write nothing."`
	pricesFlags
	termsFlags
}

// Help is the help of the command.
func (importCommand) Help() string {
	return `Each line is a call, with columns by the names that "tenant export" gives them: id and admitted_at, then tenant_id, agent, actor, tags, provider, model, billed_model, request_id, service_tier, cost, charge, reported_cost, the token classes (input_tokens, output_tokens, …), units, latency_us, error_code, estimated. A cost that is not there is reckoned by the price book, a charge by the terms. Other columns of an export are read over; adjustments (status adjusted) are left out and counted.

An import that ended, by Ctrl-C too, is run again from its beginning: what is booked already is counted as a duplicate.`
}

// imported is what import prints as JSON.
type imported struct {
	tenant.ImportReport
	LeftOut int64 // adjustments, which are no calls
	DryRun  bool
}

func (c *importCommand) Run(ctx context.Context, a *app) error {
	prices, err := c.book(&c.termsFlags)
	if err != nil {
		return err
	}
	var in io.Reader
	if c.File == "-" {
		in = interruptible(ctx, a.in)
	} else {
		f, err := os.Open(c.File)
		if err != nil {
			return wrong("%v", err)
		}
		defer func() { _ = f.Close() }() // it was read
		in = f
	}
	options := []tenant.OpenOption{tenant.WithPrices(prices)}
	open := a.open
	if c.Create {
		open = func(ctx context.Context, options ...tenant.OpenOption) (*ledger, func(), error) {
			return a.openOn(ctx, false, options)
		}
	}
	l, end, err := open(ctx, options...)
	if err != nil {
		return err
	}
	defer end()
	r := imported{DryRun: c.DryRun}
	lines := fromNDJSON(in)
	if c.Format == "csv" {
		lines = fromCSV(in)
	}
	p := a.progress()
	told := []tenant.ImportOption{tenant.WithImportProgress(func(r tenant.ImportReport) {
		p.tell("%d booked, %d there already", r.Booked, r.Duplicates)
	})}
	if c.DryRun {
		told = append(told, tenant.WithImportDryRun())
	}
	number := int64(0)
	r.ImportReport, err = l.Import(a.acting(ctx, ""), c.Source, c.calls(ctx, lines, &number, &r.LeftOut), told...)
	p.end()
	if a.JSON {
		a.out.json(r)
	} else {
		verb := "booked"
		if c.DryRun {
			verb = "would be booked"
		}
		a.out.say("%d %s, %d of them without a price; %d there already; %d adjustments left out.", r.Booked, verb, r.Unpriced, r.Duplicates, r.LeftOut)
	}
	if wrongCall := (*tenant.ImportError)(nil); errors.As(err, &wrongCall) {
		if errors.Is(err, context.Canceled) {
			err = context.Canceled
		} else {
			err = fmt.Errorf("line %d, id %q: %w", number, wrongCall.ID, wrongCall.Err)
		}
	}
	if err != nil && !c.DryRun {
		a.problems.say("To go on, run the same again: what is booked is not booked twice.")
	}
	return err
}

// interruptible is a reader that ends with ctx, also while nothing comes.
func interruptible(ctx context.Context, from io.Reader) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, from)
		_ = w.CloseWithError(err) // nil is the end
	}()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	return r
}

// line is a call as it is written: its cells by the names of their columns, without those that are NULL.
type line map[string]string

// ignored are the columns of an export that an import reckons itself, or has no use for.
var ignored = []string{"status", "idempotency_key", "deadline_at", "finished_at", "settled_at", "held_cost", "held_charge", "held_tokens", "tokens", "calls",
	"price", "overrun_cost", "overrun_charge", "overrun_tokens", "unpriced", "reason", "corrects"}

// calls are the calls of a file. The number is of the line that was read last.
func (c *importCommand) calls(ctx context.Context, lines iter.Seq2[line, error], number, leftOut *int64) iter.Seq2[tenant.ImportedCall, error] {
	return func(yield func(tenant.ImportedCall, error) bool) {
		for cells, err := range lines {
			*number++
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && cells["status"] == "adjusted" {
				*leftOut++
				continue
			}
			var call tenant.ImportedCall
			if err == nil {
				call, err = cells.call()
			}
			if err == nil && !call.Actual.Charge.IsSet() && !c.given() {
				err = wrong("it has no charge, and a charge goes by the tenant's terms, which are the program's: give --terms FILE, or --no-terms to charge what it costs")
			}
			if !yield(call, err) || err != nil {
				return
			}
		}
	}
}

// call makes a call of a line.
func (l line) call() (c tenant.ImportedCall, err error) {
	a, u := &c.Actual, &c.Actual.Usage
	counts := map[string]*int64{
		"input_tokens": &u.Input, "cache_read_tokens": &u.CacheRead, "cache_read_audio_tokens": &u.CacheReadAudio, "cache_write_5m_tokens": &u.CacheWrite5m,
		"cache_write_1h_tokens": &u.CacheWrite1h, "output_tokens": &u.Output, "reasoning_tokens": &u.Reasoning, "input_audio_tokens": &u.InputAudio,
		"output_audio_tokens": &u.OutputAudio, "input_image_tokens": &u.InputImage, "output_image_tokens": &u.OutputImage, "web_searches": &u.WebSearches,
	}
	texts := map[string]*string{
		"id": &c.ID, "agent": &c.Agent, "actor": &c.Actor, "provider": &a.Provider, "request_id": &a.RequestID, "service_tier": &a.ServiceTier, "error_code": &a.ErrorCode,
	}
	amounts := map[string]*tenant.Money{"cost": &a.Cost, "charge": &a.Charge, "reported_cost": &a.ReportedCost}
	for name, value := range l {
		err := error(nil)
		switch {
		case counts[name] != nil:
			*counts[name], err = strconv.ParseInt(value, 10, 64)
		case texts[name] != nil:
			*texts[name] = value
		case amounts[name] != nil:
			err = amounts[name].UnmarshalText([]byte(value))
		case name == "tenant_id":
			if value != "" {
				c.Tenant = tenant.ID(value)
			}
		case name == "admitted_at":
			c.At, err = time.Parse(time.RFC3339, value)
		case name == "model":
			a.Model, c.AskedModel = value, value
		case name == "billed_model": // below
		case name == "tags":
			err = json.Unmarshal([]byte(value), &c.Tags)
		case name == "units":
			err = json.Unmarshal([]byte(value), &u.Units)
		case name == "latency_us":
			var micros int64
			micros, err = strconv.ParseInt(value, 10, 64)
			a.Duration = time.Duration(micros) * time.Microsecond
		case name == "estimated":
			a.Estimated, err = strconv.ParseBool(value)
		case slices.Contains(ignored, name):
		default:
			return c, wrong("there is no column %q in an export", name)
		}
		if err != nil {
			return c, wrong("%s: %s", name, causeOfValue(err, value))
		}
	}
	if billed := l["billed_model"]; billed != "" {
		a.Model = billed
	}
	if c.At.IsZero() {
		return c, wrong("admitted_at is missing: when the call was made, as 2026-03-08T10:00:00Z")
	}
	return c, nil
}

// causeOfValue says what is wrong with a value.
func causeOfValue(err error, value string) string {
	if errors.Is(err, tenant.ErrInvalidOption) {
		return explain(err)
	}
	return fmt.Sprintf("%.60q cannot be read", value)
}

// longestLine is how long a line may be.
const longestLine = 1 << 20

// fromNDJSON reads an object from each line that is not empty.
func fromNDJSON(in io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		s := bufio.NewScanner(in)
		s.Buffer(nil, longestLine)
		for s.Scan() {
			text := bytes.TrimSpace(s.Bytes())
			if len(text) == 0 {
				continue
			}
			cells, err := fromObject(text)
			if !yield(cells, err) || err != nil {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func fromObject(text []byte) (line, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, wrong("it is no JSON object: %v", err)
	}
	cells := line{}
	for name, value := range object {
		var s string
		switch {
		case string(value) == "null":
			continue
		case json.Unmarshal(value, &s) == nil:
			cells[name] = s
		default:
			cells[name] = string(value) // a number, to the digit; tags and units
		}
	}
	return cells, nil
}

// fromCSV reads lines below a header. An empty cell is NULL, and the apostrophe in front of what a spreadsheet would run goes.
func fromCSV(in io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		r := csv.NewReader(in)
		r.ReuseRecord = true
		head, err := r.Read()
		head = slices.Clone(head)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				yield(nil, wrong("%v", err))
			}
			return
		}
		for {
			record, err := r.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, wrong("%v", err))
				return
			}
			cells := line{}
			for i, value := range record {
				if value == "" {
					continue
				}
				cells[head[i]] = unguarded(value)
			}
			if !yield(cells, nil) {
				return
			}
		}
	}
}

// unguarded is a text without the apostrophe that an export puts in front of what a spreadsheet would run.
func unguarded(s string) string {
	rest, guarded := strings.CutPrefix(s, "'")
	if !guarded || rest == "" {
		return s
	}
	first, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(rest, func(r rune) bool { return r > ' ' && !unicode.IsPrint(r) || unicode.IsSpace(r) }))
	if strings.ContainsRune("\t\r\n", rune(rest[0])) || strings.ContainsRune("=+-@\uff1d\uff0b\uff0d\uff20\u2212", first) && first != utf8.RuneError {
		return rest
	}
	return s
}
