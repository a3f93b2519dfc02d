package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// clockTick is the unit of the times of a process in /proc: a hundredth of a second on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// placed is a pace with what the servers took for it.
type placed struct {
	workload
	pace

	title string        // of the places
	cpu   time.Duration // of the servers, a call
}

// places measures many tenants in one place, in two places of one database, and, where there is a cluster, in places of Citus.
func (b *bench) places(ctx context.Context) ([]Figure, error) {
	var on [2]placed
	for i, options := range [][]tenant.OpenOption{nil, {tenant.WithPlaces("books_1", "books_2")}} {
		u, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		if on[i], err = b.placed(ctx, many, postgres.Open(u), []string{u}, options...); err != nil {
			return nil, err
		}
	}
	plain := on[0]
	plain.title = "one place"
	on[1].title = "two places of one database"
	figures := on[1].figures("two", plain)
	if b.citus == "" {
		return figures[:1], nil // processor time comes in hundredths of a second, and is for servers on this machine
	}
	more, err := b.citusPlaces(ctx, plain)
	return append(figures, more...), err
}

// maxNodes is how many nodes of a cluster are used.
const maxNodes = 8

// citusPlaces measures a place for each of two nodes of a cluster, straight to the nodes and through the coordinator, and then one for each of three nodes and more: with
// as many tenants and callers for a place as two have, which is what nodes are added for, and with the same in all.
func (b *bench) citusPlaces(ctx context.Context, plain placed) (figures []Figure, err error) {
	measure := func(nodes int, w workload, dial func(string) (gorm.Dialector, error)) (p placed, err error) {
		home, servers, names, drop, err := citusHome(ctx, b.citus, nodes)
		if err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, drop()) }()
		if len(names) < nodes {
			return p, errNodes
		}
		to, err := dial(home.String())
		if err != nil {
			return p, err
		}
		return b.placed(ctx, w, to, servers, tenant.WithPlaces(names...))
	}
	straight := func(u string) (gorm.Dialector, error) { return postgres.Open(u), nil }
	two, err := measure(2, many, straight)
	if err != nil {
		return nil, err
	}
	two.title = "2 places of Citus"
	coordinator, err := measure(2, many, onlyTo)
	if err != nil {
		return nil, err
	}
	coordinator.title = "2 places of Citus, through the coordinator"
	figures = slices.Concat(two.figures("citus", plain), coordinator.figures("citus_coordinator", plain))
	for nodes := 3; nodes <= maxNodes; nodes++ {
		more := many
		more.tenants, more.callers = nodes*many.tenants/2, nodes*many.callers/2
		more.title = fmt.Sprintf("%d tenants", more.tenants)
		key := fmt.Sprint("citus_", nodes)
		for _, of := range []struct {
			workload
			key, title string
		}{{more, key, fmt.Sprintf("%d places of Citus", nodes)}, {many, key + "_same", fmt.Sprintf("the same callers in %d places of Citus", nodes)}} {
			p, err := measure(nodes, of.workload, straight)
			if errors.Is(err, errNodes) {
				return figures, nil
			}
			if err != nil {
				return nil, err
			}
			p.title = of.title
			figures = append(figures, p.figures(of.key, two)...)
		}
	}
	return figures, nil
}

var errNodes = errors.New("there are not as many nodes")

// onlyTo connects to a server, and to none of the nodes that the ledger would go straight to.
func onlyTo(u string) (gorm.Dialector, error) {
	config, err := pgx.ParseConfig(u)
	if err != nil {
		return nil, err
	}
	only := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != only {
			return nil, fmt.Errorf("%s is not to be reached", address)
		}
		return dial(ctx, network, address)
	}
	return postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}), nil
}

// figures are those of a pace beside another one.
func (p placed) figures(key string, against placed) []Figure {
	return []Figure{
		{
			Key: "places_" + key + "_calls_per_second", Name: fmt.Sprintf("calls, %s, %d callers, %s", p.workload.title, p.callers, p.title), Unit: "calls/s",
			Value: p.perSecond, Baseline: against.perSecond, Against: against.title,
		},
		{
			Key: "places_" + key + "_server_cpu", Name: "the servers' processor time of a call, " + p.title, Unit: "us",
			Value: micros(p.cpu), Baseline: micros(against.cpu), Against: against.title,
		},
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// placed measures a workload on a new ledger, and what its servers, on this machine, take for a call.
func (b *bench) placed(ctx context.Context, w workload, home gorm.Dialector, servers []string, options ...tenant.OpenOption) (p placed, err error) {
	p.workload = w
	err = w.with(ctx, home, byLedger, func(do call) error {
		before, err := processorTime(ctx, servers)
		if err != nil {
			return err
		}
		start := time.Now()
		if p.pace, err = busy(ctx, b.duration, w.tenants, w.callers, do); err != nil {
			return err
		}
		calls := p.perSecond * time.Since(start).Seconds()
		after, err := processorTime(ctx, servers)
		p.cpu = time.Duration(float64(after-before) / calls)
		return err
	}, options...)
	return p, err
}

// citusHome makes a schema for the home on a coordinator, and returns its URL, those of all nodes, the names of as many places as there are
// nodes for them, but of most at most, and what removes it all.
func citusHome(ctx context.Context, coordinator string, most int) (home *url.URL, nodes, places []string, drop func() error, err error) {
	if home, err = url.Parse(coordinator); err != nil {
		return nil, nil, nil, nil, err
	}
	db, err := sql.Open("pgx", coordinator)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	name := fmt.Sprintf("tenant_bench_%d", time.Now().UnixNano())
	drop = func() (err error) {
		ctx := context.WithoutCancel(ctx)
		for _, schema := range append(slices.Clone(places), name) {
			_, e := db.ExecContext(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
			err = errors.Join(err, e)
		}
		return errors.Join(err, db.Close())
	}
	if _, err = db.ExecContext(ctx, "CREATE SCHEMA "+name); err != nil {
		return nil, nil, nil, nil, errors.Join(err, db.Close())
	}
	rows, err := db.QueryContext(ctx, `SELECT nodename, nodeport, shouldhaveshards FROM pg_dist_node WHERE isactive`)
	if err != nil {
		return nil, nil, nil, nil, errors.Join(err, drop())
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var host string
		var port int
		var holds bool
		if err := rows.Scan(&host, &port, &holds); err != nil {
			return nil, nil, nil, nil, errors.Join(err, drop())
		}
		node := *home
		node.Host = net.JoinHostPort(host, strconv.Itoa(port))
		nodes = append(nodes, node.String())
		if holds && len(places) < most {
			places = append(places, fmt.Sprint(name, "_", len(places)+1))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, nil, nil, errors.Join(err, drop())
	}
	q := home.Query()
	q.Set("search_path", name)
	home.RawQuery = q.Encode()
	return home, nodes, places, drop, nil
}

// processorTime is what all processes of some servers have taken since they were started.
func processorTime(ctx context.Context, servers []string) (all time.Duration, err error) {
	for _, server := range servers {
		took, err := serverTime(ctx, server)
		if err != nil {
			return 0, fmt.Errorf("the processor time of a server: %w", err)
		}
		all += took
	}
	return all, nil
}

func serverTime(ctx context.Context, server string) (all time.Duration, err error) {
	db, err := sql.Open("pgx", server)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var backend int
	if err := db.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return 0, err
	}
	own, err := readStat(backend)
	if err != nil {
		return 0, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		switch {
		case err != nil: // it has ended
		case pid == own.parent:
			all += s.own + s.ended
		case s.parent == own.parent:
			all += s.own
		}
	}
	return all, nil
}

// stat is what /proc says of a process.
type stat struct {
	parent     int
	own, ended time.Duration // its own, and of its children that have ended
}

func readStat(pid int) (s stat, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	_, rest, _ := strings.Cut(string(content), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	const parent, user, system, endedUser, endedSystem = 1, 11, 12, 13, 14
	if len(fields) <= endedSystem {
		return s, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var n [5]int
	for i, f := range []int{parent, user, system, endedUser, endedSystem} {
		if n[i], err = strconv.Atoi(fields[f]); err != nil {
			return s, err
		}
	}
	return stat{n[0], time.Duration(n[1]+n[2]) * clockTick, time.Duration(n[3]+n[4]) * clockTick}, nil
}
