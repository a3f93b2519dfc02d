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

	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
)

// clockTick is the unit of the times of a process in /proc: a hundredth of a second on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// placed is a pace with what the servers took for it.
type placed struct {
	pace

	cpu time.Duration // of the servers, a call
}

// places measures many tenants in one place, in two places of one database, and, where there is a cluster, in two places of Citus, and in one
// for each of its nodes.
func (b *bench) places(ctx context.Context) ([]Figure, error) {
	names := []string{"books_1", "books_2"}
	server := func() (*url.URL, error) {
		u, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		return url.Parse(u)
	}
	u, err := server()
	if err != nil {
		return nil, err
	}
	plain, err := b.placed(ctx, u.String(), []string{u.String()})
	if err != nil {
		return nil, err
	}
	if u, err = server(); err != nil {
		return nil, err
	}
	two, err := b.placed(ctx, u.String(), []string{u.String()}, tenant.WithPlaces(names...))
	if err != nil {
		return nil, err
	}
	figures := placesFigures("two", "two places of one database", two, plain)
	if b.citus == "" {
		return figures[:1], nil // processor time comes in hundredths of a second, and is for servers on this machine
	}
	for _, most := range []int{2, maxNodes} {
		home, nodes, names, drop, err := citusHome(ctx, b.citus, most)
		if err != nil {
			return nil, err
		}
		if most > 2 && len(names) == 2 {
			return figures, drop()
		}
		on, err := b.placed(ctx, home.String(), nodes, tenant.WithPlaces(names...))
		if err = errors.Join(err, drop()); err != nil {
			return nil, err
		}
		key := "citus"
		if most > 2 {
			key += "_" + strconv.Itoa(len(names))
		}
		figures = append(figures, placesFigures(key, fmt.Sprintf("%d places of Citus, straight to their nodes", len(names)), on, plain)...)
	}
	return figures, nil
}

// maxNodes is how many nodes of a cluster are used.
const maxNodes = 8

func placesFigures(key, title string, p, plain placed) []Figure {
	const against = "one place"
	return []Figure{
		{
			Key: "places_" + key + "_calls_per_second", Name: fmt.Sprintf("calls, %s, %d callers, %s", many.title, many.callers, title), Unit: "calls/s",
			Value: p.perSecond, Baseline: plain.perSecond, Against: against,
		},
		{
			Key: "places_" + key + "_server_cpu", Name: "the servers' processor time of a call, " + title, Unit: "us",
			Value: micros(p.cpu), Baseline: micros(plain.cpu), Against: against,
		},
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// placed measures many tenants on a new ledger, and what its servers, on this machine, take for a call.
func (b *bench) placed(ctx context.Context, home string, servers []string, options ...tenant.OpenOption) (p placed, err error) {
	err = many.with(ctx, postgres.Open(home), byLedger, func(do call) error {
		before, err := processorTime(ctx, servers)
		if err != nil {
			return err
		}
		if p.pace, err = busy(ctx, b.duration, many.tenants, many.callers, do); err != nil {
			return err
		}
		after, err := processorTime(ctx, servers)
		p.cpu = time.Duration(float64(after-before) / (p.perSecond * b.duration.Seconds()))
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
