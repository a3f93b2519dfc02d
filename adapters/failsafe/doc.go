// Package failsafe makes the attempts of an agent's calls under the policies of failsafe-go: retries, time-outs, circuit breakers, hedges.
//
//	agent, err := tenant.NewAgent(ledger, model,
//		tenant.WithFallback(other),
//		tenant.Use(tenantfailsafe.Around( // this package
//			tenantfailsafe.Retry().WithMaxRetries(3).Build(),
//			timeout.New[*tenant.Reply](30*time.Second))))
//
// Each attempt is admitted by the budgets, is a row on the books, and is in the reply's cost, also one that a time-out has ended:
// where nobody knows what its provider bills, it is charged what it held. Here each model has 4 attempts of 30 seconds, and the
// other model is called when the first has had its own; with Use before WithFallback, both together have them.
//
// A time-out of a stream counts until the loop over it has taken the last of the text. Once any of it was handed out, no further
// attempt is made.
//
// It is a module of its own because failsafe-go has no version 1 yet: a program can have another version of it than this library.
package failsafe
