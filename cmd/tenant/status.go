package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

type migrateCommand struct {
	DryRun bool `help:"Show what would be applied, and write nothing."`
}

// migrated is what migrate prints as JSON.
type migrated struct {
	Database        string
	From, To        int64
	Places          []string `json:",omitempty"` // which were behind
	Changed, DryRun bool
}

func (c *migrateCommand) Run(ctx context.Context, a *app) error {
	l, end, err := a.openOn(ctx, !c.DryRun, nil)
	if err != nil {
		return err
	}
	defer end()
	before, err := l.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	if before.Applied > before.Latest {
		return l.suits(ctx)
	}
	if !c.DryRun {
		if err := l.Migrate(ctx); err != nil {
			return err
		}
	}
	m := migrated{Database: l.name, From: before.Applied, To: before.Latest, Places: before.Behind(), Changed: (before.Applied < before.Latest || len(before.Behind()) > 0) && !c.DryRun, DryRun: c.DryRun}
	switch {
	case a.JSON:
		a.out.json(m)
	case len(m.Places) > 0:
		a.out.say("%s was brought to version %d, with the places %s.", plain(m.Database), m.To, strings.Join(m.Places, ", "))
	case m.From == m.To:
		a.out.say("%s is up to date: version %d.", plain(m.Database), m.To)
	case c.DryRun:
		a.out.say("%s would be brought from version %d to %d. Nothing was written.", plain(m.Database), m.From, m.To)
	default:
		a.out.say("%s was brought from version %d to %d.", plain(m.Database), m.From, m.To)
	}
	return nil
}

type statusCommand struct{}

// status is what status prints as JSON.
type status struct {
	Database   string
	Tables     tenant.MigrationStatus
	Processes  []tenant.Process
	Running    tenant.RunningCalls
	Overruns   int64                // of this month
	LastVerify *tenant.Verification `json:",omitempty"`
	NearLimits []tenant.NearLimit
}

const nearLimits = 20

func (c *statusCommand) Run(ctx context.Context, a *app) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	s := status{Database: l.name}
	if s.Tables, err = l.MigrationStatus(ctx); err != nil {
		return err
	}
	if s.Running, err = tenant.Running(ctx, l.db); err != nil {
		return err
	}
	if s.Processes, err = tenant.Processes(ctx, l.db); err != nil {
		return err
	}
	if s.Overruns, err = tenant.Overruns(ctx, l.db, tenant.ThisMonth); err != nil {
		return err
	}
	last, found, err := tenant.LastVerify(ctx, l.db)
	if err != nil {
		return err
	}
	if found {
		s.LastVerify = &last
	}
	if s.NearLimits, err = tenant.NearLimits(ctx, l.db, tenant.LimitList{Limit: nearLimits}); err != nil {
		return err
	}
	if a.JSON {
		a.out.json(s)
		return nil
	}
	s.print(a, l.zone)
	return nil
}

func (s *status) print(a *app, zone *time.Location) {
	version := "made by another tool"
	if s.Tables.Applied > 0 {
		version = "version " + number(s.Tables.Applied)
	}
	running := fmt.Sprintf("%d, holding %s US dollars and %d tokens", s.Running.Calls, dollars(s.Running.Charge), s.Running.Tokens)
	if s.Running.Overdue > 0 {
		running += fmt.Sprintf("; %d past their deadline", s.Running.Overdue)
	}
	verified := "never"
	if v := s.LastVerify; v != nil {
		verified = fmt.Sprintf("%s by %s, differences: %d", instant(v.EndedAt, zone), plain(v.Actor), v.Differences)
	}
	a.out.say("Database       %s", plain(s.Database))
	a.out.say("Tables         %s", version)
	if len(s.Tables.Places) > 0 {
		a.out.say("Places         %s", strings.Join(slices.Sorted(maps.Keys(s.Tables.Places)), ", "))
	}
	a.out.say("Running calls  %s", running)
	a.out.say("Overruns       %d this month", s.Overruns)
	a.out.say("Last verify    %s", verified)
	a.out.say("")
	a.out.say("%s", zoned("Processes that have the ledger open", zone.String()))
	t := &table{head: []string{"Process", "Started", "Last heartbeat", "Alive"}}
	for _, p := range s.Processes {
		t.add(p.ID, instant(p.StartedAt, zone), instant(p.BeatAt, zone), yes(p.Alive))
	}
	t.write(a.out, "none")
	a.out.say("")
	a.out.say("Limits of which 80 %% or more is spent")
	t = &table{head: []string{"Tenant", "Name", "Limit", "#Limit", "#Spent", "#Held", "#Left", "#%"}}
	for _, n := range s.NearLimits {
		t.add(n.TenantID, n.Name, limitName(n.LimitStatus), amount(n.Metric, n.Limit), amount(n.Metric, n.Spent), amount(n.Metric, n.Held), amount(n.Metric, n.Remaining), n.Percent.String())
	}
	t.write(a.out, "none")
}

// limitName says what a limit counts: "day cost", "month tokens of agent support".
func limitName(l tenant.LimitStatus) string {
	s := []string{string(l.Window), string(l.Metric)}
	if l.Agent != "" {
		s = append(s, "of agent", l.Agent)
	}
	if l.Model != "" {
		s = append(s, "of model", l.Model)
	}
	return strings.Join(s, " ")
}
