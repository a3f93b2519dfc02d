package pricing

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// The public lists lie outside of the repository, on the machines where the table is made.
const lists = "../../shared/prices"

// A claim is what a list says of one class of one model.
type claim struct {
	list, provider, model string
	at                    time.Time
	service               string
	above                 int64
	class                 string
	nano                  int64
	twin                  bool // the list has the model under another name too, which goes before
}

func (c claim) field() string {
	field := c.class
	if c.above > 0 {
		field = fmt.Sprintf("%s>%d", c.class, c.above)
	}
	if c.service != "" {
		field = c.service + ":" + field
	}
	return field
}

// A ruling says that the table does not follow a list, for models and a class (patterns in which * is any text).
type ruling struct{ provider, list, model, class, why string }

// The notes in book.json say why, where no reason stands here.
var rulings = []ruling{
	{Anthropic, "litellm", "claude-3-haiku*", "cache_write_1h", ""},
	{Anthropic, "litellm", "claude-3-opus*", "cache_write_1h", ""},
	{Anthropic, "models.dev", "claude-3-sonnet*", "cache_write_5m", ""},
	{OpenAI, "genai", "gpt-4o-2024-05-13", "*", ""},
	{OpenAI, "models.dev", "gpt-5.5", "priority:*", "LiteLLM is newer"},
	{OpenAI, "litellm", "gpt-4o*-search-preview", "web_search", ""},
	{OpenAI, "genai", "gpt-4o*-search-preview*", "web_search", "the fee of the newer tool"},
	{OpenAI, "litellm", "gpt-4o-mini-2024-07-18", "web_search", "the fees of 2025 by size of context"},
	{OpenAI, "litellm", "gpt-4o-search-preview*", "cache_read", ""},
	{OpenAI, "litellm", "gpt-4o*-transcribe*", "input_audio", ""},
	{OpenAI, "litellm", "gpt-4o-mini-tts*", "*put", "the rates of a model that transcribes; OpenAI's own are genai-prices'"},
	{OpenAI, "litellm", "gpt-5.?-pro*", "cache_read*", ""},
	{OpenAI, "litellm", "gpt-image-2*", "output", ""},
	{OpenAI, "litellm", "gpt-realtime-2", "output", ""},
	{OpenAI, "genai", "o3*", "cache_read", ""},
	{Google, "litellm", "gemini-2.0-flash-lite*", "cache_read", ""},
	{Google, "litellm", "gemini-2.5-flash-preview-09-2025", "cache_read", ""},
	{Google, "litellm", "gemini-2.5-flash-image", "cache_read", ""},
	{Google, "litellm", "gemini-2.5-flash-image", "input_audio", "the model takes no audio"},
	{Google, "models.dev", "gemini-2.5-flash-image", "cache_read", ""},
	{Google, "models.dev", "gemini-*-image*", "output", "the rate of image output"},
	{Google, "litellm", "gemini-2.5-*-preview-tts", "*", ""},
	{Google, "litellm", "gemini-*live*", "*", ""},
	{Google, "litellm", "gemini-2.5-flash-native-audio-*", "*", ""},
	{Google, "litellm", "gemini-3.1-flash-image*", "*put", ""},
	{Google, "litellm", "gemini-3.5-flash", "input_audio", ""},
	{Google, "litellm", "gemini-3.6-flash", "*", ""},
	{Google, "litellm", "gemini-flash-l*", "cache_read", ""},
	{Google, "models.dev", "gemini-flash-l*", "cache_read", ""},
	{OpenAI, "litellm", "ft:gpt-4o-2024-11-20", "cache_write_5m", ""},
	{Azure, "genai", "o1-mini", "*", "LiteLLM has the rates of a region, a tenth dearer, and is the newer list that tells them apart"},
	{Azure, "genai", "o4-mini", "cache_read", "rounded to whole cents"},
	{Azure, "genai", "phi-*", "*", "the rates of other hosts, under the names of OpenRouter"},
	{Azure, "models.dev", "claude-opus-4-?", "*>200000", "the tier that Anthropic gave up on 2026-03-13"},
	{Azure, "models.dev", "deepseek-v3.1", "*", "LiteLLM is newer"},
	{Azure, "models.dev", "gpt-4", "*", "the rates of gpt-4-32k"},
	{Azure, "models.dev", "gpt-4o-mini", "*", "LiteLLM has the rates of a region, a tenth dearer, for the dated name too"},
	{Azure, "models.dev", "gpt-5*", "cache_read", "rounded to whole cents, and the rate of gpt-5 for gpt-5.2"},
	{Azure, "models.dev", "gpt-image-2", "output", "the rate of image output"},
	{Azure, "models.dev", "grok-4-*fast-*", "cache_read", "LiteLLM is newer and has no discount"},
	{Azure, "models.dev", "o1-mini", "*", "LiteLLM has the rates of a region, a tenth dearer"},
	{Bedrock, "genai", "qwen.qwen3-coder-480b-a35b-v1:0", "input", "LiteLLM and models.dev agree"},
	{Bedrock, "litellm", "amazon.titan-text-*", "*", ""},
	{Bedrock, "litellm", "eu.anthropic.claude-opus-4-5-*", "*", ""},
	{Bedrock, "litellm", "meta.llama3-?-*", "*", ""},
	{Bedrock, "litellm", "mistral.mistral-large-2402-v1:0", "*", ""},
	{Bedrock, "litellm", "moonshotai.kimi-k2.5", "output", "LiteLLM has the model twice, and this is the rate of another region"},
	{Bedrock, "models.dev", "moonshotai.kimi-k2.5", "output", "LiteLLM is newer"},
	{Bedrock, "models.dev", "??.anthropic.claude-*", "*", "it lacks the tenth that a region costs more since Claude 4.5"},
	{Bedrock, "models.dev", "amazon.nova-2-lite-v1:0", "*", "it has the tenth that a region costs more for all regions"},
	{Bedrock, "models.dev", "google.gemma-3-*", "*", "LiteLLM and genai-prices agree"},
	{Bedrock, "models.dev", "mistral.voxtral-small-24b-2507", "*", "LiteLLM and genai-prices agree"},
	{Bedrock, "models.dev", "qwen.qwen3-*", "*", "LiteLLM is newer"},
	{DeepSeek, "genai", "deepseek-v3.2", "*", "the rates of other hosts"},
	{DeepSeek, "litellm", "deepseek-chat", "*", "the name leads to deepseek-v4-flash now, whose rates all lists agree on"},
	{DeepSeek, "litellm", "deepseek-reasoner", "*", "the name leads to deepseek-v4-flash now"},
	{Groq, "genai", "gemma-7b-it", "*", "retired; LiteLLM has the later rates"},
	{Groq, "genai", "openai/gpt-oss-safeguard-20b", "*", "the rates of the model of 120b; LiteLLM and models.dev agree"},
	{Mistral, "genai", "mistral-embed", "output", "an embedding has no output"},
	{Mistral, "genai", "mistral-large-*", "*put", "the rates of mistral-large-2411 for all of the family"},
	{Mistral, "genai", "mistral-small-latest", "*", "the name leads to mistral-small-2603 now"},
	{Mistral, "litellm", "codestral-latest", "*", "the rates of codestral-2405; the name leads to codestral-2508 now"},
	{Mistral, "litellm", "mistral-medium", "*", "the rates of the first model; the name leads to mistral-medium-3-1 now"},
	{Mistral, "litellm", "mistral-small-latest", "*", "the name leads to mistral-small-2603 now"},
	{Mistral, "litellm", "open-mistral-nemo", "*", "the rates of the launch; genai-prices and models.dev agree"},
	{Mistral, "models.dev", "ministral-8b-latest", "*", ""},
	{Mistral, "models.dev", "mistral-medium-latest", "*", ""},
	{OpenRouter, "genai", "*", "*", "models.dev takes OpenRouter's figures from OpenRouter, with tiers; genai-prices keeps those of retired routes"},
	{OpenRouter, "litellm", "*", "*", "OpenRouter's prices follow its cheapest route; LiteLLM has those of the time when a model was added"},
	{OpenRouter, "models.dev", "google/*", "cache_write_5m", ""},
	{Perplexity, "litellm", "sonar-deep-research", "*request", ""},
	{Perplexity, "genai", "sonar-reasoning", "request", "the dearer of two: a hold has to cover it, and what is charged is what Perplexity reports"},
	{Vercel, "litellm", "*", "*", "LiteLLM has the gateway's prices of 2025"},
	{Vercel, "models.dev", "minimax/*-highspeed", "cache_write_5m", ""},
	{Vertex, "litellm", "claude-3-5-haiku@20241022", "*", ""},
	{Vertex, "litellm", "deepseek-ai/deepseek-v3.1-maas", "*", ""},
	{Vertex, "litellm", "text-embedding-00?", "input", "Google charges characters"},
	{Vertex, "litellm", "text-embedding-large-*", "input", "Google charges characters"},
	{Vertex, "litellm", "text-multilingual-*", "input", "Google charges characters"},
	{Vertex, "litellm", "gemini-*-pro*", "cache_write_5m>200000", ""},
	{Vertex, "models.dev", "claude-*@default", "*>200000", "the tier that Anthropic gave up on 2026-03-13"},
	{Vertex, "models.dev", "gemini-2.5-flash", "cache_*", "the rates of before the price cut"},
	{Vertex, "models.dev", "gemini-3.5-flash", "input_audio", "LiteLLM is newer"},
	{Vertex, "models.dev", "openai/gpt-oss-*", "*", "LiteLLM is newer"},
	{Vertex, "models.dev", "qwen/qwen3-235b-*", "*", "LiteLLM is newer"},
	{Vertex, "genai", "claude-3-*", "*", "retired; LiteLLM has the later rates"},
	{Vertex, "genai", "claude-opus-4-6", "*>200000", "the tier that Anthropic gave up on 2026-03-13"},
	{XAI, "litellm", "grok-4.20-*", "*", ""},
	{XAI, "genai", "*grok-4.5*", "cache_read*", "LiteLLM and models.dev agree, and what is charged is what xAI states"},
}

// leftOut are the models of the lists that the table does not have (patterns in which * is any text).
var leftOut = []struct{ provider, model, why string }{
	{OpenAI, "gpt-4o-mini-2024-07-18.ft-", "fine-tuned"},
	{Google, "gemma-*", "free on the Gemini API, or priced by other hosts"},
	{Google, "gemini-gemma-*", "free on the Gemini API"},
	{OpenAI, "gpt-oss-*", "not sold by OpenAI"},
	{OpenAI, "gpt-5.4-image-2", "not a name of OpenAI's API"},
	{OpenAI, "gpt-5-image*", "not a name of OpenAI's API"},
	{OpenAI, "gpt-4o:extended", "not a name of OpenAI's API"},
	{OpenAI, "gpt-3.5-0301", "the list's name for gpt-3.5-turbo-0301"},
	{OpenAI, "gpt-5.3", "not a name of OpenAI's API"},
	{OpenAI, "computer-use", "the list's name for computer-use-preview"},
	{OpenAI, "gpt-chat-latest", "only known from OpenRouter"},
	{OpenAI, "chatgpt-image-latest", "LiteLLM has the rates of gpt-image-1 for a model of gpt-image-1.5's date"},
	{OpenAI, "ada", "retired"},
	{OpenAI, "babbage", "retired"},
	{OpenAI, "curie", "retired"},
	{OpenAI, "davinci", "retired"},
	{OpenAI, "text-davinci-00?", "retired"},
	{Anthropic, "claude-2", "retired"},
	{Anthropic, "claude-v1", "retired"},
	{Google, "gemini-pro", "retired"},
	{Google, "gemini-1.0-*", "retired"},
	{Google, "gemini-2.5-flash-preview", "retired"},
	{Google, "gemini-flash-1.5*", "OpenRouter's names for gemini-1.5-flash"},
	{Google, "gemini-pro-1.5", "OpenRouter's name for gemini-1.5-pro"},
	{Google, "gemini-omni-flash-preview", "its video output has a rate of its own, which Usage has no class for"},
	{Google, "deep-research-pro-preview-12-2025", "LiteLLM has the rates of an image model for it"},
	{Google, "gemini-exp-*", "retired; no rates"},
	{OpenAI, "ft:gpt-3.5-turbo-", "not a name of OpenAI's API"},
	{OpenAI, "ft:gpt-4o", "a family, whose dated models each have a row"},
	{OpenAI, "ft:gpt-4o-mini", "a family, whose dated models each have a row"},
	{Azure, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{Azure, "jais-30b-chat", "LiteLLM has a thousand times the rates"},
	{Azure, "mistral-large-latest", "LiteLLM has two prices for it"},
	{Azure, "model?router", "the router's fee alone, without the model that it chooses"},
	{Azure, "babbage", "retired"},
	{Azure, "curie", "retired"},
	{Azure, "davinci", "retired"},
	{Azure, "phi-3.5-mini-128k-instruct", "the rates of other hosts, under the names of OpenRouter"},
	{Azure, "phi-4-m*-instruct", "the rates of other hosts, under the names of OpenRouter"},
	{Azure, "wizardlm-2-8x22b", "the rates of other hosts"},
	{Bedrock, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{Bedrock, "amazon.nova-2-multimodal-embeddings-v1:0", "images, seconds of audio and video by the piece"},
	{Bedrock, "regional.*", "a name of genai-prices' own for all regions but the global one"},
	{Bedrock, "global.anthropic.claude-opus-4-5-v1:0", "genai-prices leaves the date out"},
	{OpenRouter, "~*", "the price of the model that the alias leads to"},
	{Cohere, "command-a", "not a name of Cohere's API"},
	{Cohere, "command-r7b", "not a name of Cohere's API"},
	{Cohere, "embed-multilingual-light-v3.0", "LiteLLM has a thousand times the rate"},
	{DeepSeek, "deepseek-v3.1-terminus", "not a name of DeepSeek's API"},
	{DeepSeek, "deepseek-v3.2-exp", "not a name of DeepSeek's API"},
	{Mistral, "mistral-small-24b-instruct-2501", "not a name of Mistral's API"},
	{Mistral, "voxtral-small-24b-2507", "not a name of Mistral's API"},
	{Perplexity, "llama-*", "retired"},
	{Perplexity, "codellama-*", "retired"},
	{Perplexity, "mi?tral-*", "retired"},
	{Perplexity, "pplx-*b-*", "retired"},
	{Perplexity, "sonar-*-chat", "retired"},
	{Perplexity, "sonar-*-online", "retired"},
	{Vertex, "claude-3-7-sonnet", "not a name of Vertex AI's"},
	{Vertex, "claude-4-*", "not a name of Vertex AI's"},
	{Vertex, "gemini-embedding-2*", "its video input has a rate of its own"},
	{Vertex, "gemini-omni-flash-preview", "its video output has a rate of its own"},
	{Vertex, "multimodalembedding*", "images and seconds by the piece"},
	{Vertex, "deep-research-pro-preview-12-2025", "LiteLLM has the rates of an image model for it"},
}

// genaiAlone are the providers for which a model that genai-prices alone has is left out, with the reason.
var genaiAlone = map[string]string{
	Groq:       "retired",
	Mistral:    "families of models, under the names of OpenRouter",
	OpenRouter: "retired, or routes of a day",
	Perplexity: "retired, or not on Perplexity's own API",
	XAI:        "families of models",
}

// publicLists returns all claims, or skips the test: the lists are others' files, and no part of this repository.
func publicLists(t *testing.T) []claim {
	t.Helper()
	if _, err := os.Stat(lists); err != nil {
		t.Skipf("the public price lists are no part of the repository, and %s is not on this machine", lists)
	}
	return slices.Concat(litellm(t), genaiPrices(t), modelsDev(t))
}

func TestTable_AgreesWithThePublicLists(t *testing.T) {
	t.Parallel()
	claims := publicLists(t)
	require.Greater(t, len(claims), 1000)

	elsewhere := make(map[[2]string]bool)
	for _, c := range claims {
		if c.list != "genai" {
			elsewhere[[2]string{c.provider, c.model}] = true
		}
	}
	alone := 0
	used, absent := make(map[int]bool), make(map[int]bool)
	for _, c := range claims {
		p, ok := Default().Price(c.provider, c.model, c.at)
		if i := leftOutBy(c.provider, c.model); i >= 0 {
			absent[i] = true
			if ok {
				t.Errorf("%s %s is left out and has a price", c.provider, c.model)
			}
			continue
		}
		if !ok && c.list == "genai" && genaiAlone[c.provider] != "" && !elsewhere[[2]string{c.provider, c.model}] {
			alone++
			continue
		}
		if !ok {
			t.Errorf("%s: %s %s has no price and is not left out", c.list, c.provider, c.model)
			continue
		}
		got, tier := rate(p.ForService(c.service), c.above, c.class)
		if tier && got == c.nano {
			continue
		}
		ruling := slices.IndexFunc(rulings, func(r ruling) bool {
			return r.provider == c.provider && r.list == c.list && match(r.model, c.model) && match(r.class, c.field())
		})
		used[ruling] = true
		if ruling < 0 {
			t.Errorf("%s: %s %s %s at %s: the list has %d, the table %d (tier: %v)",
				c.list, c.provider, c.model, c.field(), c.at.Format(time.DateOnly), c.nano, got, tier)
		}
	}
	require.Positive(t, alone)
	for i, r := range rulings {
		if !used[i] {
			t.Errorf("ruling %v is not needed", r)
		}
	}
	for i, l := range leftOut {
		if !absent[i] {
			t.Errorf("no list has a price for %v", l)
		}
	}
}

// Nothing in the table is made up: each rate is in a list for a name of the row, but for those that have a note in the
// table, and those that one of derived makes.
func TestTable_EveryRateIsInAPublicList(t *testing.T) {
	t.Parallel()
	type figure struct {
		provider, model, field string
		nano                   int64
	}
	listed := map[figure]bool{
		{OpenAI, "o3", "cache_read", 2_500_000_000}:                               true,
		{Anthropic, "claude-sonnet-4-0", "cache_write_1h>200000", 12_000_000_000}: true,
	}
	listsNames := map[string]string{
		"computer-use":        "computer-use-preview",
		"gemini-pro-1.5":      "gemini-1.5-pro",
		"gemini-flash-1.5":    "gemini-1.5-flash",
		"gemini-flash-1.5-8b": "gemini-1.5-flash-8b",
	}
	for _, c := range publicLists(t) {
		if l := Default().find(c.provider, cmp.Or(listsNames[c.model], c.model)); l != nil {
			listed[figure{c.provider, l.name, c.field(), c.nano}] = true
		}
	}
	for _, e := range embedded(t).Rows {
		p, err := e.price()
		require.NoError(t, err)
		for _, s := range append([]tenant.Service{{Rates: p.Rates, Tiers: p.Tiers}}, p.Services...) {
			for _, tier := range append([]tenant.Tier{{Rates: s.Rates}}, s.Tiers...) {
				for class, nano := range byClass(tier.Rates) {
					c := claim{service: s.Name, class: class, above: tier.Above}
					f := figure{e.Provider, e.Model, c.field(), nano}
					if nano == 0 || class == "web_search" || listed[f] || derived(e, p, c, nano) {
						continue
					}
					t.Errorf("%v is in no list", f)
				}
			}
		}
	}
}

// derived reports whether a rate that no list states follows from others by one of the rules that the notes of the table
// name.
func derived(e entry, p tenant.Price, c claim, nano int64) bool {
	standard, _ := rate(p, c.above, c.class)
	base, _ := rate(p, 0, c.class)
	input, _ := rate(p, c.above, "input")
	switch {
	case c.service != "" && nano == standard:
		return true // a service that does not say otherwise charges as the standard one
	case e.Provider == Anthropic && c.service == "batch":
		return 2*nano == standard
	case c.service == "batch" && strings.HasPrefix(e.Model, "gemini-") && !strings.HasPrefix(c.class, "cache_"):
		return 2*nano == standard
	case e.Provider == OpenAI && (c.service == "batch" || c.service == "flex"):
		flex, _ := rate(p.ForService("flex"), c.above, c.class)
		return nano == flex || 2*nano == standard
	case e.Provider == OpenRouter && (strings.Contains(e.Model, "embed") || strings.Contains(e.Model, "transcribe")):
		maker, _ := Default().Price("", path.Base(e.Model), asOf)
		made, _ := rate(maker, c.above, c.class)
		return nano == made && e.Note != ""
	case e.Provider == Vertex && strings.HasPrefix(e.Model, "gemini-3"): // one price, which genai-prices has as the Gemini API's
		at := e.From
		if at.IsZero() {
			at = asOf
		}
		same, _ := Default().Price(Google, e.Model, at)
		there, _ := rate(same.ForService(c.service), c.above, c.class)
		return nano == there && e.Note != ""
	case e.Provider == Azure && c.class == "output" && strings.Contains(strings.ToLower(e.Model), "image"):
		return nano == p.OutputImage // where a list has none for text
	case c.above > 0 && nano == base:
		return true // a tier that does not say otherwise charges as below it
	case c.class == "cache_write_1h" && strings.Contains(e.Model, "claude"):
		return nano == 2*input
	}
	return e.Note != "" && strings.HasPrefix(c.class, "cache_")
}

func TestTable_WebSearchFeesAreThoseOfTheNotes(t *testing.T) {
	t.Parallel()
	for _, e := range embedded(t).Rows {
		want := "0.01"
		switch {
		case e.WebSearch == "" || !slices.Contains([]string{OpenAI, Anthropic, Google, XAI}, e.Provider):
			continue
		case e.Provider == XAI:
			want = "0.005"
		case strings.HasSuffix(e.Model, "-search-preview"):
			want = "0.025"
		case strings.HasPrefix(e.Model, "gemini-3"):
			want = "0.014"
		case e.Provider == Google:
			want = "0.035"
		}
		require.Equal(t, want, e.WebSearch, e.Model)
	}
}

// leftOutBy returns the entry of leftOut that a model is left out by, or -1.
func leftOutBy(provider, model string) int {
	for i, l := range leftOut {
		if l.provider == provider && match(l.model, model) {
			return i
		}
	}
	return -1
}

// match reports whether a pattern, in which * is any text and ? any letter, is the whole of a name.
func match(pattern, name string) bool {
	const slash = "\x00" // path.Match stops at slashes
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", slash), strings.ReplaceAll(name, "/", slash))
	return ok && err == nil
}

func byClass(r tenant.Rates) map[string]int64 {
	return map[string]int64{
		"input": r.Input, "cache_read": r.CacheRead, "cache_write_5m": r.CacheWrite5m, "cache_write_1h": r.CacheWrite1h,
		"output": r.Output, "reasoning": r.Reasoning,
		"input_audio": r.InputAudio, "cache_read_audio": r.CacheReadAudio, "output_audio": r.OutputAudio,
		"input_image": r.InputImage, "output_image": r.OutputImage,
		"web_search": r.WebSearch, "request": r.Request,
	}
}

// rate returns what a million tokens of the class cost above a threshold, and whether there is such a tier.
func rate(p tenant.Price, above int64, class string) (int64, bool) {
	rates := byClass(p.Rates)
	if above > 0 {
		i := slices.IndexFunc(p.Tiers, func(t tenant.Tier) bool { return t.Above == above })
		if i < 0 {
			return 0, false
		}
		rates = byClass(p.Tiers[i].Rates)
	}
	if n := rates[class]; n != 0 || class == "web_search" || class == "request" {
		return n, true
	}
	if n := cmp.Or(rates["input_audio"], rates["cache_read"]); class == "cache_read_audio" && n != 0 {
		return n, true
	}
	if strings.HasPrefix(class, "output") || class == "reasoning" {
		return rates["output"], true
	}
	return rates["input"], true
}
