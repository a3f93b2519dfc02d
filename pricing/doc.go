// Package pricing is the price book that ships with tenant: what 1,500 models of fifteen providers cost, as of
// 2026-09-23.
//
//	ledger, err := tenant.Open(db, tenant.WithPrices(pricing.Default()))
//
// # Own prices
//
// [Book.With] makes a book of another one by options: [Override] lays a host's rows over it, for negotiated rates or for
// models that it does not know; [TenantTerms] gives one tenant a mark-up, a discount, prices of its own, or nothing to
// pay where it brings its own key, and [InheritTerms] gives those to the tenants below it; [Deployments] says what is
// behind the names that a host gave deployments on Azure and inference profiles on Bedrock; [ChargeReported] and
// [ChargeComputed] decide whose word counts where a provider states what a call costs. [New] makes a book of nothing but
// the host's rows, [Load] one of a list that was downloaded, and [Live] is a place to put a new book while calls go on.
//
// Rates are written in US dollars per million tokens as decimals, which are read exactly; a [tenant.Price] has them in
// nano-dollars (1e-9 US dollars) per million tokens, so "0.15" is 150_000_000. Units ([Row].Units) are in US dollars per
// million as well: an image at $0.04 is "40000". Fees are in US dollars per search or call.
//
// # Names
//
// A provider's name may be written in any case, and as other libraries write it ("vertex_ai", "gemini"); a model's may
// not. A model is found by the exact name of a row, and otherwise only by these rules, in this order:
//
//  1. a name that the row lists in Also ("gpt-5.6" for gpt-5.6-sol);
//  2. the provider's name in front: "openai/gpt-4o" is gpt-4o of openai, also where no provider is given;
//  3. a path in front: "models/gemini-2.5-pro", "publishers/google/models/…", an ARN of a foundation model or an inference
//     profile;
//  4. on Bedrock a region in front ("eu.anthropic.…"), a revision at the end (":0") or the first version ("-v1",
//     "-v1:0"), where no row has them; but no region other than "global." where a row for one of the model's
//     regions is dearer than the row without: what the others cost is not known then;
//  5. on Vertex AI "@default" at the end, and a date there in either spelling: "-20250219" is "@20250219";
//  6. a date at the end, where no row has it: "gpt-4.1-mini-2025-04-14", "claude-opus-4-5-20251101" and
//     "claude-opus-4-5@20251101" have the price of the row without the date;
//  7. Google's three-digit version at the end: "gemini-2.0-flash-001";
//  8. for a fine-tuned model "ft:base:organization:suffix:id" the row "ft:base", never that of the base itself;
//  9. on OpenRouter ":floor" at the end. Other variants (":free", ":thinking") are rows of their own or unknown;
//     ":nitro" and ":online" can cost more than the model, and are unknown;
//  10. a row for [Any] model of the provider, as Ollama has.
//
// Nothing else is guessed. A model that is not found has no price, which is never a price of zero. Without a provider a
// model is found if exactly one of those who make models has its name: what only hosts and gateways sell needs theirs.
//
// # Where the figures come from
//
// The table is book.json, one row a line, each with the source of its figures; the file says what was decided where
// sources disagree, and the package's tests compare every figure with three public lists: pydantic/genai-prices of
// 2026-09-23, LiteLLM of 2026-08-01 and models.dev of 2026-07-02. The rates are the public ones, before any discount, free
// allowance. What is charged for keeping a call to a region is charged where the lists or the providers' own pages have it: as
// [Row].Uplifts for Anthropic, OpenAI and Claude on Vertex AI, and as rows of their own on Bedrock; other regional endpoints of
// Vertex AI, and Azure's data zones, are priced as the global ones.
//
// Models are left out that charge for something that [tenant.Usage] does not count, such as tokens of video output. Where a provider charges cached images apart from cached text, the book has the rate of
// cached text. OpenAI charges more for the older web_search_preview tool on models that do not reason ($0.025 a search);
// the book has the fee of its successor.
package pricing
