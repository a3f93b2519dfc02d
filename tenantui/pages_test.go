package tenantui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/tenantui"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

func TestTables_AreCSVsThatNoSpreadsheetRuns(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	c := dashboard(t, ledger, staff)
	tables := 0
	for _, page := range append(pages, "?days=365", "tenant?id="+url.QueryEscape(uitest.Hostile), "?tag=feature") {
		for _, link := range links(c.ok(page)) {
			if !strings.Contains(link, "csv=") {
				continue
			}
			tables++
			rows := c.rows(link)
			require.Greater(t, len(rows), 1, link)
			for _, row := range rows {
				for _, cell := range row {
					require.NotRegexp(t, `^[=+@\t\r]|^-[^0-9]`, cell, link)
				}
			}
		}
	}
	require.Greater(t, tables, 25)
	require.Equal(t, http.StatusNotFound, c.get("?csv=nothing").status)

	name := c.rows("tenants?csv=tenants")[1]
	require.Equal(t, []string{uitest.Hostile, uitest.HostileName}, name[:2])
	all := c.rows("executions?csv=executions&tenant=globex")
	counted, err := tenant.ExecutionCount(t.Context(), ledger.DB(), tenant.ID("globex"), tenant.AllTime)
	require.NoError(t, err)
	require.EqualValues(t, counted, len(all)-1, "all of them, and not one page")
}

func TestOverview_SaysWhatTheLibrarySays(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	h, err := ledger.Reserve(t.Context(), tenant.ID("hooli"), tenant.Estimate{Cost: tenant.USD("0.25"), Model: "m"})
	require.NoError(t, err)
	_, err = ledger.Settle(t.Context(), h, tenant.Actual{Cost: tenant.USD("0.5")})
	require.NoError(t, err)
	c := dashboard(t, ledger, staff)
	answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{
		Everybody: true, Period: tenant.ThisMonth, TimeZone: "Europe/Berlin", By: []tenant.Group{tenant.ByTenant},
	})
	require.NoError(t, err)
	body := c.ok("")
	require.Contains(t, body, "<dt>This month</dt><dd>$"+answer.Total.Cost.StringFixed(2)+"</dd>")
	require.Contains(t, body, "<dt>Margin of the month</dt><dd>$"+answer.Total.Margin.StringFixed(2)+"</dd>")
	require.Contains(t, body, "Days and months in Europe/Berlin")

	chart := c.rows("?csv=spend-table")
	require.Len(t, chart, 31)
	require.Equal(t, []string{"When", "cost", "the period before"}, chart[0])
	days, err := tenant.QueryUsage(t.Context(), db, tenant.Query{
		Everybody: true, Period: tenant.ThisMonth, TimeZone: "Europe/Berlin", By: []tenant.Group{tenant.ByDay},
	})
	require.NoError(t, err)
	byDay := map[string]string{}
	for _, row := range chart[1:] {
		byDay[row[0]] = row[1]
	}
	for _, d := range days.Rows {
		if got, shown := byDay[d.Start.Format("Mon 2 Jan 2006")]; shown {
			require.Equal(t, d.Cost.String(), got, d.Keys)
		}
	}
	require.Regexp(t, `<b>[1-9][0-9]*</b> without a price`, body)
	require.Contains(t, body, "<b>0</b> unmetered by this process")
	require.Contains(t, body, "<b>1</b> overrun")
	require.Len(t, c.rows("executions?csv=executions&overrun=yes"), 2)
	require.Contains(t, c.ok("?tag=feature"), "By tag feature")
	require.Len(t, c.rows("?csv=tags&tag=feature"), 5, "three values, and what has none")
}

// What is counted on the overview is what the list behind it has: of the same time.
func TestOverview_ItsSignalsLeadToTheExecutionsThatTheyCount(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	c := dashboard(t, ledger, staff)
	counted := regexp.MustCompile(`<a href="(executions\?[^"]*)" class="on"><b>(\d+)</b>`)
	for _, days := range []string{"7", "30", "90", "365"} {
		found := counted.FindAllStringSubmatch(c.ok("?days="+days), -1)
		require.NotEmpty(t, found, days)
		for _, f := range found {
			rows := c.rows(html.UnescapeString(f[1]) + "&csv=executions")
			require.Equal(t, f[2], strconv.Itoa(len(rows)-1), "%s days: %s", days, f[1])
		}
	}
}

func TestPages_SayWhatToDoWhereThereIsNothing(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	c := dashboard(t, ledger, staff)
	for page, want := range map[string]string{
		"": "Nothing was spent in this time.", "tenants": "No tenant has a budget yet.", "tenants?search=x": "There is no such tenant.", "near": "No limit is near",
		"executions": "No call was made yet.", "executions?agent=x": "No execution is like that.", "prices": "No model was used in the last 30 days.", "health": "never: no process has checked the books yet",
	} {
		require.Contains(t, c.ok(page), want, page)
	}
	for page, want := range map[string]string{
		"executions?from=yesterday": "is no date", "executions?from=2026-03-02&to=2026-03-01": "is before", "executions?min=x": "is no amount", "executions?tag=x": "not of the form",
		"executions?after=x": "cursor", "execution?id=x": "is no id",
	} {
		r := c.get(page)
		require.Equal(t, http.StatusBadRequest, r.status, page)
		require.Contains(t, r.body, want)
	}
	require.Equal(t, http.StatusNotFound, c.get("nothing").status)
	require.Equal(t, http.StatusNotFound, c.get("tenant?id=nobody").status)
}

func TestNear_AThousandTenantsStayASmallPage(t *testing.T) {
	t.Parallel()
	db, ledger := uitest.Open(t, tenant.WithDefaultLimits(tenant.Limits{MonthlyCost: tenant.USD("1000")}))
	for i := range 1000 {
		id := tenant.ID(fmt.Sprintf("customer-%04d.example.com", i))
		_, err := ledger.Debit(t.Context(), id, tenant.USDFrom(decimalOf(int64(90_000+i), -2)), "a fee")
		require.NoError(t, err)
	}
	near, err := tenant.NearLimits(t.Context(), db, tenant.LimitList{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, near, 1000)
	body := dashboard(t, ledger, staff).ok("near")
	require.Equal(t, 1000, strings.Count(body, `<a href="tenant?id=customer-`))
	require.Less(t, len(body), 200_000)
	t.Logf("a page with 1,000 tenants near their limits: %d bytes", len(body))
}

func TestExecutions_FilterAndPage(t *testing.T) {
	t.Parallel()
	db, ledger := books(t)
	c := dashboard(t, ledger, staff)
	seen := map[string]bool{}
	for page := "executions?tenant=stark"; page != ""; {
		body := c.ok(page)
		page = ""
		for _, l := range links(body) {
			if strings.HasPrefix(l, "execution?") {
				require.False(t, seen[l], "%s is on two pages", l)
				seen[l] = true
			}
			if strings.Contains(l, "after=") && !strings.Contains(l, "csv=") {
				page = l
			}
		}
	}
	var n int64
	require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("stark")).Count(&n).Error)
	require.Len(t, seen, int(n))
	for filter, column := range map[string]int{"status=failed": 4, "agent=triage": 5, "provider=google": 7, "model=claude-opus-5": 8, "unpriced=yes": 17, "estimated=yes": 16} {
		_, want, _ := strings.Cut(filter, "=")
		rows := c.rows("executions?csv=executions&" + filter)
		require.Greater(t, len(rows), 3, filter)
		for _, row := range rows[1:] {
			require.Equal(t, want, row[column], filter)
		}
	}
	require.Contains(t, c.ok("executions"), `name="tenant"`, "whoever sees all can ask for one tenant")
	require.NotContains(t, dashboard(t, ledger, tenantui.Viewer{Tenants: []tenant.Tenant{tenant.ID("stark")}}).ok("executions"), `<label>Tenant`)
	one := c.rows("executions?tenant=stark&agent=&csv=executions")
	require.Len(t, one, int(n)+1, "as the form sends it")
	require.Equal(t, http.StatusNotFound, c.get("executions?tenant=nobody").status)

	tagged := c.rows("executions?csv=executions&tag=feature%3Dchat&min=1.50&order=cost")
	require.Greater(t, len(tagged), 5)
	require.GreaterOrEqual(t, decimalText(t, tagged[1][10]).Cmp(decimalText(t, tagged[2][10])), 0, "the dearest first")
	require.True(t, decimalText(t, tagged[len(tagged)-1][10]).GreaterThanOrEqual(decimalText(t, "1.5")))
}

func TestExecution_ShowsEveryClassAndItsCorrections(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	s, err := ledger.Record(tenant.ContextWithActor(t.Context(), "jo"), tenant.ID("acme"), tenant.Actual{
		Provider: "openai", Model: "gpt-5.6-luna", RequestID: "req-77", Usage: tenant.Usage{Input: 1000, CacheRead: 4000, Output: 500, Reasoning: 300},
	}, tenant.WithAgent("support"), tenant.WithTag("feature", "chat"))
	require.NoError(t, err)
	c := dashboard(t, ledger, staff)
	page := "execution?tenant=acme&id=" + s.ExecutionID
	body := c.ok(page)
	for _, want := range []string{"openai/gpt-5.6-luna@2026-07-30", "req-77", "jo", "feature", s.Cost.String() + " US dollars exactly"} {
		require.Contains(t, body, want)
	}
	rows := c.rows(page + "&csv=classes")
	require.Len(t, rows, 13)
	sum := decimalOf(0, 0)
	for _, row := range rows[1:] {
		if row[3] != "—" && row[3] != "" {
			sum = sum.Add(decimalText(t, row[3]))
		}
	}
	require.Equal(t, s.Cost.String(), sum.String(), "the parts add up")
	require.Equal(t, body, c.ok("execution?id="+s.ExecutionID+"&tenant=acme"))
}

// A model that is not in the book is no wrong cost: the program may have said what its calls cost. Nor is a small share none.
func TestPrices_TellCallsWithoutAPriceFromModelsThatAreNotInTheBook(t *testing.T) {
	t.Parallel()
	_, ledger := uitest.Open(t)
	record := func(model string, cost tenant.Money) {
		t.Helper()
		_, err := ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Provider: "inhouse", Model: model, Cost: cost, Usage: tenant.Usage{Input: 10}})
		require.NoError(t, err)
	}
	c := dashboard(t, ledger, staff)
	record("private-large", tenant.USD("70"))
	record("private-small", tenant.USD("0.0001"))
	page := c.ok("prices")
	require.Contains(t, page, "2 models of the last 30 days are not in the price book now")
	require.NotContains(t, page, "calls without a price.")
	require.Contains(t, page, "not in the book</span>")
	require.Contains(t, c.ok(""), "&lt; 1 %")
	record("private-next", tenant.Money{})
	page = c.ok("prices")
	require.Contains(t, page, "1 model of the last 30 days had calls without a price.")
	require.Contains(t, page, "2 models of the last 30 days are not in the price book now")
}

func TestPrices_SayWhatAListWouldChange(t *testing.T) {
	t.Parallel()
	_, ledger := books(t)
	c := dashboard(t, ledger, staff)
	body := c.ok("prices")
	require.Less(t, strings.Index(body, "gpt-next-preview"), strings.Index(body, "claude-opus-5"), "what has no price is first")
	list := map[string]any{
		"claude-opus-5":    map[string]any{"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 0.00001, "output_cost_per_token": 0.00005, "cache_read_input_token_cost": 0.000001},
		"gpt-next-preview": map[string]any{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.000002, "output_cost_per_token": 0.000008},
	}
	encoded, err := json.Marshal(list)
	require.NoError(t, err)
	r := upload(c, "prices", "list", string(encoded))
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.Contains(t, r.body, "What the list would change")
	require.Regexp(t, `claude-opus-5<td>anthropic<td class="n">\$5.00<td class="n">\$10.00`, r.body)
	require.Contains(t, r.body, "has a price")
	require.Contains(t, r.body, "3 models in use are not in the list")
	for _, wrong := range []string{"", "{", `{"x": {"input_cost_per_token": -1}}`} {
		r := upload(c, "prices", "list", wrong)
		require.Equal(t, http.StatusUnprocessableEntity, r.status, wrong)
		require.Contains(t, r.body, "The list cannot be read")
	}
	require.Contains(t, upload(c, "prices", "other", "{}").body, "choose a file first")
}

func TestHealth_VerifiesTheBooks(t *testing.T) {
	t.Parallel()
	db, ledger := uitest.Open(t)
	_, err := ledger.Debit(t.Context(), tenant.ID("acme"), tenant.USD("1"), "a fee")
	require.NoError(t, err)
	h, err := ledger.Reserve(t.Context(), tenant.ID("acme"), tenant.Estimate{Cost: tenant.USD("0.25"), Model: "m"})
	require.NoError(t, err)
	c := dashboard(t, ledger, staff)
	require.Contains(t, c.ok("health"), "<dt>Held by them</dt><dd>$0.25</dd>")
	_, err = ledger.Release(t.Context(), h)
	require.NoError(t, err)
	verified := func(want string) {
		require.Equal(t, http.StatusSeeOther, c.post("verify", nil).status)
		require.Eventually(t, func() bool { return strings.Contains(c.ok("health"), want) }, patience, tick)
	}
	verified("the books agree with the executions")
	require.Contains(t, c.ok("health"), "ops@example.com")
	require.NoError(t, db.Exec("UPDATE llm_executions SET cost = cost + 7 WHERE status = 'adjusted'").Error)
	verified("What the verify of")
	require.Contains(t, c.ok("health"), "differences")
}

func TestHealth_SaysWhereListsAreRead(t *testing.T) {
	t.Parallel()
	open := func(dsn string) *gorm.DB {
		db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		pool, err := db.DB()
		require.NoError(t, err)
		t.Cleanup(func() { _ = pool.Close() })
		return db
	}
	dsn := pgtest.DSN(t)
	for other, want := range map[string]string{dsn: "<dd>the replica</dd>", pgtest.DSN(t): "<dd>the primary</dd>"} {
		ledger, err := tenant.Open(open(dsn), tenant.WithReadDB(open(other)))
		require.NoError(t, err)
		_, err = ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("1")})
		require.NoError(t, err)
		c := dashboard(t, ledger, staff)
		health := c.ok("health")
		require.Contains(t, health, "<dt>Lists are read from</dt>"+want)
		require.Contains(t, health, "the replica")
		require.Contains(t, c.ok("executions"), "acme")
		require.NoError(t, ledger.Close(t.Context()))
	}
}

func TestPages_AreTheSameOnPostgres(t *testing.T) {
	t.Parallel()
	db, err := gorm.Open(postgres.Open(pgtest.DSN(t)), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	ledger := uitest.On(t, db)
	for _, id := range []string{"acme", "globex", uitest.Hostile} {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID(id), func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("1")
			if id == "globex" {
				b.ParentID = "acme"
			}
			return nil
		}))
		_, err := ledger.Record(t.Context(), tenant.ID(id), tenant.Actual{Provider: "openai", Model: "gpt-5.6-luna", Usage: tenant.Usage{Input: 4_400_000}}, tenant.WithTag("feature", "chat"))
		require.NoError(t, err)
	}
	c := dashboard(t, ledger, staff)
	for _, page := range append(pages, "?days=365&tag=feature", "tenants?search=a&below=acme", "executions?tenant=acme&tag=feature%3Dchat&order=cost", "near?csv=near") {
		c.ok(page)
	}
	require.Regexp(t, `globex.*176 %`, c.ok("near"))
	below := dashboard(t, ledger, tenantui.Viewer{Tenants: []tenant.Tenant{tenant.ID("acme")}})
	require.NotContains(t, below.ok("near"), "onerror")
	require.Regexp(t, `execution\?id=`, below.ok("executions"))
}

func TestPages_SayWhichPlaceATenantIsIn(t *testing.T) {
	t.Parallel()
	db, err := gorm.Open(postgres.Open(pgtest.DSN(t)), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	ledger, err := tenant.Open(db, tenant.WithPlaces("west", "east"), tenant.WithLanes(2))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close(context.WithoutCancel(t.Context()))) })
	require.NoError(t, ledger.Migrate(t.Context()))
	_, err = ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("1")})
	require.NoError(t, err)
	c := dashboard(t, ledger, staff)
	for place, name := range map[string]string{"west": "west", "east": "east", "": "the home"} {
		_, err = ledger.Move(t.Context(), tenant.ID("acme"), place)
		require.NoError(t, err)
		require.Regexp(t, `<dt>Place</dt><dd><span>`+name+`</span></dd>`, c.ok("tenant?id=acme"))
	}
	var lanes []string
	for _, row := range c.rows("health?csv=lanes")[1:] {
		lanes = append(lanes, row[0]+" "+row[1])
	}
	require.Equal(t, []string{"1 the home", "2 the home", "3 west", "4 west", "5 east", "6 east"}, lanes)
}
