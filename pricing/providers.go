package pricing

import "strings"

// The names of the providers in the book.
const (
	Anthropic  = "anthropic"
	Azure      = "azure" // Azure OpenAI and Azure AI Foundry
	Bedrock    = "bedrock"
	Cohere     = "cohere"
	DeepSeek   = "deepseek"
	Google     = "google" // the Gemini API
	Groq       = "groq"
	Mistral    = "mistral"
	Ollama     = "ollama" // on a machine of one's own
	OpenAI     = "openai"
	OpenRouter = "openrouter"
	Perplexity = "perplexity"
	Vercel     = "vercel" // the AI Gateway
	Vertex     = "vertex" // Vertex AI, with the models of others on it
	XAI        = "xai"
)

type provider struct {
	also []string // other spellings

	// host: it sells models that others made, under their names. Where the provider of a call is not known, its rows do
	// not count: gpt-4o is OpenAI's.
	host bool

	// reported: it states what each call costs, fees that no usage shows among it, and so its word is charged.
	reported bool
}

var providers = map[string]provider{
	Anthropic: {},
	Azure: {also: []string{
		"azure-openai", "azure_openai", "azure_ai", "azure-cognitive-services", "azure.ai.openai", "azure.ai.inference",
	}, host: true},
	Bedrock:    {also: []string{"amazon-bedrock", "aws", "aws-bedrock", "aws_bedrock", "aws.bedrock", "bedrock_converse"}, host: true},
	Cohere:     {also: []string{"cohere_chat"}},
	DeepSeek:   {},
	Google:     {also: []string{"gemini", "google-gla", "googleai", "google-genai", "google_genai", "gcp.gemini"}},
	Groq:       {host: true},
	Mistral:    {also: []string{"mistralai", "mistral_ai"}},
	Ollama:     {also: []string{"ollama_chat"}, host: true},
	OpenAI:     {},
	OpenRouter: {host: true, reported: true},
	Perplexity: {reported: true},
	Vercel:     {also: []string{"vercel_ai_gateway", "vercel-ai-gateway"}, host: true, reported: true},
	Vertex: {also: []string{
		"vertexai", "vertex_ai", "vertex-ai", "google-vertex", "google-vertex-anthropic", "google_vertexai", "gcp.vertex_ai",
	}, host: true},
	XAI: {also: []string{"x-ai", "x_ai"}, reported: true},
}

// others are providers that the book has no rows of, with the names that lists have for them: what [Load] brings is found
// under the name that package tenanthttp gives their calls.
var others = map[string][]string{
	"alibaba":     {"dashscope"},
	"avian":       nil,
	"cerebras":    nil,
	"cloudflare":  nil,
	"crusoe":      nil,
	"databricks":  nil,
	"deepinfra":   nil,
	"fireworks":   {"fireworks-ai", "fireworks_ai", "fireworks_ai-embedding-models"},
	"github":      {"github-models"},
	"huggingface": nil,
	"jina":        {"jina_ai"},
	"minimax":     nil,
	"moonshot":    {"moonshotai"},
	"nebius":      nil,
	"nvidia":      {"nvidia_nim"},
	"sambanova":   nil,
	"snowflake":   {"snowflake-cortex"},
	"together":    {"together_ai", "togetherai"},
	"voyageai":    {"voyage"},
	"watsonx":     nil,
	"writer":      nil,
	"zai":         nil,
}

var providerSpellings = func() map[string]string {
	spellings := make(map[string]string)
	for name, also := range others {
		spellings[name] = name
		for _, other := range also {
			spellings[other] = name
		}
	}
	for name, p := range providers {
		spellings[name] = name
		for _, other := range p.also {
			spellings[other] = name
		}
	}
	return spellings
}()

// canonical returns the book's name for a provider, in whatever case and known spelling it is given.
func canonical(name string) string {
	name = strings.ToLower(name)
	if known, ok := providerSpellings[name]; ok {
		return known
	}
	return name
}
