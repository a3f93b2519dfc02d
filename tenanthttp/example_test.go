package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// openExample opens a ledger with two calls a day for each tenant, and a provider on this machine.
func openExample() (ledger *tenant.Ledger, provider string, done func()) {
	folder, err := os.MkdirTemp("", "tenanthttp-example")
	if err != nil {
		log.Fatal(err)
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(folder, "tenant.db")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ledger, err = tenant.Open(db, tenant.WithPrices(tenanttest.Prices()),
		tenant.WithDefaultLimits(tenant.Limits{DailyCalls: tenant.Count(2)}), tenant.WithDefaultEnforcement(tenant.Hard),
		tenant.WithThresholds())
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(replies("application/json", answer))
	return ledger, server.URL, func() {
		server.Close()
		if err := ledger.Close(context.Background()); err != nil {
			log.Fatal(err)
		}
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
		_ = os.RemoveAll(folder)
	}
}

func ExampleNewTransport() {
	ledger, provider, done := openExample()
	defer done()

	transport, err := tenanthttp.NewTransport(ledger, http.DefaultTransport)
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport} // what an SDK takes as its client
	defer client.CloseIdleConnections()

	ctx := tenant.ContextWithTenant(context.Background(), tenant.ID("acme"))
	ctx = tenanthttp.ContextWithCall(ctx, tenant.WithAgent("support"))
	for range 3 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, provider+"/v1/chat/completions",
			strings.NewReader(`{"model":"test-model","max_tokens":500,"messages":[{"role":"user","content":"Hi"}]}`))
		if err != nil {
			log.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			fmt.Println("a reply")
			continue
		}
		sdk := errors.New(string(body)) // what an SDK makes of it
		if exceeded, ok := tenanthttp.AsBudgetError(ctx, sdk); ok {
			fmt.Println(resp.Status, exceeded.TenantID, exceeded.Limit.Spent, "of", exceeded.Limit.Limit, exceeded.Limit.Metric)
		}
	}
	// Output:
	// a reply
	// a reply
	// 402 Payment Required acme 2 of 2 calls
}

func ExampleMiddleware() {
	byHost := func(r *http.Request) (tenant.Tenant, error) {
		name, _, ok := strings.Cut(r.Host, ".")
		if !ok {
			return nil, errors.New("no such customer")
		}
		return tenant.ID(name), nil
	}
	handler := tenanthttp.Middleware(byHost)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		org, _ := tenant.TenantFromContext(r.Context()) // as every call made under this context does
		_, _ = io.WriteString(w, org.LLMTenantID())
	}))
	for _, host := range []string{"acme.example.com", "localhost"} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		handler.ServeHTTP(rec, r)
		fmt.Println(rec.Code, strings.TrimSpace(rec.Body.String()))
	}
	// Output:
	// 200 acme
	// 403 Forbidden
}
