package tenanthttp

import (
	"context"

	"github.com/llmtenant/tenant/internal/metered"
)

// Scope is what hears of the calls of a context, for tests.
func Scope(ctx context.Context) metered.Scope { return metered.ScopeOf(ctx) }
