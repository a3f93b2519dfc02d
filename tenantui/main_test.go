package tenantui_test

import (
	"testing"

	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
