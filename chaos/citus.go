package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The faults of a cluster of Citus, and what was seen of them.
const (
	nodesAway     = "times that a node was away"
	headAway      = "times that the coordinator was away"
	nodesKilled   = "times that a node was killed and started again"
	schemasMoved  = "times that a place was moved to another node"
	schemasStayed = "times that a place was not moved to another node, for other trouble"
	elsewhere     = "calls admitted in places of other nodes while one was away"
	unreached     = "calls admitted on a node half a second after it went away"
)

// node is one of a cluster that has places. Everybody reaches it by a proxy of the run's own, the coordinator and the other nodes too.
type node struct {
	id    int
	host  string // where it is
	port  int
	proxy *proxy
}

// url is the database as it is reached on the node itself, and not by its proxy.
func (n *node) url(coordinator string) (string, error) {
	u, err := url.Parse(coordinator)
	if err != nil {
		return "", err
	}
	u.Host = net.JoinHostPort(n.host, strconv.Itoa(n.port))
	return u.String(), nil
}

// findNodes puts a proxy before each node, where the database is one of Citus, and tells the cluster to go by them. What it returns takes
// them away again.
func (r *runner) findNodes(ctx context.Context) (leave func() error, err error) {
	leave = func() error { return nil }
	conn, err := pgx.Connect(ctx, r.URL)
	if err != nil {
		return leave, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var there bool
	if err = conn.QueryRow(ctx, `SELECT to_regclass('pg_catalog.pg_dist_node') IS NOT NULL`).Scan(&there); err != nil || !there {
		return leave, err
	}
	var group int
	var info string
	if err = conn.QueryRow(ctx, `SELECT groupid, current_setting('citus.node_conninfo') FROM pg_dist_local_group`).Scan(&group, &info); err != nil {
		return leave, err
	}
	switch {
	case group != 0:
		return leave, errors.New("the database is a node of Citus: -db takes the coordinator's URL")
	case r.Places == 0:
		return leave, errors.New("the database is one of Citus, which is for places: say -places 2")
	case r.Jump > 0:
		return leave, errors.New("the nodes of Citus have clocks of their own, which stay as they are: say -jump 0")
	case !strings.Contains(info, "sslmode=disable"):
		return leave, fmt.Errorf("the nodes are to be reached by proxies, which read what is sent: citus.node_conninfo is %q, and has to say sslmode=disable", info)
	}
	rows, err := conn.Query(ctx, `SELECT nodeid, nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards AND isactive AND noderole = 'primary' ORDER BY nodeid`)
	if err != nil {
		return leave, err
	}
	if r.nodes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*node, error) {
		n := &node{}
		return n, row.Scan(&n.id, &n.host, &n.port)
	}); err != nil {
		return leave, err
	}
	leave = func() error {
		ctx := context.WithoutCancel(ctx)
		var all error
		for _, n := range r.nodes {
			all = errors.Join(all, r.session(ctx, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, `SELECT citus_update_node($1, $2, $3)`, n.id, n.host, n.port)
				return err
			}))
		}
		for _, n := range r.nodes {
			if n.proxy != nil {
				n.proxy.close()
			}
		}
		return all
	}
	for i, n := range r.nodes {
		at, err := n.url(r.URL)
		if err != nil {
			return leave, err
		}
		if n.proxy, err = startProxy(at, rand.New(rand.NewPCG(r.Seed, 30+uint64(i))), r.tally.add); err != nil {
			return leave, err
		}
		host, port := n.proxy.address()
		if _, err := conn.Exec(ctx, `SELECT citus_update_node($1, $2, $3)`, n.id, host, port); err != nil {
			return leave, fmt.Errorf("have the cluster reach its nodes by proxies: %w", err)
		}
	}
	_, err = conn.Exec(ctx, `SELECT start_metadata_sync_to_all_nodes()`) // whose copies of the catalogue would follow by and by
	return leave, err
}

// endPrepared has the coordinator end what a node had prepared when it went away, as it does by itself once a minute: rows that such a transaction
// has locked are waited for until then, which may be longer than a worker has for its end.
func (r *runner) endPrepared(ctx context.Context) error {
	if len(r.nodes) == 0 {
		return nil
	}
	return r.patiently(ctx, func() error {
		return r.session(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT recover_prepared_transactions()`)
			return err
		})
	})
}

// proxies are those before all servers.
func (r *runner) proxies() []*proxy {
	all := []*proxy{r.proxy}
	for _, n := range r.nodes {
		all = append(all, n.proxy)
	}
	return all
}

// servers are the URLs of all servers themselves.
func (r *runner) servers() []string {
	all := []string{r.URL}
	for _, n := range r.nodes {
		if at, err := n.url(r.URL); err == nil {
			all = append(all, at)
		}
	}
	return all
}

// clusterFaults are those of a cluster.
func (r *runner) clusterFaults() []fault {
	var away absence
	all := []fault{
		{nodesAway, 3 * time.Second, false, func(ctx context.Context, rng *rand.Rand) error {
			away = absence{runner: r, node: r.nodes[rng.IntN(len(r.nodes))]}
			return away.begin(ctx)
		}, away.end},
		{headAway, 3 * time.Second, false, func(context.Context, *rand.Rand) error { return r.proxy.leave() }, func(context.Context) error { return r.proxy.come() }},
		{schemasMoved, time.Second, false, r.moveSchema, func(context.Context) error { return nil }},
	}
	if r.RestartNode != "" {
		all = append(all, fault{nodesKilled, time.Second, false, func(ctx context.Context, rng *rand.Rand) error {
			n := r.nodes[rng.IntN(len(r.nodes))]
			command := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", r.RestartNode)
			command.Env = append(os.Environ(), "NODE_HOST="+n.host, "NODE_PORT="+strconv.Itoa(n.port))
			if said, err := command.CombinedOutput(); err != nil {
				r.fatal(fmt.Errorf("%s: %w: %s", r.RestartNode, err, said))
				return err
			}
			return nil
		}, func(context.Context) error { return nil }})
	}
	return all
}

// moveSchema moves a place to another node.
func (r *runner) moveSchema(ctx context.Context, rng *rand.Rand) error {
	name := placeNames(r.Places)[rng.IntN(r.Places)]
	modes := []string{"auto", "block_writes"}
	mode := modes[rng.IntN(len(modes))]
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := r.session(ctx, func(conn *pgx.Conn) error {
		at, err := r.nodeOf(ctx, conn, name)
		if err != nil {
			return err
		}
		for _, n := range r.nodes {
			if n == at {
				continue
			}
			host, port := n.proxy.address()
			_, err := conn.Exec(ctx, `SELECT citus_schema_move($1::regnamespace, $2, $3, $4::citus.shard_transfer_mode)`, name, host, port, mode)
			return err
		}
		return errors.New("there is one node")
	})
	if err != nil {
		r.tally.add(schemasStayed)
	}
	return err
}

// nodeOf is the node that has a place.
func (r *runner) nodeOf(ctx context.Context, conn *pgx.Conn, place string) (*node, error) {
	var on int
	if err := conn.QueryRow(ctx, `SELECT nodeport FROM citus_shards WHERE table_name = to_regclass($1)`, place+".llm_balances").Scan(&on); err != nil {
		return nil, err
	}
	for _, n := range r.nodes {
		if _, port := n.proxy.address(); port == on {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s is on no node that was there", place)
}

// absence is a time in which a node is away from everybody but whoever judges.
type absence struct {
	*runner
	node *node
	seen bool
	from time.Time // by the node's clock
}

func (a *absence) begin(ctx context.Context) error {
	if err := a.node.proxy.leave(); err != nil {
		return err
	}
	at, err := a.node.url(a.URL)
	if err != nil {
		return err
	}
	return a.at(ctx, at, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&a.from) })
}

// end counts, before the node comes back, what was admitted meanwhile in its places, and in others.
func (a *absence) end(ctx context.Context) error {
	if !a.seen && !a.from.IsZero() {
		a.seen = true
		for _, n := range a.nodes {
			a.count(ctx, n)
		}
	}
	return a.node.proxy.come()
}

func (a *absence) count(ctx context.Context, n *node) {
	at, err := n.url(a.URL)
	if err != nil {
		return
	}
	for _, name := range placeNames(a.Places) {
		_ = a.at(ctx, at, func(conn *pgx.Conn) error {
			of, err := a.nodeOf(ctx, conn, name)
			if err != nil || of != n {
				return err
			}
			what, from := elsewhere, a.from
			if n == a.node {
				what, from = unreached, a.from.Add(500*time.Millisecond)
			}
			var calls int
			if err := conn.QueryRow(ctx, `SELECT count(*) FROM `+name+`.llm_executions WHERE admitted_at > $1`, from).Scan(&calls); err != nil {
				return err
			}
			a.tally.addMany(what, calls)
			return nil
		}) // what breaks connections may break this one
	}
}
