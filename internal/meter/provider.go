package meter

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// The providers whose replies or requests have something of their own. Others are named as provider.go lists them.
const (
	OpenAIProvider    = "openai"
	Azure             = "azure"
	AnthropicProvider = "anthropic"
	Google            = "google"
	Vertex            = "vertex"
	Bedrock           = "bedrock"
	CohereProvider    = "cohere"
	OllamaProvider    = "ollama"
	OpenRouter        = "openrouter"
	Vercel            = "vercel"
	XAI               = "xai"
	DeepSeek          = "deepseek"
	Mistral           = "mistral"
	Groq              = "groq"
	Perplexity        = "perplexity"
	Cerebras          = "cerebras"
	Writer            = "writer"
	Voyage            = "voyageai"
	Alibaba           = "alibaba"
	Snowflake         = "snowflake"
	Cloudflare        = "cloudflare"
	Watsonx           = "watsonx"
	Databricks        = "databricks"
	ZAI               = "zai"
)

// hosts are the names of hosts, and of their domains.
var hosts = map[string]string{
	"api.openai.com":                    OpenAIProvider,
	"openai.azure.com":                  Azure,
	"services.ai.azure.com":             Azure,
	"cognitiveservices.azure.com":       Azure,
	"inference.ai.azure.com":            Azure,
	"models.ai.azure.com":               Azure,
	"api.anthropic.com":                 AnthropicProvider,
	"generativelanguage.googleapis.com": Google,
	"api.cohere.com":                    CohereProvider,
	"api.cohere.ai":                     CohereProvider,
	"ollama.com":                        OllamaProvider,
	"openrouter.ai":                     OpenRouter,
	"ai-gateway.vercel.sh":              Vercel,
	"api.x.ai":                          XAI,
	"api.deepseek.com":                  DeepSeek,
	"api.mistral.ai":                    Mistral,
	"codestral.mistral.ai":              Mistral,
	"api.groq.com":                      Groq,
	"api.perplexity.ai":                 Perplexity,
	"api.cerebras.ai":                   Cerebras,
	"api.writer.com":                    Writer,
	"api.together.xyz":                  "together",
	"api.together.ai":                   "together",
	"api.fireworks.ai":                  "fireworks",
	"router.huggingface.co":             "huggingface",
	"api-inference.huggingface.co":      "huggingface",
	"api.z.ai":                          ZAI,
	"open.bigmodel.cn":                  ZAI,
	"api.moonshot.ai":                   "moonshot",
	"api.moonshot.cn":                   "moonshot",
	"api.voyageai.com":                  Voyage,
	"api.jina.ai":                       "jina",
	"api.avian.io":                      "avian",
	"api.inference.crusoecloud.com":     "crusoe",
	"snowflakecomputing.com":            Snowflake,
	"models.github.ai":                  "github",
	"api.deepinfra.com":                 "deepinfra",
	"api.sambanova.ai":                  "sambanova",
	"api.minimax.io":                    "minimax",
	"api.minimaxi.com":                  "minimax",
	"api.studio.nebius.com":             "nebius",
	"api.tokenfactory.nebius.com":       "nebius",
	"integrate.api.nvidia.com":          "nvidia",
	"dashscope.aliyuncs.com":            Alibaba,
	"dashscope-intl.aliyuncs.com":       Alibaba,
	"dashscope-us.aliyuncs.com":         Alibaba,
	"api.cloudflare.com":                Cloudflare,
	"ml.cloud.ibm.com":                  Watsonx,
	"cloud.databricks.com":              Databricks,
	"gcp.databricks.com":                Databricks,
	"azuredatabricks.net":               Databricks,
}

// Providers returns the names that Endpoint.Provider can have.
func Providers() []string {
	names := map[string]bool{Bedrock: true, Vertex: true}
	for _, name := range hosts {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// providerOf returns the provider of a host that is known, else an empty string.
func providerOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if (host == "localhost" || host == "127.0.0.1" || host == "::1") && u.Port() == "11434" {
		return OllamaProvider
	}
	under := func(domain string) bool { return strings.HasSuffix(host, "."+domain) }
	first, _, _ := strings.Cut(host, ".")
	switch {
	case under("amazonaws.com"), under("amazonaws.com.cn"), under("api.aws"):
		for label := range strings.SplitSeq(host, ".") { // private endpoints have a label before it
			if label == "aws-external-anthropic" { // *Claude Platform on AWS*: Anthropic's own, with its models' names and prices
				return AnthropicProvider
			}
			if strings.HasPrefix(label, "bedrock-runtime") || strings.HasPrefix(label, "bedrock-mantle") || strings.HasPrefix(label, "bedrock-agent-runtime") {
				return Bedrock
			}
		}
	case strings.HasSuffix(first, "aiplatform") && under("googleapis.com"):
		return Vertex
	}
	for domain := host; domain != ""; {
		if p, ok := hosts[domain]; ok {
			return p
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return ""
}

// StatesUnasked reports whether a host states the usage of a stream in a chunk of its own although nobody asks for it, so that
// the chunk is the caller's: Novita does, also behind the router of Hugging Face.
func StatesUnasked(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return host == "novita.ai" || strings.HasSuffix(host, ".novita.ai") ||
		strings.HasSuffix(host, "huggingface.co") && strings.HasPrefix(u.Path, "/novita/")
}

// regionOf returns the region in the names of OpenAI's regional hosts.
func regionOf(u *url.URL) string {
	region, ok := strings.CutSuffix(strings.ToLower(u.Hostname()), ".api.openai.com")
	if !ok || strings.Contains(region, ".") {
		return ""
	}
	return region
}

// in adds the region to the tier that a call is served in: both decide its price.
func (e Endpoint) in(tier string) string {
	if e.Region == "" {
		return tier
	}
	return strings.TrimPrefix(tier+"+"+e.Region, "+")
}
