package meter

import (
	"slices"
	"strings"
)

// free reports whether a POST costs nothing.
func (p path) free(provider string) bool {
	last := p.back(0)
	_, verb, _ := strings.Cut(last, ":")
	switch {
	case verb == "countTokens", verb == "computeTokens", verb == "cancel":
		return true
	case last == "count_tokens", last == "count-tokens", last == "input_tokens", last == "tokenize", last == "detokenize",
		last == "check-api-key", last == "tokenize-text", last == "tokenization", last == "apply-template",
		last == "estimate-token-count", last == "tokenizer":
		return true
	case last == "files", last == "uploads", p.back(1) == "uploads", p.back(2) == "uploads":
		return true
	case last == "cancel": // it ends what was charged elsewhere
		return p.back(2) != "responses" && p.back(2) != "interactions"
	case p.back(1) == "api":
		switch last {
		case "show", "pull", "push":
			return true
		case "create", "copy", "delete":
			return provider == OllamaProvider
		}
	}
	return last == "moderations" && (provider == OpenAIProvider || provider == Azure) || p.keeps(provider)
}

// keeps reports whether a POST does no more than keep or change something at a provider: what a conversation has in it, a
// store of documents, an agent. What is done with it is a call of its own.
func (p path) keeps(provider string) bool {
	if provider == OpenAIProvider && p.back(2) == "chat" && p.back(1) == "completions" {
		return true // how a stored chat completion is labelled
	}
	if provider == Azure && len(p) > 3 && p[0] == "api" && p[1] == "projects" { // of Foundry, whose name follows
		p = p[3:]
	}
	for i, s := range p {
		switch {
		case slices.Contains(keptAt[provider], s) && (provider != "" || i > 0):
			return !slices.ContainsFunc(p[i+1:], func(s string) bool { return slices.Contains(worked, s) })
		case !slices.Contains(roots, s):
			return false
		}
	}
	return false
}

var (
	// keptAt are the first segments of what is kept, by provider.
	keptAt = map[string][]string{
		OpenAIProvider:    {"conversations", "vector_stores", "skills", "agents", "assistants", "evals", "organization", "projects"},
		Azure:             {"conversations", "vector_stores", "skills", "agents", "assistants", "evals"},
		AnthropicProvider: {"skills", "agents", "environments", "vaults", "memory_stores", "organizations"},
		Mistral:           {"agents", "connectors"},
		CohereProvider:    {"datasets", "connectors"},
		Google:            {"agents", "webhooks", "corpora"},
		OpenRouter:        {"keys", "auth", "credits", "guardrails", "workspaces", "byok", "observability", "generation", "organization", "scim"},
		"":                {"vector_stores", "skills", "assistants"}, // of a gateway in front of OpenAI
	}

	// roots are what stands before them.
	roots = []string{"v1", "v2", "v1beta", "v1alpha", "openai", "api", "beta"}

	// worked are segments after them, under which something is done that costs.
	worked = []string{"runs", "completions", "messages", "events", "responses", "documents", "sessions", "automations", "environments"}
)
