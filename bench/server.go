package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that the server is asked with

	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/migrations"
)

// bench is a server to measure on, and how.
type bench struct {
	duration   time.Duration
	age        time.Duration // of a snapshot
	executions int
	tenants    int
	citus      string // the URL of a coordinator; empty: there is none

	server *url.URL
	admin  *sql.DB
	stop   func() error
	made   []string // the first has the ledger's tables, and the others are made of it
}

// open connects to the server of a URL, or starts one.
func open(ctx context.Context, server string) (*bench, error) {
	b := &bench{stop: func() error { return nil }}
	if server == "" {
		started, err := pgtest.Start(ctx)
		if err != nil {
			return nil, err
		}
		server, b.stop = started.URL(), started.Close
	}
	var err error
	if b.server, err = url.Parse(server); err == nil {
		b.admin, err = sql.Open("pgx", server)
	}
	if err == nil {
		err = b.admin.PingContext(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

func (b *bench) close() {
	for _, name := range b.made {
		_, _ = b.admin.ExecContext(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	_ = b.admin.Close()
	_ = b.stop()
}

func (b *bench) version(ctx context.Context) (s string, err error) {
	err = b.admin.QueryRowContext(ctx, `SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync '
		|| current_setting('fsync') || ', synchronous_commit ' || current_setting('synchronous_commit')`).Scan(&s)
	return s, err
}

// database makes a database with the ledger's tables, and returns its URL.
func (b *bench) database(ctx context.Context) (string, error) {
	if len(b.made) == 0 {
		if err := b.migrated(ctx); err != nil {
			return "", err
		}
	}
	return b.create(ctx, " TEMPLATE "+b.made[0])
}

// migrated makes the database of which the others are made.
func (b *bench) migrated(ctx context.Context) (err error) {
	of, err := b.create(ctx, "")
	if err != nil {
		return err
	}
	db, err := sql.Open("pgx", of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return migrations.Up(ctx, db, "postgres")
}

func (b *bench) create(ctx context.Context, template string) (string, error) {
	name := fmt.Sprintf("tenant_bench_%d_%d", time.Now().UnixNano(), len(b.made))
	if _, err := b.admin.ExecContext(ctx, "CREATE DATABASE "+name+template); err != nil {
		return "", err
	}
	b.made = append(b.made, name)
	u := *b.server
	u.Path = "/" + name
	return u.String(), nil
}
