package sqldb_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

func TestLimits_ComeBackAsTheyWereInTheirOrder(t *testing.T) {
	t.Parallel()
	limit := func(window period.Window, agent, model string, metric book.Metric, most int64) book.Limit {
		return book.Limit{Scope: book.Scope{Window: window, Agent: agent, Model: model}, Metric: metric, Max: most}
	}
	daily, hourly := limit(period.Day, "", "", book.Cost, math.MaxInt64), limit(period.Hour, `a "quoted" <agent> \`, "größe/模型", book.Calls, 0)
	ends := time.Date(2027, 3, 14, 9, 0, 0, 120_000_000, time.UTC)
	all := sqldb.Limits{
		Own: []book.Limit{hourly, daily, limit(period.Total, "", "m", book.Tokens, 1<<62)},
		TopUps: []book.TopUp{
			{Limit: hourly, Key: "second"}, {Limit: hourly, Key: "first", Ends: ends}, {Limit: daily, Key: "invoice 7", Ends: ends},
		},
	}
	got, err := sqldb.ParseLimits(all.String())
	require.NoError(t, err)
	require.Equal(t, sqldb.Limits{
		Own:    []book.Limit{daily, hourly, all.Own[2]},
		TopUps: []book.TopUp{all.TopUps[2], all.TopUps[1], all.TopUps[0]},
	}, got)
}

func TestLimits_OfNoneIsAnEmptyList(t *testing.T) {
	t.Parallel()
	require.Equal(t, "[]", sqldb.Limits{}.String())
	for _, document := range []string{"[]", "[ ]"} {
		got, err := sqldb.ParseLimits(document)
		require.NoError(t, err)
		require.Equal(t, sqldb.Limits{}, got)
	}
}

func TestParseLimits_NamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		``, `{}`, `[{"window_unit":"year","metric":"cost","amount":1}]`, `[{"window_unit":"day","metric":"cost","amount":1.5}]`,
		`[{"window_unit":"day","metric":"cost","amount":1,"topup":"k","ends_at":"tomorrow"}]`,
	} {
		_, err := sqldb.ParseLimits(document)
		require.ErrorContains(t, err, "the limits", document)
	}
}
