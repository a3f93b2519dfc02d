package browsertest

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

// execution is the address of one execution of a tenant.
func (s site) execution(t *testing.T, id tenant.ID) string {
	t.Helper()
	found, err := tenant.ExecutionsPage(t.Context(), s.db, tenant.ExecutionQuery{Tenant: id, Statuses: []string{"succeeded"}}, 1)
	require.NoError(t, err)
	return "execution?tenant=" + url.QueryEscape(string(id)) + "&id=" + found.Executions[0].ID
}

// screens are all pages, by the names of their screenshots.
func (s site) screens(t *testing.T) map[string]string {
	return map[string]string{
		"overview": "llm/", "tenants": "llm/tenants", "near": "llm/near", "tenant": "llm/tenant?id=acme", "audit": "llm/audit?id=acme", "executions": "llm/executions",
		"execution": "llm/" + s.execution(t, "acme"), "prices": "llm/prices", "health": "llm/health", "limits": "llm/act?do=limits&id=acme", "topup": "llm/act?do=topup&id=acme",
		"credit": "llm/act?do=credit&id=acme", "suspend": "llm/act?do=suspend&id=acme", "rename": "llm/act?do=rename&id=acme", "year": "llm/?days=365&tag=feature", "missing": "own/tenants",
		"hostile": "llm/tenant?id=" + url.QueryEscape(uitest.Hostile), "portal": "account/", "invoice": "account/invoice", "team": "account/tenant?id=acme-support", "fragment": "host",
	}
}

// documented are the screenshots that docs/dashboard.md shows: name, width, height and theme.
var documented = map[string]struct {
	width, height int64
	dark          bool
}{
	"overview": {1200, 960, false}, "tenant": {1200, 900, true}, "execution": {1200, 760, false}, "prices": {1200, 520, false}, "portal": {1000, 860, false},
}

func TestScreens_LoadWithoutErrorsWideNarrowAndDark(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	for name, address := range s.screens(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTab(t)
			for _, v := range []struct {
				name          string
				width, height int64
				dark          bool
			}{{"wide", 1440, 900, false}, {"dark", 1440, 900, true}, {"narrow", 390, 844, false}} {
				b.view(v.width, v.height, v.dark)
				b.see(s.url + "/" + address)
				require.LessOrEqual(t, script[float64](b, "document.documentElement.scrollWidth"), float64(v.width), "%s scrolls sideways when it is %s", name, v.name)
				b.accessible(name + ", " + v.name)
				require.False(t, script[bool](b, "'marked' in window"))
				b.shoot(name+"-"+v.name, filepath.Join(os.TempDir(), "shots"), true)
			}
			b.quiet(name)
			if d, ok := documented[name]; ok && *shots != "" {
				b.view(d.width, d.height, d.dark)
				b.see(s.url + "/" + address)
				b.shoot("dashboard-"+name, *shots, false)
			}
		})
	}
}

// shoot writes a screenshot, of the whole page or of the window.
func (b *tab) shoot(name, folder string, whole bool) {
	b.Helper()
	if *shots == "" {
		return
	}
	require.NoError(b, os.MkdirAll(folder, 0o755))
	action := chromedp.CaptureScreenshot()
	if whole {
		action = chromedp.FullScreenshot(100)
	}
	png := get(b, action)
	require.NoError(b, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
}

func TestScreens_OfEmptyBooksLoadWithoutErrors(t *testing.T) {
	t.Parallel()
	s := open(t, false)
	b := newTab(t)
	for name, address := range map[string]string{"overview": "llm/", "tenants": "llm/tenants", "near": "llm/near", "executions": "llm/executions", "prices": "llm/prices", "health": "llm/health", "portal": "account/", "invoice": "account/invoice"} {
		b.see(s.url + "/" + address)
		b.accessible("empty " + name)
		b.shoot("empty-"+name, filepath.Join(os.TempDir(), "shots"), true)
	}
}

func TestCharts_HaveTheRightBars(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	for _, address := range []string{"llm/", "llm/?days=7", "llm/?days=365", "llm/tenant?id=globex", "account/"} {
		b.see(s.url + "/" + address)
		for chart, series := range map[string]int{"spend": 1, "tokens": 0} {
			if !script[bool](b, fmt.Sprintf("!!document.querySelector('#%s .plot')", chart)) {
				continue
			}
			// What is drawn, in pixels, beside what the table under the chart says.
			drawn := script[[]float64](b, fmt.Sprintf(`[...document.querySelectorAll('#%s .bar')].map(g => [...g.querySelectorAll('rect:not(.hit)')].reduce((sum, r) => sum + r.getBoundingClientRect().height, 0))`, chart))
			height := script[float64](b, fmt.Sprintf(`document.querySelector('#%s .plot > svg').getBoundingClientRect().height`, chart))
			rows := script[[][]string](b, fmt.Sprintf(`[...document.querySelectorAll('#%s-table tbody tr')].map(tr => [...tr.cells].map(c => c.textContent.trim()))`, chart))
			top := value(t, script[string](b, fmt.Sprintf(`document.querySelector('#%s .y span').textContent`, chart)))
			require.Len(t, rows, len(drawn), address)
			any := false
			for i, row := range rows {
				sum, last := 0.0, len(row)
				if series > 0 {
					last = 1 + series // without the period before
				}
				for _, c := range row[1:last] {
					sum += value(t, c)
				}
				any = any || sum > 0
				require.InDelta(t, math.Max(sum, 0)/top*height, drawn[i], 1.5, "%s: %s of %s", address, chart, row[0])
			}
			require.True(t, any, "%s: %s", address, chart)
		}
	}
}

// value is a figure of a page as a number: for the height of a bar.
func value(t *testing.T, s string) float64 {
	t.Helper()
	s = strings.NewReplacer("$", "", ",", "", "−", "-").Replace(s)
	factor := 1.0
	for suffix, f := range map[string]float64{"k": 1e3, "M": 1e6, "B": 1e9} {
		if strings.HasSuffix(s, suffix) {
			s, factor = strings.TrimSuffix(s, suffix), f
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return v * factor
}

func TestForms_Work(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	b.see(s.url + "/llm/tenant?id=globex")
	b.click(`a[href*="do=limits"]`)
	b.do(chromedp.SetValue(chromedp.CSS(`input[name="amount"]`), "12.50"), chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), "new contract"))
	b.click(`button[value="preview"]`)
	require.Regexp(t, `limit: daily cost\s+\$8\.00\s+\$12\.50`, b.text())
	b.accessible("confirmation")
	b.shoot("confirmation", filepath.Join(os.TempDir(), "shots"), true)
	b.click(`button[value="apply"]`)
	require.Contains(t, b.text(), "The settings were changed.")
	require.Contains(t, b.text(), "new contract")
	budget, err := tenant.BudgetFor(t.Context(), s.db, tenant.ID("globex"))
	require.NoError(t, err)
	require.Equal(t, "12.5", budget.Limits.DailyCost.Decimal().String())

	for _, act := range []struct{ do, sum, done string }{{"credit", "1.25", "The credit was given."}, {"debit", "0.0031", "The tenant was charged."}, {"topup", "20", "The limit was topped up."}} {
		b.see(s.url + "/llm/tenant?id=globex")
		b.click(`a[href*="do=` + act.do + `"]`)
		b.do(chromedp.SendKeys(chromedp.CSS(`input[name="sum"]`), act.sum), chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), "because of "+act.do))
		b.click(`button[value="preview"]`)
		b.click(`button[value="apply"]`)
		require.Contains(t, b.text(), act.done)
		require.Contains(t, b.text(), "because of "+act.do)
	}
	for _, act := range []string{"suspend", "resume"} {
		b.click(`a[href*="do=` + act + `"]`)
		b.do(chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), act))
		b.click(`button[value="preview"]`)
		b.click(`button[value="apply"]`)
	}
	require.Contains(t, b.text(), "The tenant can make calls again.")

	b.see(s.url + "/llm/act?do=limits&id=globex")
	b.do(chromedp.SetValue(chromedp.CSS(`input[name="amount"]`), "a lot"), chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), "x"))
	b.click(`button[value="preview"]`)
	require.Contains(t, b.text(), `"a lot" is no amount of US dollars`)
	b.accessible("a form with an error")
	b.expect(http.StatusUnprocessableEntity)

	b.see(s.url + "/llm/executions")
	b.do(chromedp.SetValue(chromedp.CSS(`select[name="status"]`), "failed"))
	b.click(`form.filters button`)
	require.Zero(t, script[float64](b, `[...document.querySelectorAll('#executions .badge')].filter(e => e.textContent !== 'failed').length`))
	require.Positive(t, script[float64](b, `document.querySelectorAll('#executions .badge').length`))
	b.see(s.url + "/llm/tenants")
	b.do(chromedp.SendKeys(chromedp.CSS(`input[name="search"]`), "umbr"))
	b.click(`form.filters button`)
	require.Equal(t, 1.0, script[float64](b, `document.querySelectorAll('#tenants tbody tr').length`))
	b.see(s.url + "/llm/health")
	b.click(`form[action="verify"] button`)
	require.Contains(t, b.text(), "The books are being verified")

	b.see(s.url + "/account/tenant?id=acme-support")
	b.click(`a[href*="do=limits"]`)
	b.do(chromedp.SetValue(chromedp.CSS(`input[name="amount"]`), "3"), chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), "less"))
	b.click(`button[value="preview"]`)
	b.click(`button[value="apply"]`)
	require.Contains(t, b.text(), "The settings were changed.")
}

func TestHostileName_DoesNotRunOnAnyPage(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	hostile := url.QueryEscape(uitest.Hostile)
	b := newTab(t)
	for _, address := range []string{
		"llm/", "llm/tenants", "llm/tenant?id=" + hostile, "llm/audit?id=" + hostile, "llm/executions?tenant=" + hostile, "llm/executions?agent=" + hostile, "llm/" + s.execution(t, uitest.Hostile), "llm/near",
		"llm/act?do=limits&id=" + hostile, "llm/act?do=rename&id=" + hostile, "llm/tenants?search=" + hostile, "llm/?tag=" + hostile, "llm/tenant?id=nobody" + hostile, "llm/tenant?id=acme&done=" + hostile,
	} {
		b.do(chromedp.Navigate(s.url+"/"+address), chromedp.WaitReady(chromedp.CSS("body")))
		require.False(t, script[bool](b, "'marked' in window"), address)
		require.Zero(t, script[float64](b, "document.querySelectorAll('img, iframe, object, embed, script:not([src])').length"), address)
	}
	require.Contains(t, b.text(), "Acme")
	b.expect(http.StatusNotFound)
	b.see(s.url + "/llm/tenants")
	require.Contains(t, b.text(), uitest.HostileName, "it is shown as it is")
}

func TestAnotherRole_SeesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	for _, address := range []string{"nothing/", "nothing/tenants", "nothing/tenant?id=acme", "nothing/assets/style.css"} {
		b.do(chromedp.Navigate(s.url + "/" + address))
		require.Equal(t, "You may not see this page.", strings.TrimSpace(b.text()))
	}
	for _, address := range []string{"own/tenant?id=acme", "own/executions?tenant=globex", "own/health", "own/prices", "account/tenant?id=stark", "account/invoice?id=globex"} {
		b.do(chromedp.Navigate(s.url + "/" + address))
		require.Contains(t, b.text(), "There is no such page, or it is not yours to see.")
	}
	for _, address := range []string{"own/", "own/tenants", "own/near", "own/executions", "own/tenant?id=stark"} {
		b.do(chromedp.Navigate(s.url + "/" + address))
		for _, other := range []string{"acme", "Globex", "umbrella", "Suspend", "Change limits"} {
			require.NotContains(t, b.text(), other, address)
		}
	}
}

func TestPages_WorkWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	// The page's script does not arrive. To turn scripts off in the browser would turn off those of this test as well.
	call(b, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: []*network.BlockPattern{{URLPattern: "http://*:*/*/assets/script.js*", Block: true}}})
	b.do(chromedp.Navigate(s.url+"/llm/"), chromedp.WaitVisible(chromedp.CSS("#spend .plot")))
	require.True(t, script[bool](b, "document.querySelector('button.theme').hidden"), "what needs the script is not there")
	b.do(chromedp.Navigate(s.url+"/llm/act?do=suspend&id=hooli"), chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), "x"))
	b.click(`button[value="preview"]`)
	b.do(chromedp.WaitVisible(chromedp.CSS("#changes")))
	b.click(`button[value="apply"]`)
	budget, err := tenant.BudgetFor(t.Context(), s.db, tenant.ID("hooli"))
	require.NoError(t, err)
	require.True(t, budget.Suspended)
}

func TestKeyboard_ReachesWhatThereIs(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	b.see(s.url + "/llm/")
	focused := func() string { return script[string](b, "document.activeElement.textContent.trim()") }
	b.do(chromedp.KeyEvent(kb.Tab))
	require.Equal(t, "Skip to the content", focused())
	b.do(chromedp.KeyEvent(kb.Enter))
	require.Equal(t, "main", script[string](b, "document.activeElement.id"))
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('summary').focus()"), chromedp.KeyEvent(kb.Enter))
	require.True(t, script[bool](b, "document.querySelector('#spend details').open"), "the table of a chart opens by a key")

	b.view(1200, 800, false)
	b.see(s.url + "/llm/")
	ground := func() string { return script[string](b, "getComputedStyle(document.body).backgroundColor") }
	light := ground()
	b.do(chromedp.Click(chromedp.CSS("button.theme")))
	require.NotEqual(t, light, ground())
	dark := ground()
	b.see(s.url + "/llm/tenants")
	require.Equal(t, dark, ground(), "the next page has it too")
	b.do(chromedp.Click(chromedp.CSS("button.theme")))
	require.Equal(t, light, ground())

	b.see(s.url + "/llm/")
	title := script[string](b, "document.querySelector('#spend .bar title').textContent")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('#spend .bar').dispatchEvent(new PointerEvent('pointerenter'))"))
	require.Equal(t, title, script[string](b, "document.querySelector('#spend .readout').textContent"))
}

func TestFragment_LeavesTheHostsPageAsItIs(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	b.see(s.url + "/host")
	require.Equal(t, "rgb(200, 0, 0) 40px", script[string](b, "(s => s.color + ' ' + s.fontSize)(getComputedStyle(document.querySelector('#hosts')))"))
	require.Equal(t, "99px", script[string](b, "getComputedStyle(document.querySelector('#hosttable')).width"))
	require.Positive(t, script[float64](b, "document.querySelectorAll('.fragment .bar').length"))
	require.Equal(t, "rgb(122, 62, 157)", script[string](b, "getComputedStyle(document.querySelector('.fragment .s1')).fill"), "the host's colour")
	require.Contains(t, b.text(), "Limits in force")
	b.click(`.fragment a[href="/account/"]`)
	require.Contains(t, b.text(), "Northwind AI")
}
