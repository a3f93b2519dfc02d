package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
)

// exports measures how long an export of all executions takes, beside psql's \copy of the same rows, and what it needs of the
// heap.
func (b *bench) exports(ctx context.Context) (_ []Figure, err error) {
	tenants := asked
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	s, err := attach(postgres.Open(url), tenants)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.spread(ctx, b.executions); err != nil {
		return nil, err
	}
	rows, figures := fmt.Sprintf("%d executions of %d tenants", b.executions, tenants), []Figure(nil)
	for _, f := range []struct {
		name   string
		format tenant.ExportFormat
	}{{"csv", tenant.CSV()}, {"ndjson", tenant.NDJSON()}} {
		columns, peak, took, err := s.export(ctx, filepath.Join(folder, "export"), f.format)
		if err != nil {
			return nil, err
		}
		copied, err := copyOut(ctx, url, columns, filepath.Join(folder, "copy"))
		if err != nil {
			return nil, err
		}
		figures = append(figures,
			Figure{Key: "export_" + f.name, Name: "Export of " + rows + ", " + f.name, Unit: "s", Value: took.Seconds(), Baseline: copied.Seconds(), Against: `psql's \copy of the same rows`},
			Figure{Key: "export_" + f.name + "_heap", Name: "the heap meanwhile, " + f.name, Unit: "MiB", Value: float64(peak) / (1 << 20), Baseline: 64, Against: "64 MiB"})
	}
	return figures, nil
}

// spread makes executions of a year, a fifth of them of the first tenant.
func (s *books) spread(ctx context.Context, n int) error {
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO llm_executions (tenant, id, tenant_id, status, agent, provider, model, billed_model, request_id, tags, actor, process,
				admitted_at, deadline_at, finished_at, settled_at, held_cost, held_tokens, cost, tokens, calls, price, service_tier, input_tokens, output_tokens)
			SELECT w.id, (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '7' || substr(md5(g::text), 1, 3) || '8' || substr(md5(g::text), 4, 15))::uuid,
				w.tenant_id, 'succeeded', 'support', 'openai', 'gpt-5.1', 'gpt-5.1-2026-01-01', 'req_' || md5(g::text), '{"feature":"chat"}',
				'user-' || (g %% 100), '%s', t, t + interval '1 h', t + interval '2 s', t + interval '2 s', 10000000, 1000, 8000000 + g %% 1000, 700, 1,
				'openai/gpt-5.1', 'default', 500, 200
			FROM (SELECT g, clock_timestamp() - interval '365 days' * (%d - g) / %[2]d AS t FROM generate_series(1, %[2]d) g) x
			JOIN (SELECT row_number() OVER (ORDER BY tenant_id) - 1 AS n, id, tenant_id FROM llm_tenants WHERE tenant_id LIKE 'tenant-%%') w
				ON w.n = CASE WHEN g %% 5 = 0 THEN 0 ELSE g %% %d END`, process, n, len(s.keys)),
		`INSERT INTO llm_usage (tenant, hour, agent, model, billed_model, calls, cost, tokens)
			SELECT tenant, date_trunc('hour', admitted_at, 'UTC'), agent, model, billed_model, sum(calls), sum(cost), sum(tokens)
			FROM llm_executions WHERE agent = 'support' GROUP BY 1, 2, 3, 4, 5`,
		`VACUUM ANALYZE llm_executions`,
	} {
		if _, err := s.pool.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// export writes all executions to a file, and returns the names of its columns, the most that was on the heap, and how long it took.
func (s *books) export(ctx context.Context, file string, format tenant.ExportFormat) (columns string, peak uint64, took time.Duration, err error) {
	var header bytes.Buffer
	if _, err = tenant.Export(ctx, s.db, &header, tenant.CSV(), tenant.ExecutionQuery{Tenant: tenant.ID("nobody")}); err != nil {
		return "", 0, 0, err
	}
	to, err := os.Create(file)
	if err != nil {
		return "", 0, 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	runtime.GC()
	var most atomic.Uint64
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick, last := time.NewTicker(20*time.Millisecond), false; !last; {
			select {
			case <-done: // a short one may be over before it was looked at
				tick.Stop()
				last = true
			case <-tick.C:
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
		}
	}()
	start := time.Now()
	_, err = tenant.Export(ctx, s.db, to, format, tenant.ExecutionQuery{Everybody: true, Ascending: true})
	took = time.Since(start)
	close(done)
	<-stopped
	return strings.TrimSpace(header.String()), most.Load(), took, err
}

// copyOut has psql copy the same rows to a file.
func copyOut(ctx context.Context, url, columns, file string) (time.Duration, error) {
	start := time.Now()
	out, err := exec.CommandContext(ctx, "psql", url, "--no-psqlrc", "--quiet", "--command",
		fmt.Sprintf(`\copy (SELECT %s FROM llm_executions WHERE status <> 'running' AND status <> 'cancelled') TO '%s' WITH (FORMAT csv, HEADER)`, columns, file)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("psql: %w: %s", err, out)
	}
	return time.Since(start), nil
}
