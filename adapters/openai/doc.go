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
// The usage that the API reports is taken apart into the disjoint classes of [tenant.Usage]: cached, cache-written,
// audio and image tokens come out of the prompt's, reasoning, audio and image tokens out of the completion's.
// Predicted tokens, accepted or not, are plain output. A part that is larger than what contains it is cut to it.
//
// Other providers count differently in the same fields, and are told apart by the numbers: where total_tokens is more
// than prompt and completion together, the rest is audio input if it is exactly the prompt's audio tokens (Mistral), and
// otherwise reasoning (xAI, Gemini); reasoning larger than the completion, or beside Vercel's market_cost, comes on top
// of it. Costs that a provider states (OpenRouter, Perplexity, Vercel, xAI) are passed on as the reported cost. A
// service tier is not looked at.
//
// An answer without usage, or with one that lacks the prompt's or the completion's tokens, is passed on without: the
// agent then charges what the call held. Negative counts are passed on as they are, for the ledger to refuse.
//
// # Errors
//
// An [Error] wraps [tenant.ErrNotBilled] where nothing was used: when the provider answered with an error, and when the
// request was never sent, because no connection could be made. When a connection broke, timed out or was cancelled
// after the request may have been received, or when the answer cannot be read, nobody knows what will be billed; such
// an error does not wrap it, and the agent charges what the call held. The same goes for the statuses by which a proxy
// says that it lost the provider (502, 504, 520, 524), unless the body is an error of the API's own.
package openai
