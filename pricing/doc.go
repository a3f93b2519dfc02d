// Package pricing is the price book that ships with tenant: what the models of OpenAI, Anthropic and Google (the Gemini
// API) cost, as of 2026-08-21.
//
//	ledger, err := tenant.Open(db, tenant.WithPrices(pricing.Default()))
//
// # Own prices
//
// [Book.With] lays a host's rows over a book, for negotiated rates or for models that the book does not know; [New]
// makes a book of nothing but the host's rows. Rates are written in US dollars per million tokens as decimals, which
// are read exactly; a [tenant.Price] has them in nano-dollars (1e-9 US dollars) per million tokens, so "0.15" is
// 150_000_000. Web searches are in US dollars per search.
//
// # Names
//
// A model is found by the exact name of a row, and otherwise only by these rules, in this order:
//
//  1. a name that the row lists in Also ("gpt-5.6" for gpt-5.6-sol);
//  2. Google's resource prefix: "models/gemini-2.5-pro" is gemini-2.5-pro;
//  3. a date at the end, where there is no row with it: "gpt-4.1-mini-2025-04-14", "claude-opus-4-5-20251101" and
//     "claude-opus-4-5@20251101" have the price of the row without the date;
//  4. Google's three-digit version at the end: "gemini-2.0-flash-001".
//
// Nothing else is guessed: no prefixes, no families, no fine-tuned models. A model that is not found has no price,
// which is never a price of zero. A provider's name may be written in any case, a model's may not. Without a provider
// a model is found if exactly one provider has its name.
//
// # Where the figures come from
//
// The table is book.json, one row a line, each with the source of its figures; the file says what was decided where
// sources disagree. The figures are those of three public lists, of which the newest wins: pydantic/genai-prices of
// 2026-08-21, LiteLLM of 2026-08-01 and models.dev of 2026-07-02. They are the public rates of the standard service
// tier, before any discount, free allowance, or surcharge for data residency.
//
// Models are left out that charge for something that [tenant.Usage] does not count: tokens of video output, characters,
// seconds, images by the piece. Usage has one class for cache reads: where a provider charges cached audio or images
// apart from cached text, the book has the rate of cached text. OpenAI charges more for the older web_search_preview
// tool on models that do not reason ($0.025 a search); the book has the fee of its successor.
package pricing
