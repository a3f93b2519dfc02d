// Package google makes a model of Google's a [tenant.Model], plain and streamed, on the official SDK: of the Gemini API and of
// Vertex AI.
//
//	client, err := genai.NewClient(ctx, nil) // google.golang.org/genai, which reads GEMINI_API_KEY
//	model, err := tenantgoogle.NewModel(ctx, client, "gemini-2.5-flash") // this package
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
// The tokens that the budget granted are sent as maxOutputTokens, which caps thoughts as well.
//
// # What is read
//
// Usage, ids and reasons are read from the reply as it passes by, by the reader of package tenanthttp's transport
// ([tenanthttp.Exchange]), so that a call is booked alike by whichever of the two it is made: cached tokens inside the prompt,
// thoughts beside the candidates, media by their kind. Of a stream that is cut short, it is what the last chunk has stated. A
// stream that ends before its last chunk is an error, which the SDK does not notice.
//
// An image by its URL needs a MediaType, and is fetched by Google from gs: and from what its Files API has stored.
//
// # Errors
//
// An [Error] wraps [tenant.ErrNotBilled] where nothing was used: when the provider answered with an error, also in a stream
// before any text, and when the request was never sent. When nobody knows what will be billed, it does not, and the agent
// charges what came, or what the call held.
package google
