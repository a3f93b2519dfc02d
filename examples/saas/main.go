// Saas is a small web service whose customers are LLM tenants: they sign up, chat, see what they have used, and take a larger
// plan; its operators have a dashboard.
//
//	go run ./examples/saas
//
// It calls OpenAI where OPENAI_API_KEY is set, and otherwise a server of its own that speaks the same format. Accounts and
// books are kept in the file tenant-saas.db, or where -db says; several instances may use one database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	tenantopenai "github.com/llmtenant/tenant/adapters/openai"
	"github.com/llmtenant/tenant/examples/internal/database"
	"github.com/llmtenant/tenant/examples/internal/localmodel"
	"github.com/llmtenant/tenant/pricing"
)

const model = "gpt-4.1-mini"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "saas:", strings.Join(strings.Fields(err.Error()), " ")) // in one line
		os.Exit(1)
	}
}

// config is what the command line and the environment say.
type config struct {
	addr, db, adminKey string
	lease, pace        time.Duration
}

func configOf(args []string, out io.Writer) (c config, err error) {
	flags := flag.NewFlagSet("saas", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "where to listen, `host:port`")
	flags.StringVar(&c.db, "db", "tenant-saas.db", "where accounts and books are kept: a SQLite `file`, or a postgres:// URL")
	flags.DurationVar(&c.lease, "lease", 30*time.Second, "how long calls of an instance that was killed are held before they are charged")
	flags.DurationVar(&c.pace, "pace", 30*time.Millisecond, "how long the local server takes over each word")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	// Not a flag: those are seen in the list of processes.
	if c.adminKey = os.Getenv("SAAS_ADMIN_KEY"); c.adminKey == "" {
		c.adminKey, err = newKey()
	}
	return c, err
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	c, err := configOf(args, out)
	if err != nil {
		return err
	}
	db, where, err := database.Open(c.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close(db)) }()
	ledger, err := openLedger(ctx, db, c.lease)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(ledger)) }()

	client, local, err := newClient(ctx, c.pace)
	if err != nil {
		return err
	}
	if local != nil {
		defer local.Close()
	}
	gpt, err := tenantopenai.NewModel(client, model)
	if err != nil {
		return err
	}
	agent, err := tenant.NewAgent(ledger, gpt, tenant.WithAgent("chat"), tenant.WithMaxTokens(200), tenant.RequireTenant(),
		tenant.WithSystem("Answer in two sentences."))
	if err != nil {
		return err
	}
	s := &service{db: db, ledger: ledger, agent: agent, adminKey: c.adminKey, log: slog.Default()}
	handler, err := s.handler()
	if err != nil {
		return err
	}

	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	at := "http://" + listener.Addr().String()
	_, _ = fmt.Fprintf(out, "Database   %s\nModel      %s\nCustomers  %s/\n", where, modelText(local), at)
	if os.Getenv("SAAS_ADMIN_KEY") == "" {
		_, _ = fmt.Fprintf(out, "Dashboard  %s/admin/ with the key %s\n", at, c.adminKey)
	} else {
		_, _ = fmt.Fprintf(out, "Dashboard  %s/admin/ with the key of SAAS_ADMIN_KEY\n", at)
	}
	return serve(ctx, listener, handler)
}

func modelText(local *localmodel.Server) string {
	if local == nil {
		return model
	}
	return model + ", played by a local server, because OPENAI_API_KEY is not set"
}

// openLedger prepares the database, whichever instance comes first.
func openLedger(ctx context.Context, db *gorm.DB, lease time.Duration) (*tenant.Ledger, error) {
	if err := createTables(ctx, db); err != nil {
		return nil, fmt.Errorf("create the tables of accounts: %w", err)
	}
	ledger, err := tenant.Open(db, tenant.WithPrices(pricing.Default()), tenant.WithKnownTenantsOnly(), tenant.WithLease(lease))
	if err != nil {
		return nil, err
	}
	err = ledger.Migrate(ctx)
	if err == nil {
		err = ledger.Register(&Organization{}, tenant.WithKey("Slug"), tenant.WithName("Name"), tenant.WithBudgetFunc(planBudget))
	}
	if err != nil {
		return nil, errors.Join(err, closeLedger(ledger))
	}
	return ledger, nil
}

// closeLedger waits until everything is on the books, but not for ever. What is not says so in the error.
func closeLedger(ledger *tenant.Ledger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return ledger.Close(ctx)
}

// serve serves until ctx ends, and then lets the requests end that run.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	slow, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if server.Shutdown(slow) != nil {
		_ = server.Close() // their contexts end, and their calls are booked as far as they went
	}
	return nil
}

// newClient returns a client of OpenAI's API, or else of a local server.
func newClient(ctx context.Context, pace time.Duration) (openai.Client, *localmodel.Server, error) {
	if os.Getenv("OPENAI_API_KEY") != "" {
		return openai.NewClient(), nil, nil
	}
	local, err := localmodel.Start(ctx, localmodel.Options{Pace: pace})
	if err != nil {
		return openai.Client{}, nil, err
	}
	return openai.NewClient(option.WithBaseURL(local.URL), option.WithAPIKey("none")), local, nil
}
