// Package report lets package tenanthttp tell a ledger of requests that are no calls on its books. Reports is embedded in
// the ledger, and what its methods take can be made within this module alone, so that no program sees or calls them.
package report

import "context"

// Tenant is a tenant as the ledger takes it; nil for none.
type Tenant = interface{ LLMTenantID() string }

// Unmetered is a request that was passed on without being metered.
type Unmetered struct {
	Tenant             Tenant
	Method, Host, Path string
	Service            string // what the request is for, where that is known
}

// HostError is a call that was refused for what is wrong with the program that makes it.
type HostError struct {
	Tenant          Tenant
	Provider, Model string
	Options         any // those of the call, a []tenant.ReserveOption
	Err             error
}

// Call is a call that was admitted.
type Call struct{ Hold any } // a *tenant.Hold

// Reports brings reports to a ledger.
type Reports struct {
	unmetered func(context.Context, Unmetered)
	hostError func(context.Context, HostError)
	call      func(context.Context, Call) context.Context
}

// To returns reports that are brought to functions.
func To(unmetered func(context.Context, Unmetered), hostError func(context.Context, HostError), call func(context.Context, Call) context.Context) Reports {
	return Reports{unmetered, hostError, call}
}

// ReportCall tells of a call that is about to be made, and returns the context to make and to end it with.
func (r Reports) ReportCall(ctx context.Context, c Call) context.Context { return r.call(ctx, c) }

// ReportUnmetered tells of a request that was passed on without being metered.
func (r Reports) ReportUnmetered(ctx context.Context, u Unmetered) { r.unmetered(ctx, u) }

// ReportHostError tells of a call that was refused for what is wrong with the program.
func (r Reports) ReportHostError(ctx context.Context, e HostError) { r.hostError(ctx, e) }
