package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui"
)

// dashboard measures the overview of books of 13 months, whole pages of it, beside the sums of the executions that it replaces.
func (b *bench) dashboard(ctx context.Context) (_ []Figure, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	s, err := attach(postgres.Open(url), asked)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.fill(ctx, b.executions, 1); err != nil {
		return nil, err
	}
	staff := func(*http.Request) (tenantui.Viewer, error) { return tenantui.Viewer{Actor: "bench", All: true}, nil }
	ui, err := tenantui.New(s.ledger, tenantui.Options{Authorize: staff, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf(" of %d executions", b.executions)
	var figures []Figure
	for _, page := range []struct {
		key, name, address string
		days               int
	}{{"dashboard_overview", "the overview of 30 days", "/", 30}, {"dashboard_overview_year", "the overview of 12 months", "/?days=365", 365}} {
		own, err := median(11, func() error { return shown(ctx, ui, page.address) })
		if err != nil {
			return nil, err
		}
		raw, err := s.overviewSums(ctx, page.days)
		if err != nil {
			return nil, err
		}
		figures = append(figures, Figure{Key: page.key, Name: page.name + at, Unit: "us", Value: own, Baseline: raw, Against: "the sums of the executions that it replaces"})
	}
	return figures, nil
}

// shown opens a page.
func shown(ctx context.Context, ui http.Handler, address string) error {
	w := httptest.NewRecorder()
	ui.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, address, nil))
	if w.Code != http.StatusOK {
		return fmt.Errorf("%s is answered with %d: %s", address, w.Code, w.Body)
	}
	return nil
}

// overviewSums is how long it takes to add up of the executions what the overview of some days shows: by day, by model, by
// agent and by tenant, each with the days before; today, the month, and the last 30 days.
func (s *books) overviewSums(ctx context.Context, days int) (took float64, err error) {
	end := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	since := func(days int) tenant.Period { return tenant.Between(end.AddDate(0, 0, -days), end) }
	model := "CASE billed_model WHEN '' THEN model ELSE billed_model END"
	for _, sum := range []struct {
		period tenant.Period
		group  string
	}{{since(2 * days), s.day()}, {since(2 * days), model}, {since(2 * days), "agent"}, {since(2 * days), "tenant"}, {since(2), s.day()}, {since(60), s.day()}, {since(30), s.day()}} {
		one, _, err := s.raw(ctx, inquiry{query: tenant.Query{Everybody: true, Period: sum.period}, group: sum.group})
		if err != nil {
			return 0, err
		}
		took += one
	}
	return took, nil
}
