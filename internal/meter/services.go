package meter

import (
	"net/url"
	"slices"
	"strings"
)

// A service is something that costs money, and that is known and not counted: its replies do not state what was used, or
// it is charged by the hour, or it is a session that is no HTTP.
type service struct {
	name string

	// host is what a request's host ends in, in whole labels; what is before a dash is what it begins with. Empty: any host
	// of the provider's.
	host     string
	provider string

	// path is what of the path says that it is this one: segments that follow each other. Empty: whatever is posted there.
	path []string
}

// services are in the order in which they are looked for. docs/transport.md lists them.
var services = []service{
	{name: "ElevenLabs, by characters, minutes or credits", host: "elevenlabs.io"},
	{name: "Deepgram, by seconds of audio and characters", host: "deepgram.com"},
	{name: "AssemblyAI, by seconds of audio", host: "assemblyai.com"},
	{name: "Cartesia, by credits", host: "cartesia.ai"},
	{name: "fal, by the piece or by seconds of a machine", host: "fal.run"},
	{name: "fal, by the piece or by seconds of a machine", host: "fal.ai"},
	{name: "Replicate, by the piece or by seconds of a machine", host: "replicate.com"},
	{name: "Stability AI, by credits", host: "api.stability.ai"},
	{name: "Black Forest Labs, by images", host: "bfl.ai"},
	{name: "Runway, by credits", host: "runwayml.com"},
	{name: "Luma, by images and videos", host: "lumalabs.ai"},
	{name: "SageMaker, by hours of an instance", host: "amazonaws.com", path: []string{"endpoints", "*", "invocations"}},
	{name: "SageMaker, by hours of an instance", host: "amazonaws.com", path: []string{"endpoints", "*", "invocations-response-stream"}},
	{name: "SageMaker, by hours of an instance", host: "amazonaws.com", path: []string{"endpoints", "*", "async-invocations"}},
	{name: "Bedrock agents", host: "bedrock-agent-runtime-.amazonaws.com"},
	{name: "Bedrock AgentCore", host: "bedrock-agentcore-.amazonaws.com"},
	{name: "Bedrock guardrails, by text units", provider: Bedrock, path: []string{"guardrail"}},
	{name: "Bedrock's asynchronous calls, whose results are in a bucket", provider: Bedrock, path: []string{"async-invoke"}},
	{name: "Bedrock's calls in both directions", provider: Bedrock, path: []string{"invoke-with-bidirectional-stream"}},

	{name: "Realtime sessions: their events have the usage", path: []string{"realtime"}},
	{name: "Gemini's Live API: its events have the usage", provider: Google, path: []string{"auth_tokens"}},
	{name: "a stored cache of Gemini's, by tokens and hours", provider: Google, path: []string{"cachedContents"}},
	{name: "a stored cache of Gemini's, by tokens and hours", provider: Vertex, path: []string{"cachedContents"}},
	{name: "Gemini's file search, by tokens that are embedded", provider: Google, path: []string{"fileSearchStores"}},

	{name: "fine-tuning", path: []string{"fine_tuning", "jobs"}},
	{name: "fine-tuning", provider: Google, path: []string{"tunedModels"}},
	{name: "fine-tuning", provider: Vertex, path: []string{"tuningJobs"}},
	{name: "fine-tuning", provider: CohereProvider, path: []string{"finetuning"}},
	{name: "an assistant's run", path: []string{"threads", "*", "runs"}},
	{name: "an assistant's run", path: []string{"threads", "runs"}},
	{name: "the run of an evaluation", path: []string{"evals", "*", "runs"}},
	{name: "a container, by its session", provider: OpenAIProvider, path: []string{"containers"}},
	{name: "a container, by its session", provider: Azure, path: []string{"containers"}},
	{name: "a session of OpenAI's agents: its turns have the usage", provider: OpenAIProvider, path: []string{"agents", "sessions"}},
	{name: "a session of OpenAI's agents: its turns have the usage", provider: OpenAIProvider, path: []string{"agents", "automations"}},
	{name: "a container, by its session", provider: OpenAIProvider, path: []string{"agents", "environments"}},
	{name: "a session of ChatKit", provider: OpenAIProvider, path: []string{"chatkit", "sessions"}},
	{name: "a session of a managed agent", provider: AnthropicProvider, path: []string{"sessions"}},
	{name: "DeepInfra's own API", provider: "deepinfra", path: []string{"v1", "inference"}},
	{name: "Cohere's embedding jobs", provider: CohereProvider, path: []string{"embed-jobs"}},
	{name: "Perplexity's search, by requests", provider: Perplexity, path: []string{"search"}},
	{name: "Perplexity's browser, by sessions", provider: Perplexity, path: []string{"browser", "sessions"}},
	{name: "libraries of documents at Mistral, by pages", provider: Mistral, path: []string{"libraries", "*", "documents"}},
	{name: "native DashScope beside text: applications, images, video and sound", provider: Alibaba, path: []string{"api", "v1"}},
	{name: "Snowflake Cortex beside inference: agents, analyst, search", provider: Snowflake, path: []string{"cortex"}},
}

// serviceOf returns what a request that nobody counts is known to be for, or an empty string.
func serviceOf(u *url.URL, provider string, p path) string {
	host := strings.ToLower(u.Hostname())
	for _, s := range services {
		if (s.provider == "" || s.provider == provider) && within(host, s.host) && p.holds(s.path) {
			return s.name
		}
	}
	return ""
}

// within reports whether a host is a domain, or one below it.
func within(host, domain string) bool {
	first, rest, dashed := strings.Cut(domain, "-.")
	switch {
	case domain == "":
		return true
	case dashed: // the name of a service, with what the cloud puts between it and the domain
		return (strings.HasPrefix(host, first+".") || strings.HasPrefix(host, first+"-")) && (strings.HasSuffix(host, "."+rest) || strings.HasSuffix(host, "."+rest+".cn"))
	default:
		return host == domain || strings.HasSuffix(host, "."+domain)
	}
}

// holds reports whether segments follow each other somewhere in a path; a star is any segment.
func (p path) holds(segments []string) bool {
	for i := range len(p) - len(segments) + 1 {
		if slices.EqualFunc(p[i:i+len(segments)], segments, func(is, want string) bool { return want == "*" || is == want }) {
			return true
		}
	}
	return false
}

// serviceHost reports whether a host has nothing but such a service: what it has made is read for nothing.
func serviceHost(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return slices.ContainsFunc(services, func(s service) bool { return s.host != "" && len(s.path) == 0 && within(host, s.host) })
}
