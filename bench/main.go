// Command bench measures what the ledger costs, each figure beside its baseline in the same run, on PostgreSQL with full
// durability (and SQLite for the figure that says so):
//
//	go run ./bench            # a throw-away server of its own
//	go run ./bench -json      # one object with stable keys
//	go run ./bench -db postgres://… -duration 10s
//
// The books are verified after every measurement; a difference ends the run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// Figure is one thing that was measured, and the baseline beside it.
type Figure struct {
	Key      string  `json:"key"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Baseline float64 `json:"baseline,omitempty"`
	Against  string  `json:"against,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // value / baseline
}

// Report is the whole run.
type Report struct {
	Go       string        `json:"go"`
	CPUs     int           `json:"cpus"`
	Server   string        `json:"server"`
	Duration time.Duration `json:"duration_ns"` // of each measurement
	Figures  []Figure      `json:"figures"`
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	url := flags.String("db", "", "the `URL` of a PostgreSQL server on which databases may be created; empty: a throw-away one")
	duration := flags.Duration("duration", 5*time.Second, "how long each measurement lasts")
	asJSON := flags.Bool("json", false, "print one JSON object")
	only := flags.String("only", "", "measure only figures whose key contains this `text`")
	executions := flags.Int("executions", 5_000_000, "how many executions the large database of the questions has")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := open(ctx, *url)
	if err != nil {
		return err
	}
	defer b.close()
	b.duration, b.executions = *duration, *executions
	report := Report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Duration: *duration}
	if report.Server, err = b.version(ctx); err != nil {
		return err
	}
	for _, m := range measurements {
		if !strings.Contains(m.key, *only) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", m.key)
		figures, err := m.measure(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.key, err)
		}
		for _, f := range figures {
			if f.Baseline != 0 {
				f.Ratio = f.Value / f.Baseline
			}
			report.Figures = append(report.Figures, f)
		}
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	return report.print()
}

func (r *Report) print() error {
	fmt.Printf("%s, %d CPUs, %s, %v each\n\n", r.Go, r.CPUs, r.Server, r.Duration)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, f := range r.Figures {
		row := fmt.Sprintf("%s\t%.*f %s\t", f.Name, digits(f.Value), f.Value, f.Unit)
		if f.Baseline != 0 {
			row += fmt.Sprintf("%s\tof %.*f %s\t%s\t", ratio(f.Ratio), digits(f.Baseline), f.Baseline, f.Unit, f.Against)
		} else {
			row += "\t\t\t"
		}
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	return w.Flush()
}

func ratio(r float64) string {
	if r > 0 && r < 0.1 {
		return fmt.Sprintf("1/%.0f", 1/r)
	}
	return fmt.Sprintf("%.2f x", r)
}

func digits(v float64) int {
	if v < 100 {
		return 2
	}
	return 0
}
