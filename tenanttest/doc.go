// Package tenanttest is for the tests of programs that use tenant: a ledger on a temporary SQLite file, a scripted
// model, and prices that are easy to compute by head.
//
//	func TestSupportStaysInItsBudget(t *testing.T) {
//		db, ledger := tenanttest.Open(t)
//		model := tenanttest.NewModel(tenanttest.Text("Hello!", tenant.Usage{Input: 1000, Output: 500}))
//		agent, err := tenant.NewAgent(ledger, model)
//		…
//	}
//
// It takes no name for its SQLite driver, so that it can be imported beside any driver of the program's own.
//
// Nothing here sleeps or waits for a clock: a call that has to be in flight for a while is held by a [Gate].
package tenanttest
