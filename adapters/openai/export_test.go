package openai

import "github.com/llmtenant/tenant"

// ReadUsage is readUsage, for tests.
func ReadUsage(raw string) (*tenant.Usage, tenant.Money) { return readUsage([]byte(raw)) }
