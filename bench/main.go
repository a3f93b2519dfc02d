// Command bench measures what the ledger costs, each figure beside its baseline in the same run, on PostgreSQL with full
// durability (and SQLite for the figures that say so):
//
//	go run ./bench                      # a throw-away server of its own
//	go run ./bench -json                # one object with stable keys
//	go run ./bench -only hot,load       # some of the measurements
//	go run ./bench -db postgres://… -duration 10s
//	go run ./bench -profile profiles    # where the time and the memory of the hot path go
//
// The books are verified after every measurement; a difference ends the run, and so does an error of any call.
// docs/performance.md says how each figure is measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	runtime.MemProfileRate = 0 // until there is something to profile
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		err = work(ctx, os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var names []string
	for _, m := range measurements {
		names = append(names, m.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		url        = flags.String("db", "", "the `URL` of a PostgreSQL server on which databases may be created; empty: a throw-away one")
		duration   = flags.Duration("duration", 5*time.Second, "how long each measurement lasts")
		asJSON     = flags.Bool("json", false, "print one JSON object")
		only       = flags.String("only", strings.Join(names, ","), "the measurements to make, by `name`")
		executions = flags.Int("executions", 5_000_000, "how many executions the large database of the questions has")
		tenants    = flags.Int("tenants", 100_000, "how many tenants the ledger has seen whose memory is measured")
		citus      = flags.String("citus", "", "the `URL` of a database on a Citus coordinator on this machine, for -only places; empty: it is left out")
		age        = flags.Duration("age", 5*time.Minute, "how old the snapshot is beside which a hot tenant is measured")
		profiles   = flags.String("profile", "", "measure nothing, and write profiles of the hot tenant's calls (with -only many: of the 1,000 tenants') to a `folder`")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := strings.Split(*only, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only: there is no measurement %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	b, err := open(ctx, *url)
	if err != nil {
		return err
	}
	defer b.close()
	b.duration, b.age, b.executions, b.tenants, b.citus = *duration, *age, *executions, *tenants, *citus
	if *profiles != "" {
		w := hot
		if *only == many.name {
			w = many
		}
		return b.profile(ctx, w, *profiles)
	}
	report := Report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Duration: *duration}
	if report.Server, err = b.version(ctx); err != nil {
		return err
	}
	for _, m := range measurements {
		if !slices.Contains(wanted, m.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", m.name)
		figures, err := m.measure(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for _, f := range figures {
			f.Ratio = f.Value / f.Baseline
			report.Figures = append(report.Figures, f)
		}
	}
	if *asJSON {
		return json.NewEncoder(out).Encode(report)
	}
	return report.print(out)
}
