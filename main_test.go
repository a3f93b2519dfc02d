package tenant_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestMain(m *testing.M) {
	// A gorm handle with prepared statements keeps a goroutine for its cache, which nothing can end.
	pgtest.Main(m, goleak.IgnoreTopFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"))
}
