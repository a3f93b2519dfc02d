// Package openai makes a model behind OpenAI's chat completions API a [tenant.Model], on the official SDK. Many other
// providers and local servers speak the same API; the SDK's option.WithBaseURL reaches them.
//
//	client := openai.NewClient() // github.com/openai/openai-go/v3, which reads OPENAI_API_KEY
//	model, err := tenantopenai.NewModel(client, "gpt-4.1-mini") // this package
//	agent, err := tenant.NewAgent(ledger, model)
//	reply, err := agent.Call(ctx, "Hello", tenant.WithTenant(org))
//
// # One call, one attempt
//
// The SDK's retries are off, whatever the client says: every attempt may be billed, so every one has to be admitted.
// What is worth trying again is tried again by calling the agent again: [Error] has the status.
//
// # The output cap
//
// The tokens that the budget granted are sent as max_completion_tokens, which caps reasoning as well. Servers that know
// only the older name need [WithMaxTokensField]; one that ignores both can use more than the budget holds.
//
// # Usage
//
// The usage that a reply states is read by the reader of package tenanthttp's transport ([tenanthttp.ReadReply]), so that a
// call is booked alike by whichever of the two it is made: in disjoint classes, with what other providers count
// differently told apart by the host, by the name that [WithProvider] gives, and by the numbers; docs/usage.md has the
// rules. Costs that a provider states are passed on as the reported cost, and so is the service tier.
//
// An answer that states no usage is passed on without: the agent then charges what the call held. One that no call can
// have is passed on as a negative one, for the ledger to refuse: it charges the hold as well, and says so in the log.
//
// # Errors
//
// An [Error] wraps [tenant.ErrNotBilled] where nothing was used: when the provider answered with an error, and when the
// request was never sent, because no connection could be made. When a connection broke, timed out or was cancelled
// after the request may have been received, or when the answer cannot be read, nobody knows what will be billed; such
// an error does not wrap it, and the agent charges what the call held. The same goes for the statuses by which a proxy
// says that it lost the provider (502, 504, 520, 524), unless the body is an error of the API's own.
package openai
