package tenantotel_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	tenantotel "github.com/llmtenant/tenant/otel"
)

// dashboard is what of Grafana's model of a dashboard the file uses.
type dashboard struct {
	Title, UID, Refresh, Timezone, Description string
	Tags                                       []string
	SchemaVersion, Version, GraphTooltip       int
	Editable                                   bool
	Time                                       struct{ From, To string }
	Annotations                                struct{ List []any }
	Templating                                 struct {
		List []struct {
			Name, Label, Type, Query, Regex string
			Current                         struct{ Text, Value string }
			Hide, Refresh                   int
			IncludeAll, Multi               bool
		}
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               source
		GridPos                  struct{ H, W, X, Y int }
		FieldConfig, Options     json.RawMessage
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                source
			Range                     bool
		}
	}
}

type source struct{ Type, UID string }

func TestDashboard_AsksForWhatAScrapeHas(t *testing.T) {
	t.Parallel()
	m := newMeters(t)
	newService(t, tenantotel.WithMeterProvider(m), tenantotel.WithStabilityOptIn("")).busy()
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m))
	require.NoError(t, err)
	returned(t, telemetry)
	labels := map[string]map[string]bool{} // by sample
	for line := range strings.Lines(m.scrape(t, openMetrics).text) {
		if sample := regexp.MustCompile(`^([a-z_]+)\{(.*)\} `).FindStringSubmatch(line); sample != nil {
			if labels[sample[1]] == nil {
				labels[sample[1]] = map[string]bool{}
			}
			for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[2], -1) {
				labels[sample[1]][label[1]] = true
			}
		}
	}

	file, err := os.Open("grafana/tenant.json")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var d dashboard
	read := json.NewDecoder(file)
	read.DisallowUnknownFields()
	require.NoError(t, read.Decode(&d))
	require.NotEmpty(t, d.UID)
	require.GreaterOrEqual(t, d.SchemaVersion, 36, "in which data sources are objects")
	require.Equal(t, "datasource", d.Templating.List[0].Type)
	require.Equal(t, "prometheus", d.Templating.List[0].Query)
	prometheus := source{"prometheus", "${" + d.Templating.List[0].Name + "}"}

	asked, ids, cells := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		require.Contains(t, []string{"timeseries", "stat"}, p.Type)
		require.NotEmpty(t, p.Description, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, cells[cell], "%s lies on %s", p.Title, cells[cell])
				cells[cell] = p.Title
			}
		}
		require.Equal(t, prometheus, p.Datasource)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.Equal(t, prometheus, target.Datasource)
			require.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"), target.Expr)
			names := regexp.MustCompile(`\b(llmtenant|gen_ai_client)_[a-z_]+\b`).FindAllString(regexp.MustCompile(`by \([^)]*\)|\{[^}]*\}`).ReplaceAllString(target.Expr, ""), -1)
			require.NotEmpty(t, names, target.Expr)
			for _, name := range names {
				require.Contains(t, labels, name, target.Expr)
				asked[name] = true
				for _, by := range regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(target.Expr, -1) {
					for label := range strings.SplitSeq(by[1], ", ") {
						require.Contains(t, labels[name], label, target.Expr)
					}
				}
			}
		}
	}
	for name := range labels {
		if strings.HasPrefix(name, "llmtenant_") && !strings.HasSuffix(name, "_bucket") && !strings.HasSuffix(name, "_seconds_sum") && !strings.HasSuffix(name, "_seconds_count") {
			require.Contains(t, asked, name, "a metric that nobody looks at")
		}
	}
}
