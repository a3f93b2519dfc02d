package tenant_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
)

func TestJSON_OfABudgetIsWhatItSays(t *testing.T) {
	t.Parallel()
	b := tenant.Budget{
		TenantID: "acme", Name: "Acme", Enforcement: tenant.Hard, Inherit: true, TimeZone: "Europe/Berlin",
		Limits: tenant.Limits{
			DailyCost: tenant.USD("0.000000001"), MonthlyTokens: tenant.Count(0),
			Also: []tenant.Limit{{Window: tenant.Week, Agent: "support", Calls: tenant.Count(1 << 62)}},
		},
	}
	text, err := json.Marshal(b)
	require.NoError(t, err)
	require.JSONEq(t, `{"TenantID": "acme", "Name": "Acme", "Enforcement": "hard", "Inherit": true, "TimeZone": "Europe/Berlin",
		"Limits": {"DailyCost": "0.000000001", "MonthlyTokens": 0,
			"Also": [{"Window": "week", "Agent": "support", "Calls": 4611686018427387904}]}, "Suspended": false}`, string(text))
	require.Contains(t, string(text), "4611686018427387904", "to the digit")
	var again tenant.Budget
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, b, again)
	require.Equal(t, b.Limits, again.Limits)
}

func TestJSON_ReadsAPatchAndLeavesTheRest(t *testing.T) {
	t.Parallel()
	also := []tenant.Limit{{Window: tenant.Hour, Cost: tenant.USD("1")}}
	b := tenant.Budget{Name: "Acme", Inherit: true, Limits: tenant.Limits{DailyCost: tenant.USD("5"), MonthlyCost: tenant.USD("50"), Also: also}}
	require.NoError(t, json.Unmarshal([]byte(`{"limits": {"dailyCost": 7.25, "MonthlyCost": null, "daily_calls": "12",
		"also": [{"window": "total", "cost": "9"}]}}`), &b))
	require.Equal(t, tenant.Budget{Name: "Acme", Inherit: true, Limits: tenant.Limits{
		DailyCost: tenant.USD("7.25"), DailyCalls: tenant.Count(12), Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("9")}},
	}}, b)
	require.Equal(t, tenant.Hour, also[0].Window, "the host's own list is not written to")
}

func TestJSON_NamesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`{"limits": {"daily_csot": "5"}}`:                     `unknown name "daily_csot"; there are DailyCost, `,
		`{"limits": {"daily_cost": "five"}}`:                  `Budget.Limits: Limits.DailyCost: tenant: invalid option: Money: amount "five" is not a number`,
		`{"limits": {"daily_cost": -1}}`:                      `is negative`,
		`{"limits": {"daily_cost": ""}}`:                      `amount "" is empty`,
		`{"limits": {"daily_cost": true}}`:                    `true is neither a number nor a string`,
		`{"limits": {"daily_cost": {}}}`:                      `{} is neither a number nor a string`,
		`{"limits": {"daily_cost": "0.0000000001"}}`:          `more than 9 decimals`,
		`{"limits": {"daily_tokens": 1.5}}`:                   `"1.5" is not a whole number`,
		`{"limits": {"daily_tokens": 1e3}}`:                   `"1e3" is not a whole number`,
		`{"limits": {"daily_tokens": -3}}`:                    `-3 is negative`,
		`{"limits": {"daily_tokens": -99999999999999999999}}`: `is negative`,
		`{"limits": {"daily_tokens": 99999999999999999999}}`:  `above 2^62`,
		`{"limits": {"daily_tokens": 4611686018427387905}}`:   `above 2^62`,
		`{"limits": {"also": [{"window": "fortnight"}]}}`:     `"fortnight" is not hour, day, week, month or total`,
		`{"limits": {"also": {"window": "day"}}}`:             `Limits.Also`,
		`{"limits": {"also": [{"windows": "day"}]}}`:          `did you mean Window?`,
		`{"limits": {"daily_cost": "1", "DailyCost": "2"}}`:   `says the same as another name`,
		`{"enforcement": "hrad"}`:                             `unknown enforcement "hrad"`,
		`{"inherit": "yes"}`:                                  `Budget.Inherit`,
		`{"limits": [1]}`:                                     `not a JSON object`,
	} {
		b := tenant.Budget{Name: "before", Limits: tenant.Limits{DailyCost: tenant.USD("3")}}
		before := b
		err := json.Unmarshal([]byte(text), &b)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, text)
		require.ErrorContains(t, err, says, text)
		require.Equal(t, before, b, "nothing has changed")
	}
	for _, bad := range []any{tenant.USD("abc"), tenant.USD("-1"), tenant.Count(-1), tenant.Limits{DailyCost: tenant.USD("x")}} {
		_, err := json.Marshal(bad)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, "%v", bad)
	}
}

// What is absent is left out, and a window that never ends has no times.
func TestJSON_LeavesOutTimesThatAreNotSet(t *testing.T) {
	t.Parallel()
	for _, value := range []any{
		tenant.Limits{}, tenant.LimitStatus{Window: tenant.Total, Forecast: &tenant.Forecast{}}, tenant.Summary{}, tenant.Execution{},
		&tenant.BudgetExceededError{}, tenant.Status{}, tenant.Effective{}, tenant.AuditEntry{},
	} {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		require.NotContains(t, string(text), "0001-01-01", "%T", value)
		require.NotContains(t, string(text), `At":`, "%T", value)
	}
	text, err := json.Marshal(tenant.Limits{})
	require.NoError(t, err)
	require.Equal(t, `{}`, string(text))
	status := tenant.LimitStatus{
		TenantID: "acme", Metric: tenant.CostMetric, Window: tenant.Day, Limit: decimal.RequireFromString("5.50"),
		StartsAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), ResetsAt: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
	}
	text, err = json.Marshal(status)
	require.NoError(t, err)
	require.Contains(t, string(text), `"ResetsAt":"2026-03-02T00:00:00Z"`)
	var again tenant.LimitStatus
	require.NoError(t, json.Unmarshal(text, &again))
	require.True(t, status.Limit.Equal(again.Limit))
	require.Equal(t, status.ResetsAt, again.ResetsAt)
}

func TestText_OfMoneyAndQuantities(t *testing.T) {
	t.Parallel()
	var m tenant.Money
	require.NoError(t, m.UnmarshalText([]byte("12.50")))
	require.Equal(t, tenant.USD("12.5"), m)
	text, err := m.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "12.5", string(text))
	require.NoError(t, m.UnmarshalText(nil))
	require.False(t, m.IsSet())
	text, err = m.MarshalText()
	require.NoError(t, err)
	require.Empty(t, text)
	require.ErrorIs(t, m.UnmarshalText([]byte("1,5")), tenant.ErrInvalidOption)

	var q tenant.Quantity
	require.NoError(t, q.UnmarshalText([]byte("0")))
	require.Equal(t, tenant.Count(0), q)
	require.ErrorIs(t, q.UnmarshalText([]byte("many")), tenant.ErrInvalidOption)
	require.Equal(t, tenant.Count(0), q)

	byPlan, err := json.Marshal(map[tenant.Money]tenant.Quantity{tenant.USD("20"): tenant.Count(3)})
	require.NoError(t, err)
	require.Equal(t, `{"20":3}`, string(byPlan))
}

// Every amount comes back to the nano-dollar, whether it is written as a string or as a number.
func TestJSON_KeepsEveryNanoDollar(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64Range(0, 1<<62).Draw(t, "nano")
		m := tenant.USDFrom(decimal.New(nano, -9))
		text, err := json.Marshal(m)
		require.NoError(t, err)
		for _, written := range []string{string(text), strings.Trim(string(text), `"`), fmt.Sprintf("%de-9", nano)} {
			var again tenant.Money
			require.NoError(t, json.Unmarshal([]byte(written), &again))
			require.Equal(t, m, again)
		}
		q := tenant.Count(nano)
		text, err = json.Marshal(q)
		require.NoError(t, err)
		var again tenant.Quantity
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, q, again)
	})
}
