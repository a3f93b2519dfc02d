// Package tenant makes the GORM models of a Go service tenants of its LLM bill: every call is attributed to a tenant,
// admitted against the tenant's budgets before it is made, and on the books before the caller sees the reply.
//
//	type Organization struct {
//		ID   uint
//		Slug string
//		Name string
//	}
//
//	func (o *Organization) LLMTenantID() string { return o.Slug }
//
//	ledger, err := tenant.Open(db, // the host's *gorm.DB
//		tenant.WithPrices(pricing.Default()),
//		tenant.WithKnownTenantsOnly()) // a typo is refused, and is no new tenant without limits
//	err = ledger.Migrate(ctx)
//	err = ledger.Register(&Organization{},
//		tenant.WithKey("Slug"),
//		tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("100"), MonthlyCost: tenant.USD("1000")}),
//		tenant.WithEnforcement(tenant.Hard))
//
//	org := &Organization{Slug: "acme", Name: "Acme"}
//	err = db.Create(org).Error // its budget is created in the same transaction
//
//	agent, err := tenant.NewAgent(ledger, model, tenant.WithAgent("support"))
//	reply, err := agent.Call(ctx, "Hello", tenant.WithTenant(org))
//
//	cost, err := tenant.CostToday(ctx, db, org) // US dollars
//
// # What is promised
//
// Under [Hard], no admission ever commits what is spent and held above a limit, with any number of goroutines and
// processes, whenever one of them is killed. What a provider reports beyond the hold of a call is an overrun: it is
// booked, and stored as such.
//
// A call's hold is committed before the call is made, and its cost is committed before the reply is handed out. Where
// the database does not take it, the reply goes out after the time of [WithSettleWait], with the hold standing for its cost,
// and the booking goes on until it succeeds or [Ledger.Close] ends it; so it is with [Ledger.Record], for whose calls no hold
// stands. [Ledger.Pending] counts what is left. A call
// in flight at a crash is found by another process when the lease ([WithLease]) has run out; its hold is charged then,
// because hard means hard.
//
// Money is whole nano-dollars (1e-9 US dollars), rounded once per call; tokens are counted in disjoint classes; and what
// a balance says is spent is the sum of the executions and of the roll-up, to the nano, at every commit.
//
// # How a call is booked
//
// Like a card payment: [Ledger.Reserve] authorises an upper bound, [Ledger.Settle] captures what was used, and
// [Ledger.Release] drops the hold of a call that was not made. An [Agent] does this around a [Model]. A hold is flexible:
// where the budget has less room than the call's whole output could cost, the call gets what there is, as its cap of
// output tokens, and the last call before a limit is shortened instead of refused. A call that would fit once running
// calls settle below their holds waits its turn; one that cannot fit fails at once.
//
// # Records and their budgets
//
// A model is declared by its method LLMTenantID, by the options of [Ledger.Register], by struct tags, or by several of
// them. The budget of a record follows it through whatever GORM does to it, in the host's own transaction: a new key
// keeps the budget and what is spent, a soft delete suspends it until the record is restored ([WithOnDelete]), and a
// hard delete removes it and keeps the executions. [Ledger.Backfill] gives records that were there before their budgets.
// [ID] is a tenant that is known by its id alone; [Ledger.Rename] gives it another. [WithKnownTenantsOnly] refuses ids that
// nobody has declared or given a budget. [FormerTenants] finds those whose records are gone.
//
// Tenants can stand below each other ([WithParent]) and below [Root]: a call is then held to every budget above it. What
// is spent can be corrected ([Ledger.Credit], [Ledger.Debit]; [Ledger.Reprice] after a wrong price), a limit raised until
// its window ends ([Ledger.TopUp]); an [Observer] hears of every settled call, of thresholds and of refusals, and
// [AuditLog] has who changed what.
//
// # Whom a call is for
//
// An agent's own function ([WithTenantFunc]) comes first, then [WithTenant] on the call, then the context ([ContextWithTenant]).
// A call without a tenant is recorded without one, unless the agent says [RequireTenant].
//
// # Agents
//
// [Agent.Call] makes a call, and [Agent.Stream] hands out its text while it comes. The packages in adapters have the models of SDKs.
// [Use] and [WithFallback] make more than one attempt of a call; each is admitted and booked by itself.
//
// A program that calls a provider's SDK itself puts the transport of package tenanthttp under it.
//
// # Asking
//
// Settings and questions are functions of a context, any handle derived from the ledger's *gorm.DB, and a tenant:
// [Cost], [Tokens], [ExecutionCount], [UsageSummary], [Executions], [BudgetFor], [BudgetStatus], [ConfigureBudget] and
// others. They take part in the handle's transaction, and write nothing but what they are asked to. [WithReadDB] has a replica read for lists and
// reports, and [WithRowSecurity] has PostgreSQL itself keep tenants apart.
//
// A charge never takes part in a host's transaction: the provider bills also when the host rolls back.
package tenant
