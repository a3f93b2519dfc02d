package tenanthttp

import (
	"context"

	"github.com/llmtenant/tenant/internal/callctx"
)

// Scope is what hears of the calls of a context, for tests.
func Scope(ctx context.Context) callctx.Scope { return callctx.ScopeOf(ctx) }
