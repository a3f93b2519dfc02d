package dashboard_test

import (
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	plugins.RegisterDefaultPlugins() // the kinds of panels and queries, of which its model knows nothing otherwise
	goleak.VerifyTestMain(m)
}
