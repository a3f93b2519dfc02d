package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

const description = `Operates the books of the Go library tenant: LLM budgets and usage by tenant.

The database is named by $TENANT_DATABASE_URL, --database-file or --database: postgres://user@host/database or sqlite:FILE.
"tenant show acme" is short for "tenant tenant show acme".

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differences found, 4 no such tenant, 130 interrupted, 141 the reader of the output has gone.`

// cli is the command line.
type cli struct {
	Database     string `short:"d" placeholder:"URL" help:"The database, postgres://user@host/database or sqlite:FILE. Without a password: others see it. Defaults to $$TENANT_DATABASE_URL."`
	DatabaseFile string `placeholder:"FILE" help:"A file with the URL of the database, which may have a password."`
	TimeZone     string `env:"TENANT_TIME_ZONE" placeholder:"ZONE" help:"The ledger's time zone (WithDefaultTimeZone). Defaults to the one that its programs have saved."`
	WeekStart    string `env:"TENANT_WEEK_START" enum:",monday,sunday" default:"" placeholder:"DAY" help:"The day on which the ledger's weeks begin, monday or sunday (WithWeekStart). Defaults to the one that its programs have saved."`
	JSON         bool   `help:"Print JSON in the place of tables."`
	Quiet        bool   `short:"q" help:"Tell nothing of progress."`
	Actor        string `name:"actor" placeholder:"NAME" help:"Who acts, for the audit log. Defaults to the user of this machine."`

	Migrate migrateCommand `cmd:"" help:"Make the ledger's tables, or bring them up to date."`
	Status  statusCommand  `cmd:"" help:"Show the state of the books: version, processes, running calls, last verification, limits that are near."`
	Tenant  tenantCommands `cmd:"" help:"Show and change tenants."`
	Usage   usageCommand   `cmd:"" help:"Answer who used what, by time, tenant, agent, model and more."`
	Export  exportCommand  `cmd:"" help:"Write executions as CSV or NDJSON."`
	Import  importCommand  `cmd:"" help:"Book calls that were made elsewhere, each once."`

	Prices   pricesCommands  `cmd:"" help:"Show and compare prices."`
	Reprice  repriceCommand  `cmd:"" help:"Correct what calls cost and were charged, by the price book as it is now."`
	Backfill backfillCommand `cmd:"" help:"Give the records of a table their budgets."`

	Verify verifyCommand `cmd:"" help:"Compare balances and roll-up with the executions."`
	Repair repairCommand `cmd:"" help:"Set balances and roll-up to what the executions add up to."`
	Prune  pruneCommand  `cmd:"" help:"Replace old executions by what they add up to."`
	Erase  eraseCommand  `cmd:"" help:"Take all out of the books that names a tenant."`

	Serve      serveCommand      `cmd:"" help:"Serve the dashboard on this machine."`
	Completion completionCommand `cmd:"" help:"Print the completion of a shell."`
}

type tenantCommands struct {
	List     listCommand     `cmd:"" help:"List tenants, with what they were charged."`
	Show     showCommand     `cmd:"" help:"Show a tenant: its settings, its limits and what they stand at."`
	History  historyCommand  `cmd:"" help:"Show the changes of a tenant: who, when, why."`
	SetLimit setLimitCommand `cmd:"" help:"Set or take away limits of a tenant, or say how they are enforced."`
	TopUp    topUpCommand    `cmd:"" help:"Give more room under a limit until its window ends."`
	Credit   creditCommand   `cmd:"" help:"Give a tenant back an amount."`
	Debit    debitCommand    `cmd:"" help:"Charge a tenant an amount that no call has cost."`
	Suspend  suspendCommand  `cmd:"" help:"Let a tenant make no calls."`
	Resume   resumeCommand   `cmd:"" help:"Let a suspended tenant make calls again."`
	Rename   renameCommand   `cmd:"" help:"Give a tenant another id."`
	Move     moveCommand     `cmd:"" help:"Take a tenant, with all below it, to another place of the books."`
}

// tenantArgument is the tenant that a command is about.
type tenantArgument struct {
	ID string `arg:"" name:"tenant" help:"The tenant's id."`
}

func (t tenantArgument) tenant() tenant.ID { return tenant.ID(t.ID) }

const periodHelp = "today, yesterday, this-week, last-week, this-month, last-month, all, a day (2026-03-08), a month (2026-03), or FROM..TO of days (both included) or of times (2026-03-08T10:00:00Z, TO excluded)"

// period reads a period.
func period(s string) (tenant.Period, error) {
	for name, p := range map[string]tenant.Calendar{
		"today": tenant.Today, "yesterday": tenant.Yesterday, "this-week": tenant.ThisWeek, "last-week": tenant.LastWeek,
		"this-month": tenant.ThisMonth, "last-month": tenant.LastMonth, "all": tenant.AllTime,
	} {
		if s == name {
			return p, nil
		}
	}
	cannot := wrong("--period: %q is none of %s", s, periodHelp)
	from, to, both := strings.Cut(s, "..")
	if !both {
		if day, err := time.Parse(time.DateOnly, s); err == nil {
			return tenant.Date(day.Date()), nil
		}
		month, err := time.Parse("2006-01", s)
		if err != nil {
			return nil, cannot
		}
		return tenant.Date(month.Date()).Through(month.AddDate(0, 1, -1).Date()), nil
	}
	first, err1 := time.Parse(time.DateOnly, from)
	last, err2 := time.Parse(time.DateOnly, to)
	if err1 == nil && err2 == nil {
		return tenant.Date(first.Date()).Through(last.Date()), nil
	}
	first, err1 = time.Parse(time.RFC3339, from)
	last, err2 = time.Parse(time.RFC3339, to)
	if err1 != nil || err2 != nil {
		return nil, cannot
	}
	return tenant.Between(first, last), nil
}

// zoned is a title with the zone that the times below it are in.
func zoned(title, zone string) string { return fmt.Sprintf("%s (times in %s)", title, zone) }
