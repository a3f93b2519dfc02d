// Package anthropic makes a model behind Anthropic's messages a [tenant.Model], plain and streamed, on the official SDK, which
// also reaches Claude on Bedrock and on Vertex AI.
//
//	client := anthropic.NewClient() // github.com/anthropics/anthropic-sdk-go, which reads ANTHROPIC_API_KEY
//	model, err := tenantanthropic.NewModel(client, "claude-sonnet-4-5") // this package
//	agent, err := tenant.NewAgent(ledger, model)
//	reply, err := agent.Call(ctx, "Hello", tenant.WithTenant(org))
//
// # One call, one attempt
//
// The SDK's retries are off, whatever the client says: every attempt may be billed, so every one has to be admitted.
// Package adapters/failsafe tries again what is worth it, as attempts of the agent's.
//
// # The output cap
//
// The tokens that the budget granted are sent as max_tokens, which caps thinking as well. The SDK refuses to wait for much
// output at once (from some 21,000 tokens on; its version 1.84 says "streaming is required"); such a call is streamed to the
// adapter, and handed out as a whole.
//
// # What is read
//
// Usage, ids and reasons are read from the reply as it passes by, by the reader of package tenanthttp's transport
// ([tenanthttp.Exchange]), so that a call is booked alike by whichever of the two it is made: the cache beside the input, in its
// classes of 5 minutes and of an hour, thinking inside the output. Of a stream that is cut short, the input is what
// message_start has stated. A stream that ends before its message_stop is an error, which the SDK does not notice.
//
// # Errors
//
// An [Error] wraps [tenant.ErrNotBilled] where nothing was used: when the provider answered with an error, also in a stream
// before any text, and when the request was never sent. When nobody knows what will be billed, it does not, and the agent
// charges what came, or what the call held.
package anthropic
