package cookbook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v5"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// What the page shows is what is compiled and run here.
func TestPage_HasTheCodeOfThisPackage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/cookbook.md")
	require.NoError(t, err)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var code strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		code.Write(text)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	require.Greater(t, len(blocks), 12)
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		for part := range strings.SplitSeq(block, "\n\n") { // a block may have several pieces of a file
			require.Contains(t, code.String(), strings.TrimSpace(part))
		}
	}
}

func open(t *testing.T, options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	db, ledger := tenanttest.Open(t, options...)
	require.NoError(t, db.AutoMigrate(&Organization{}))
	require.NoError(t, register(ledger))
	return db, ledger
}

func create(t *testing.T, db *gorm.DB, slug, plan string) *Organization {
	t.Helper()
	o := &Organization{Slug: slug, Name: slug, Plan: plan}
	require.NoError(t, db.Create(o).Error)
	return o
}

func call(t *testing.T, ledger *tenant.Ledger, who tenant.Tenant, dollars string, options ...tenant.ReserveOption) error {
	t.Helper()
	hold, err := ledger.Reserve(t.Context(), who, tenant.Estimate{Provider: "openai", Model: "test-model", Cost: tenant.USD(dollars)}, options...)
	if err == nil {
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD(dollars), Usage: tenant.Usage{Input: 7}})
	}
	return err
}

func TestPlans_ChangeAllOrNothing(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "free")
	require.ErrorIs(t, call(t, ledger, o, "2"), tenant.ErrBudgetExceeded)
	require.NoError(t, changePlan(t.Context(), db, o, "pro"))
	require.NoError(t, call(t, ledger, o, "2"))
	require.ErrorContains(t, changePlan(t.Context(), db, o, "gold"), `there is no plan "gold"`)
	require.NoError(t, db.First(o, o.ID).Error)
	require.Equal(t, "pro", o.Plan, "both or neither")
	require.ErrorContains(t, db.Create(&Organization{Slug: "x", Plan: "gold"}).Error, `there is no plan "gold"`)
}

func TestCredits_AreBoughtOnceAndSpent(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "free")
	require.ErrorIs(t, call(t, ledger, o, "3"), tenant.ErrBudgetExceeded)
	for range 2 { // the webhook of an invoice comes twice
		require.NoError(t, buyForThisMonth(t.Context(), ledger, o, "4", "1"))
	}
	require.NoError(t, call(t, ledger, o, "3"))
	require.ErrorIs(t, call(t, ledger, o, "3"), tenant.ErrBudgetExceeded)
	require.NoError(t, goodwill(t.Context(), ledger, o, "3", "outage"))
	require.NoError(t, call(t, ledger, o, "3"))

	before := create(t, db, "prepaid", "pro")
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, before, func(b *tenant.Budget) error { return prepaid(before, b) }))
	require.ErrorIs(t, call(t, ledger, before, "1"), tenant.ErrBudgetExceeded)
	require.NoError(t, buy(t.Context(), ledger, before, "10", "2"))
	require.NoError(t, call(t, ledger, before, "10"))
	require.ErrorIs(t, call(t, ledger, before, "0.01"), tenant.ErrBudgetExceeded)
}

func TestChart_HasABarForEachDay(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "pro")
	require.NoError(t, call(t, ledger, o, "0.1"))
	require.NoError(t, call(t, ledger, o, "0.2"))
	now := time.Now().UTC()
	bars, err := dailyCosts(t.Context(), db, o, now, 3)
	require.NoError(t, err)
	require.Len(t, bars, 3)
	require.Equal(t, bar{now.Format(time.DateOnly), "0.3", map[string]string{"test-model": "0.3"}}, bars[2])
	require.Equal(t, "0", bars[0].Cost)
}

func TestMetrics_CountWhatIsObserved(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	db, ledger := open(t, tenant.WithObserver(newMetrics(registry)))
	o := create(t, db, "acme", "free")
	require.NoError(t, call(t, ledger, o, "0.25", tenant.WithAgent("chat")))
	require.Error(t, call(t, ledger, o, "9", tenant.WithAgent("chat")))
	require.Error(t, call(t, ledger, &Organization{}, "1"))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP llm_calls_total Calls that were settled.
# TYPE llm_calls_total counter
llm_calls_total{agent="chat",model="test-model",status="succeeded"} 1
# HELP llm_cost_nanodollars_total Cost, in 1e-9 US dollars.
# TYPE llm_cost_nanodollars_total counter
llm_cost_nanodollars_total{agent="chat",model="test-model"} 2.5e+08
# HELP llm_host_errors_total Calls that were refused for an error of this program.
# TYPE llm_host_errors_total counter
llm_host_errors_total{agent=""} 1
# HELP llm_refusals_total Calls that a budget has refused.
# TYPE llm_refusals_total counter
llm_refusals_total{agent="chat",model="test-model"} 1
# HELP llm_tokens_total Tokens of all classes.
# TYPE llm_tokens_total counter
llm_tokens_total{agent="chat",model="test-model"} 7
`), "llm_calls_total", "llm_cost_nanodollars_total", "llm_tokens_total", "llm_refusals_total", "llm_host_errors_total"))
}

// provider streams a reply, and says with which key it was asked.
func provider(t *testing.T, authorization *string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		*authorization = r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "text/event-stream")
		for _, data := range []string{
			`{"id":"1","model":"test-model","choices":[{"delta":{"content":"Hello "}}]}`,
			`{"id":"1","model":"test-model","choices":[{"delta":{"content":"there"},"finish_reason":"stop"}]}`,
			`{"id":"1","model":"test-model","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`, "[DONE]",
		} {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestOwnKeys_AreUsedAndCostNothing(t *testing.T) {
	t.Parallel()
	book, err := pricing.New(pricing.Row{Provider: "openai", Model: "test-model", Rates: pricing.Rates{Input: "1", Output: "2"}})
	require.NoError(t, err)
	book, err = pricesOf(book, "acme")
	require.NoError(t, err)
	db, ledger := open(t, tenant.WithPrices(book))
	o, other := create(t, db, "acme", "pro"), create(t, db, "globex", "pro")
	var authorization string
	server := provider(t, &authorization)
	transport, err := tenanthttp.NewTransport(ledger, &keys{server.Client().Transport, func(id string) (string, bool) { return "of-" + id, id == "acme" }},
		tenanthttp.WithProvider("openai"))
	require.NoError(t, err)
	_, err = ownKeys(ledger, nil)
	require.NoError(t, err)
	sdk := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: transport}), option.WithBaseURL(server.URL+"/v1"), option.WithAPIKey("ours"))
	for who, want := range map[*Organization][2]string{o: {"Bearer of-acme", "0"}, other: {"Bearer ours", "0.002"}} {
		s := sdk.Chat.Completions.NewStreaming(tenant.ContextWithTenant(t.Context(), who), openai.ChatCompletionNewParams{
			Model: "test-model", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hi")},
		})
		for s.Next() {
		}
		require.NoError(t, s.Err())
		require.NoError(t, s.Close())
		cost, err := tenant.CostToday(t.Context(), db, who)
		require.NoError(t, err)
		require.Equal(t, want, [2]string{authorization, cost.String()})
	}
}

func TestStream_PassesOnWhatComesAndARefusal(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "pro")
	var authorization string
	server := provider(t, &authorization)
	transport, err := tenanthttp.NewTransport(ledger, server.Client().Transport)
	require.NoError(t, err)
	sdk := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: transport}), option.WithBaseURL(server.URL+"/v1"), option.WithAPIKey("ours"), option.WithMaxRetries(0))
	handler := tenanthttp.Middleware(func(*http.Request) (tenant.Tenant, error) { return o, nil })(stream(sdk, "test-model"))
	ask := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?q=Hi", nil))
		return rec
	}
	rec := ask()
	require.Equal(t, http.StatusOK, rec.Code)
	require.Equal(t, "data: \"Hello \"\n\ndata: \"there\"\n\nevent: done\ndata: {\"cost\":\"0.002\",\"tokens\":1500}\n\n", rec.Body.String())
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, o, func(b *tenant.Budget) error {
		b.Limits = tenant.Limits{DailyCost: tenant.USD("0.001")}
		return nil
	}))
	rec = ask()
	require.Equal(t, http.StatusPaymentRequired, rec.Code)
	require.NotEmpty(t, rec.Header().Get("Retry-After"))
	require.Contains(t, rec.Body.String(), `"code":"budget_exceeded"`)
	server.Close()
	require.NoError(t, changePlan(t.Context(), db, o, "pro"))
	require.Equal(t, http.StatusBadGateway, ask().Code)
}

func TestShutdown_LeavesNoLedgerOpen(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "pro")
	require.NoError(t, call(t, ledger, o, "0.1"))
	require.NoError(t, shutdown(&http.Server{ReadHeaderTimeout: time.Second}, ledger, db, slog.New(slog.DiscardHandler)))
	require.ErrorIs(t, call(t, ledger, o, "0.1"), tenant.ErrClosed)
}

func TestFrameworks_AnswerARefusalAndNothingElse(t *testing.T) {
	t.Parallel()
	_, ledger := open(t, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("1")}), tenant.WithDefaultEnforcement(tenant.Hard))
	use := func(ctx context.Context) error {
		t, _ := tenant.TenantFromContext(ctx)
		_, err := ledger.Reserve(ctx, t, tenant.Estimate{Cost: tenant.USD("2")})
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.Use(ginErrors, ginTenant)
	g.GET("/", func(c *gin.Context) { _ = c.Error(use(c.Request.Context())) })
	g.GET("/broken", func(c *gin.Context) { _ = c.Error(errors.New("secret")) })
	e := echo.New()
	e.Use(echoTenant)
	e.GET("/", func(c *echo.Context) error { return use(c.Request().Context()) })
	e.GET("/broken", func(*echo.Context) error { return errors.New("secret") })
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { tenanthttp.WriteRefusal(w, use(r.Context())) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	for name, h := range map[string]http.Handler{"gin": g, "echo": e, "net/http": plain(mux)} {
		for path, want := range map[string]int{"/": http.StatusPaymentRequired, "/broken": http.StatusInternalServerError, "/nobody": http.StatusForbidden} {
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(path, "nobody", "", 1), nil)
			if path != "/nobody" {
				r.Header.Set("X-Account", "acme")
			}
			h.ServeHTTP(rec, r)
			require.Equal(t, want, rec.Code, name+path)
			require.NotContains(t, rec.Body.String(), "secret")
			if path == "/" {
				require.Contains(t, rec.Body.String(), `"code":"budget_exceeded"`, name)
			}
		}
	}
}

func TestLeave_StopsCallsAndLeavesNothingToTheNextOwner(t *testing.T) {
	t.Parallel()
	db, ledger := open(t)
	o := create(t, db, "acme", "pro")
	require.NoError(t, call(t, ledger, o, "0.75"))
	require.NoError(t, pause(db, o))
	require.ErrorIs(t, call(t, ledger, o, "0.1"), tenant.ErrTenantSuspended)
	require.NoError(t, restore(db, o))
	require.NoError(t, call(t, ledger, o, "0.25"))
	require.NoError(t, leave(db, o))
	cost, err := costOfFormer(t.Context(), db, "acme")
	require.NoError(t, err)
	require.Equal(t, "1", cost.String())
	again := create(t, db, "acme", "free")
	spent, err := tenant.CostToday(t.Context(), db, again)
	require.NoError(t, err)
	require.Equal(t, "0", spent.String(), "who takes the id inherits nothing")
}
