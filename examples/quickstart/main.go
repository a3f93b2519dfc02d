// Quickstart declares a tenant, makes calls for two of them, shows what each cost, and is stopped at a limit.
//
//	go run ./examples/quickstart
//
// It calls OpenAI where OPENAI_API_KEY is set, and otherwise a server of its own that speaks the same format. The books
// are kept in the file tenant-quickstart.db, or where -db says; run it again, and they are still there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmtenant/tenant"
	tenantopenai "github.com/llmtenant/tenant/adapters/openai"
	"github.com/llmtenant/tenant/examples/internal/database"
	"github.com/llmtenant/tenant/examples/internal/localmodel"
	"github.com/llmtenant/tenant/pricing"
)

// Organization is the program's own model, and a tenant of its LLM bill.
type Organization struct {
	ID   int64 `gorm:"primaryKey"`
	Slug string
	Name string
}

// LLMTenantID makes it a tenant.Tenant.
func (o *Organization) LLMTenantID() string { return o.Slug }

// TableName keeps the example out of the way of other tables.
func (*Organization) TableName() string { return "quickstart_organizations" }

const model = "gpt-4.1-mini"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", strings.Join(strings.Fields(err.Error()), " ")) // in one line
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	where := flags.String("db", "tenant-quickstart.db", "where the books are kept: a SQLite `file`, or a postgres:// URL")
	kill := flags.Bool("kill-server", false, "let the local server die in the middle of its second call")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	// The host's own database, with its own table.
	db, books, err := database.Open(*where)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close(db)) }()
	if err := createTables(ctx, db); err != nil {
		return fmt.Errorf("create the table of organizations: %w", err)
	}

	// The ledger on it.
	// The tables below say how far the budgets are used up, so no threshold has to.
	ledger, err := tenant.Open(db, tenant.WithPrices(pricing.Default()), tenant.WithKnownTenantsOnly(), tenant.WithThresholds())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(ledger)) }()
	if err := ledger.Migrate(ctx); err != nil {
		return fmt.Errorf("create the ledger's tables: %w", err)
	}
	err = ledger.Register(&Organization{},
		tenant.WithKey("Slug"),
		tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("0.001")}),
		tenant.WithEnforcement(tenant.Hard))
	if err != nil {
		return err
	}

	// Two organizations, whose budgets are created with them. The second one has paid for more.
	acme, err := findOrCreate(ctx, db, Organization{ID: 1, Slug: "acme", Name: "Acme"})
	if err != nil {
		return err
	}
	globex, err := findOrCreate(ctx, db, Organization{ID: 2, Slug: "globex", Name: "Globex"})
	if err != nil {
		return err
	}
	err = tenant.ConfigureBudget(ctx, db, globex, func(b *tenant.Budget) error {
		b.Limits.DailyCost = tenant.USD("5")
		return nil
	})
	if err != nil {
		return err
	}

	// An agent on a model, over HTTP.
	client, server, err := newClient(ctx, *kill)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
	}
	gpt, err := tenantopenai.NewModel(client, model)
	if err != nil {
		return err
	}
	agent, err := tenant.NewAgent(ledger, gpt,
		tenant.WithAgent("quickstart"),
		tenant.WithSystem("Answer in two sentences."),
		tenant.WithMaxTokens(200))
	if err != nil {
		return err
	}

	p := printer{db: db, out: out}
	p.header(books, server)
	if err := p.standing(ctx, "So far", acme, globex); err != nil {
		return err
	}
	err = converse(ctx, p, agent, acme,
		"What is a ledger?", "What does it mean to hold an amount?", "Why is money kept in whole numbers?",
		"What is a token?", "What is an upper bound?", "Why is the sky blue?")
	if err != nil {
		return err
	}
	err = converse(ctx, p, agent, globex, "What is a tenant?", "What is a budget?")
	if err != nil {
		return err
	}
	return p.standing(ctx, "Now", acme, globex)
}

// converse asks the model one question after the other on behalf of an organization, until its budget is used up.
func converse(ctx context.Context, p printer, agent *tenant.Agent, org *Organization, questions ...string) error {
	p.begin(org)
	for _, question := range questions {
		reply, err := agent.Call(ctx, question, tenant.WithTenant(org))
		var exceeded *tenant.BudgetExceededError
		switch {
		case errors.As(err, &exceeded):
			p.refused(question, exceeded)
			return nil
		case err != nil:
			return explain(org, err)
		}
		p.answered(question, reply)
	}
	return nil
}

// explain says what a failed call means for the organization that it was made for.
func explain(org *Organization, err error) error {
	var failed *tenant.CallError
	if !errors.As(err, &failed) {
		return fmt.Errorf("a call for %s was not made: %w", org.Slug, err)
	}
	charge := "nothing is charged for it"
	if failed.Estimated {
		charge = fmt.Sprintf("nobody knows what it used, so %s is charged what the call held, %s", org.Slug, dollars(failed.Cost))
	}
	return fmt.Errorf("a call for %s failed: %w; %s (execution %s)", org.Slug, failed.Err, charge, failed.ExecutionID)
}

// newClient returns a client of OpenAI's API, or else of a local server.
func newClient(ctx context.Context, kill bool) (openai.Client, *localmodel.Server, error) {
	if os.Getenv("OPENAI_API_KEY") != "" {
		if kill {
			return openai.Client{}, nil, errors.New("-kill-server is for the local server, and OPENAI_API_KEY is set: unset it")
		}
		return openai.NewClient(), nil, nil
	}
	var options localmodel.Options
	if kill {
		options.DieInCall = 2
	}
	server, err := localmodel.Start(ctx, options)
	if err != nil {
		return openai.Client{}, nil, err
	}
	return openai.NewClient(option.WithBaseURL(server.URL), option.WithAPIKey("none")), server, nil
}

// closeLedger waits until everything is on the books, but not for ever.
func closeLedger(ledger *tenant.Ledger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return ledger.Close(ctx)
}
