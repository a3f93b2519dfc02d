// Package fantasy makes a language model of charm.land/fantasy a [tenant.Model], plain and streamed, and so a model of every
// provider that fantasy knows: OpenAI and whoever speaks its formats, Anthropic, Google, Azure, Bedrock, OpenRouter, Vercel.
//
//	provider, err := openrouter.New(openrouter.WithAPIKey(key), openrouter.WithHTTPClient(tenantfantasy.Client(nil))) // fantasy's
//	language, err := provider.LanguageModel(ctx, "moonshotai/kimi-k2")
//	model, err := tenantfantasy.NewModel(language) // this package
//	agent, err := tenant.NewAgent(ledger, model)
//	reply, err := agent.Call(ctx, "Hello", tenant.WithTenant(org))
//
// # What is read
//
// The HTTP client of [Client] reads usage, ids and reasons from the reply as it passes by, with the reader of package tenanthttp's
// transport ([tenanthttp.Exchange]). Fantasy's own usage is not looked at: whether its input includes what was cached differs
// by provider, and its streams of Gemini add running totals up (findings of version 0.41.2, in the repository). So a model whose
// provider was given another client, or makes no requests, is charged what its calls held, marked estimated.
//
// # What fantasy cannot ask for
//
// Its calls have no texts to stop at, its images no URLs, and its schemas few keywords ($ref and anyOf are not among them): a call with
// one of these fails with [tenant.ErrInvalidOption] and is not charged. A reply with a JSON schema comes as a whole also in a stream.
//
// # Versions
//
// Fantasy needs the newest Go: 0.41.2 and 0.42.0 build with Go 1.26, later ones with 1.27 and up. This module needs 0.41.2, and
// takes whichever its program has.
//
// # Errors
//
// An [Error] wraps [tenant.ErrNotBilled] where nothing was used: when the provider answered with an error, also in a stream
// before any text. When nobody knows what will be billed, it does not, and the agent charges what came, or what the call held.
package fantasy
