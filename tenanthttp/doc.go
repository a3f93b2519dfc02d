// Package tenanthttp meters the calls of any SDK at its HTTP client: a [Transport] takes the tenant from the request's
// context, has the call admitted by the tenant's budgets before it is made, and books what the reply says was used before
// the caller has read the reply's end.
//
//	client, err := tenanthttp.NewClient(ledger)
//	sdk := openai.NewClient(option.WithHTTPClient(client))
//
//	ctx = tenant.ContextWithTenant(ctx, org)
//	ctx = tenanthttp.ContextWithCall(ctx, tenant.WithAgent("support"))
//	reply, err := sdk.Chat.Completions.New(ctx, params)
//	if exceeded, ok := tenanthttp.AsBudgetError(ctx, err); ok {
//		// exceeded.Limit, exceeded.ResetsAt
//	}
//
// [Middleware] puts the tenant into the context of a server's requests.
//
// Replies pass through byte by byte as they come, streams too: nothing is kept back but the chunk with the usage that the
// transport has asked for and the caller has not. Where the budget has room for less output than a request asks for, its
// limit of output is lowered. A call that is refused gets a reply of status 402 in the form of the provider's own errors,
// which no SDK tries again.
//
// docs/transport.md says which calls are known, what is held and charged for them, and what is left alone.
package tenanthttp
