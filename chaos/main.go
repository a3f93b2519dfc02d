// Chaos makes calls from several processes, through the ledger and through the HTTP transport, and, meanwhile, all the
// trouble that it can: it kills and stops processes, restarts Postgres without a shutdown, breaks connections, sits on
// rows, changes limits, moves tenants to other places, sets the clocks of the processes hours apart, and puts the database's clock forward, so that days
// and months end, and clocks change; and in the end, after a kill, back.
//
// Between the processes and the database there is a proxy, by which any statement fails with any SQLSTATE, requests are
// carried out and not answered, logins are led to a database that there is not, and the server's restarts are told as
// pgpool-II tells them. In the database passwords change, roles may not log in or insert, triggers raise, tables have other
// names, no login is let in, and no further connection is to be had.
//
// On Citus (-db with the URL of a coordinator's empty database, -places 2, -jump 0) there is a proxy before each node as well, by which also the
// nodes reach one another. Nodes and the coordinator are away for seconds, places move from node to node, and nodes are killed by
// a command that is given.
//
// Meanwhile and in the end it checks from the rows that the ledger has kept its promises: no admission passed a limit, no
// acknowledged settle is missing, no call is dropped that is pending or whose caller has the reply, nobody ends the calls
// of a process that lives, all sums agree, times and windows are those of the database's clock, and no hold is left.
//
//	go run ./chaos -seed 1 -duration 20s
//
// What it does is drawn from the seed; what comes of it also depends on the machine. It exits with 1 if a promise was
// broken, and with 2 if the run could not be made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/migrations"
)

func main() {
	if isWorker() {
		os.Exit(workerMain())
	}
	os.Exit(command())
}

// defaults are the run that the flags change.
func defaults() config {
	return config{Seed: 1, Duration: 20 * time.Second, Workers: 6, Goroutines: 32, Cold: 20, Apart: 12 * time.Hour, Jump: 4 * time.Second, Faults: true, Patience: 2 * time.Minute}
}

func command() int {
	c := defaults()
	flag.Uint64Var(&c.Seed, "seed", c.Seed, "what the calls and the trouble are drawn from")
	flag.DurationVar(&c.Duration, "duration", c.Duration, "how long there is trouble")
	flag.IntVar(&c.Workers, "processes", c.Workers, "worker processes")
	flag.IntVar(&c.Goroutines, "goroutines", c.Goroutines, "callers in each process")
	flag.IntVar(&c.Cold, "tenants", c.Cold, "tenants beside the hot one")
	flag.DurationVar(&c.Apart, "apart", c.Apart, "how far the clocks of the processes are from the database's: evenly spread from so far behind it to so far ahead")
	flag.DurationVar(&c.Jump, "jump", c.Jump, "about how often the database's clock is put forward: in turn to just before a month ends, by 26 hours, and by 1 to 8; 0: never")
	flag.BoolVar(&c.Faults, "faults", c.Faults, "whether the database refuses logins, statements fail, and tables are gone for a while")
	flag.IntVar(&c.Places, "places", c.Places, "how many places the tenants' books are in, between which they are moved meanwhile; 0: all is in the home")
	flag.StringVar(&c.RestartNode, "restart-node", "", "`command` that kills the node of Citus at $NODE_HOST and $NODE_PORT and starts it again; default: none is killed, they are cut off only")
	flag.DurationVar(&c.Patience, "patience", c.Patience, "how long the end of all calls is waited for")
	flag.StringVar(&c.URL, "db", "", "`URL` of an empty database to use, also of Citus, whose server is not restarted; default: a throw-away server")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	violations, err := withServer(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	}
	if len(violations) > 0 {
		fmt.Print(report(violations))
		return 1
	}
	fmt.Println("every promise was kept")
	return 0
}

// withServer runs on the server that the config names, or else on a new one.
func withServer(ctx context.Context, c config) (violations []string, err error) {
	if c.URL != "" {
		db, ledger, err := open(c.URL, "UTC", 0, time.Now)
		if err != nil {
			return nil, err
		}
		pool, err := db.DB()
		if err == nil {
			err = migrations.Up(ctx, pool, "postgres")
		}
		if err = errors.Join(err, ledger.Close(ctx)); err != nil {
			return nil, err
		}
		return run(ctx, c, os.Stdout)
	}
	server, err := pgtest.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	c.URL = server.URL()
	c.Restart = func(ctx context.Context) error { return server.Restart(ctx, pgtest.Immediate) }
	return run(ctx, c, os.Stdout)
}

// report lists broken promises, the first of many.
func report(violations []string) string {
	const most = 40
	s := fmt.Sprintf("\n%d VIOLATIONS\n", len(violations))
	for _, v := range violations[:min(most, len(violations))] {
		s += "  " + v + "\n"
	}
	if len(violations) > most {
		s += "  ...\n"
	}
	return s
}
