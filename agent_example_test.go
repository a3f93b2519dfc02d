package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// openExample opens a ledger for an example, and returns how to close it.
func openExample(options ...tenant.OpenOption) (*tenant.Ledger, func()) {
	folder, err := os.MkdirTemp("", "tenant-example")
	if err != nil {
		log.Fatal(err)
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(folder, "tenant.db")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ledger, err := tenant.Open(db, append(options, tenant.WithPrices(tenanttest.Prices()))...)
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	return ledger, func() {
		if err := ledger.Close(context.Background()); err != nil {
			log.Fatal(err)
		}
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
		_ = os.RemoveAll(folder)
	}
}

func ExampleAgent_Call() {
	ledger, done := openExample(
		tenant.WithDefaultLimits(tenant.Limits{DailyCalls: tenant.Count(2)}),
		tenant.WithDefaultEnforcement(tenant.Hard))
	defer done()

	model := tenanttest.NewModel(tenanttest.Text("Hello!", tenant.Usage{Input: 1000, Output: 500}))
	agent, err := tenant.NewAgent(ledger, model, tenant.WithAgent("support"))
	if err != nil {
		log.Fatal(err)
	}
	for _, org := range []tenant.Tenant{tenant.ID("acme"), tenant.ID("acme"), tenant.ID("acme"), tenant.ID("globex")} {
		reply, err := agent.Call(context.Background(), "Hi", tenant.WithTenant(org))
		var exceeded *tenant.BudgetExceededError
		switch {
		case errors.As(err, &exceeded):
			fmt.Println(exceeded.TenantID, "has used", exceeded.Limit.Spent, "of", exceeded.Limit.Limit, exceeded.Limit.Metric)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(reply.TenantID, reply.Text, reply.Usage.TotalTokens(), reply.Cost)
		}
	}
	// Output:
	// acme Hello! 1500 0.002
	// acme Hello! 1500 0.002
	// acme has used 2 of 2 calls
	// globex Hello! 1500 0.002
}

// support defines an agent: its prompt, and whom it works for.
type support struct{ organizationOf map[int]tenant.ID }

func (s support) TenantOf(_ context.Context, call *tenant.Call) (tenant.Tenant, error) {
	user, err := tenant.Param[int](call, "user")
	if err != nil {
		return nil, err
	}
	org, ok := s.organizationOf[user]
	if !ok {
		return nil, fmt.Errorf("user %d has no organization", user)
	}
	return org, nil
}

// The tenant function can be a method value of a type that defines the agent.
func ExampleWithTenantFunc() {
	ledger, done := openExample()
	defer done()

	s := support{organizationOf: map[int]tenant.ID{7: "acme"}}
	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel(), tenant.WithTenantFunc(s.TenantOf), tenant.RequireTenant())
	if err != nil {
		log.Fatal(err)
	}
	reply, err := agent.Call(context.Background(), "Hi", tenant.WithParam("user", 7))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.TenantID)

	_, err = agent.Call(context.Background(), "Hi", tenant.WithParam("user", 8))
	fmt.Println(err)
	// Output:
	// acme
	// tenant: the agent's tenant function: user 8 has no organization
}

func ExampleContextWithTenant() {
	ledger, done := openExample()
	defer done()

	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel(), tenant.RequireTenant())
	if err != nil {
		log.Fatal(err)
	}
	_, err = agent.Call(context.Background(), "Hi")
	fmt.Println(errors.Is(err, tenant.ErrTenantRequired))

	ctx := tenant.ContextWithTenant(context.Background(), tenant.ID("acme")) // for example in a middleware
	reply, err := agent.Call(ctx, "Hi")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.TenantID)
	// Output:
	// true
	// acme
}

func ExampleAgent_Stream() {
	ledger, done := openExample()
	defer done()

	model := tenanttest.NewModel(tenanttest.Text("Hello, how are you?", tenant.Usage{Input: 1000, Output: 500}))
	agent, err := tenant.NewAgent(ledger, model, tenant.WithTenant(tenant.ID("acme")))
	if err != nil {
		log.Fatal(err)
	}
	for chunk, err := range agent.Stream(context.Background(), "Hi") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(chunk.Text)
		if chunk.Reply != nil {
			fmt.Println("", chunk.Reply.Cost)
		}
	}
	// Output:
	// Hello, how are you? 0.002
}

// A model that fails is followed by the next. Both attempts are on the books.
func ExampleWithFallback() {
	ledger, done := openExample()
	defer done()

	down := tenanttest.NewModel(tenanttest.Fail(fmt.Errorf("%w: overloaded", tenant.ErrNotBilled)))
	agent, err := tenant.NewAgent(ledger, down, tenant.WithFallback(tenanttest.NewModel()))
	if err != nil {
		log.Fatal(err)
	}
	reply, err := agent.Call(context.Background(), "Hi", tenant.WithTenant(tenant.ID("acme")))
	if err != nil {
		log.Fatal(err)
	}
	for _, attempt := range reply.Attempts {
		fmt.Println(attempt.Outcome, attempt.Cost)
	}
	fmt.Println(reply.Text, reply.Cost)
	// Output:
	// settled 0
	// settled 0.002
	// ok 0.002
}

// A middleware that keeps replies. What it has kept costs nothing.
func ExampleUse() {
	ledger, done := openExample()
	defer done()

	kept := map[string]*tenant.Reply{} // of one goroutine; in a program: a cache
	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel(), tenant.Use(func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			key := call.Tenant.LLMTenantID() + "\x00" + call.Prompt
			if reply, ok := kept[key]; ok {
				return reply, nil
			}
			reply, err := next(ctx, call)
			if err == nil {
				kept[key] = reply
			}
			return reply, err
		}
	}))
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		reply, err := agent.Call(context.Background(), "Hi", tenant.WithTenant(tenant.ID("acme")))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(reply.Text, reply.Cost, reply.Cached)
	}
	// Output:
	// ok 0.002 false
	// ok 0 true
}
