package tenanttest_test

import (
	"errors"
	"fmt"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

func Example() {
	t := newT() // in a test, its *testing.T
	defer t.end()

	_, ledger := tenanttest.Open(t,
		tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("0.004")}),
		tenant.WithDefaultEnforcement(tenant.Hard))
	model := tenanttest.NewModel(tenanttest.Text("Hello!", tenant.Usage{Input: 1000, Output: 500}))
	agent, err := tenant.NewAgent(ledger, model, tenant.WithMaxTokens(500))
	if err != nil {
		t.Fatal(err)
	}
	for {
		reply, err := agent.Call(t.Context(), "Hi", tenant.WithTenant(tenant.ID("acme")))
		if err != nil {
			fmt.Println(errors.Is(err, tenant.ErrBudgetExceeded))
			break
		}
		fmt.Println(reply.Text, reply.Cost, reply.Shortened)
	}
	for _, r := range model.Requests() {
		fmt.Println(r.Prompt(), r.MaxTokens)
	}
	// Output:
	// Hello! 0.002 false
	// Hello! 0.001974 true
	// true
	// Hi 500
	// Hi 487
}

func ExampleGate() {
	gate := tenanttest.NewGate()
	model := tenanttest.NewModel(gate.Before(tenanttest.Text("done", tenant.Usage{})))

	reply := make(chan string)
	t := newT()
	defer t.end()
	go func() {
		r, err := model.Generate(t.Context(), &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("How long?")}})
		if err != nil {
			reply <- err.Error()
			return
		}
		reply <- r.Text
	}()
	fmt.Println((<-gate.Arrived()).Prompt()) // the call is in flight, and stays so
	gate.Open()
	fmt.Println(<-reply)
	// Output:
	// How long?
	// done
}
