package tenantui_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui/internal/uitest"
)

// small are books with one tenant that has two limits.
func small(t testing.TB) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	db, ledger := uitest.Open(t)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(b *tenant.Budget) error {
		b.Name, b.Enforcement, b.Limits = "Acme", tenant.Hard, tenant.Limits{DailyCost: tenant.USD("5"), MonthlyCost: tenant.USD("40")}
		return nil
	}))
	return db, ledger
}

func lastAudit(t testing.TB, db *gorm.DB, id tenant.ID) tenant.AuditEntry {
	t.Helper()
	var last tenant.AuditEntry
	require.NoError(t, tenant.AuditLog(t.Context(), db, id).Order("id DESC").Limit(1).Find(&last).Error)
	return last
}

func limitsForm(reason string, lines ...string) url.Values {
	form := url.Values{"do": {"limits"}, "id": {"acme"}, "reason": {reason}, "enforcement": {"hard"}, "inherit": {"yes"}, "step": {"preview"}}
	for _, line := range lines {
		f := strings.Split(line, " ")
		for i, name := range []string{"window", "metric", "amount", "agent", "model"} {
			v := ""
			if i < len(f) {
				v = f[i]
			}
			form.Add(name, v)
		}
	}
	return form
}

func TestLimits_AreChangedAfterALookAtWhatWillChange(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	require.Contains(t, c.ok("act?do=limits&id=acme"), `value="40"`)

	look := c.post("act", limitsForm("new contract", "day cost 7.5", "month cost $1,200", "hour tokens 90000 support", "week calls"))
	require.Equal(t, http.StatusOK, look.status, look.body)
	for _, line := range []string{
		`<th scope="row">limit: daily cost</th><td class="was">$5.00<td class="became">$7.50`,
		`<th scope="row">limit: monthly cost</th><td class="was">$40.00<td class="became">$1,200.00`,
		`<th scope="row">limit: hourly tokens of agent support</th><td class="was">no limit<td class="became">90,000`,
	} {
		require.Contains(t, look.body, line)
	}
	b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "40", b.Limits.MonthlyCost.Decimal().String(), "nothing has changed yet")
	require.Empty(t, lastAudit(t, db, "acme").Reason)

	r := c.post("act", confirmation(look.body))
	require.Equal(t, http.StatusSeeOther, r.status, r.body)
	require.Equal(t, "tenant?done=limits&id=acme", r.header.Get("Location"))
	b, err = tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, []string{"7.5", "1200", "90000"}, []string{b.Limits.DailyCost.Decimal().String(), b.Limits.MonthlyCost.Decimal().String(), b.Limits.Also[0].Tokens.String()})
	last := lastAudit(t, db, "acme")
	require.Equal(t, []string{"ConfigureBudget", "ops@example.com", "new contract"}, []string{last.Action, last.Actor, last.Reason})
	page := html.UnescapeString(c.ok("tenant?done=limits&id=acme"))
	require.Contains(t, page, "The settings were changed.")
	require.Contains(t, page, "new contract")
	require.Contains(t, page, "limits: − daily cost $5.00, − monthly cost $40.00, + daily cost $7.50, + monthly cost $1200.00")
}

func TestLimits_ThatCannotBeAreExplained(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	for want, form := range map[string]url.Values{
		"Say why":                                limitsForm("  ", "day cost 7"),
		`&#34;ten&#34; is no amount`:             limitsForm("x", "day cost ten"),
		`&#34;1e9&#34; is no amount`:             limitsForm("x", "day cost 1e9"),
		`&#34;-1&#34; is no amount`:              limitsForm("x", "day cost -1"),
		`&#34;0.0000000001&#34; is no amount`:    limitsForm("x", "day cost 0.0000000001"),
		`&#34;2.5&#34; is no number of calls`:    limitsForm("x", "day calls 2.5"),
		"is not Hour, Day, Week, Month or Total": limitsForm("x", "year cost 5"),
		"is no metric":                           limitsForm("x", "day euros 5"),
		"would never matter":                     limitsForm("x", "day cost 50", "month cost 40"),
		"limits the same already":                limitsForm("x", "day cost 50", "day cost 40"),
		"That changes nothing":                   limitsForm("x", "day cost 5", "month cost 40.00"),
		"has 300 bytes":                          limitsForm(strings.Repeat("x", 300), "day cost 7"),
	} {
		for _, step := range []string{"preview", "apply"} {
			form.Set("step", step)
			r := c.post("act", form)
			require.Equal(t, http.StatusUnprocessableEntity, r.status, "%s: %s", want, r.body)
			require.Contains(t, r.body, want)
			require.Contains(t, r.body, `role="alert"`)
		}
	}
	zone := limitsForm("x", "day cost 7")
	zone.Set("zone", "Mars/Olympus")
	require.Contains(t, c.post("act", zone).body, "Mars/Olympus")
	kept := c.post("act", limitsForm("because", "day cost ten"))
	require.Contains(t, kept.body, `value="ten"`, "what was typed stays")
	require.Contains(t, kept.body, `value="because"`)
	b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "5", b.Limits.DailyCost.Decimal().String())
}

func TestChange_OfWhatHasChangedMeanwhileIsShownAgain(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	look := c.post("act", limitsForm("x", "day cost 7", "month cost 40"))
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(b *tenant.Budget) error {
		b.Limits.MonthlyCost = tenant.USD("999")
		return nil
	}))
	again := c.post("act", confirmation(look.body))
	require.Equal(t, http.StatusOK, again.status)
	require.Contains(t, again.body, "changed meanwhile")
	require.Contains(t, again.body, `<td class="was">$999.00<td class="became">$40.00`)
	b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "999", b.Limits.MonthlyCost.Decimal().String(), "nobody's change is lost unseen")
	require.Equal(t, http.StatusSeeOther, c.post("act", confirmation(again.body)).status)
	b, err = tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "40", b.Limits.MonthlyCost.Decimal().String())
}

func TestAdjustments_HappenOnceHoweverOftenTheyAreSent(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	for _, a := range []struct{ do, sum, becomes, spent string }{
		{"debit", "2.50", "$2.50", "2.5"}, {"credit", "0.0042", "$2.50", "2.4958"}, {"credit", "0.000000001", "$2.50", "2.495799999"},
	} {
		look := c.post("act", url.Values{"do": {a.do}, "id": {"acme"}, "sum": {a.sum}, "reason": {"invoice 7"}, "step": {"preview"}})
		require.Equal(t, http.StatusOK, look.status, look.body)
		require.Contains(t, look.body, "What will change")
		form := confirmation(look.body)
		for range 3 {
			require.Equal(t, http.StatusSeeOther, c.post("act", form).status)
		}
		spent, err := tenant.ChargeToday(t.Context(), db, tenant.ID("acme"))
		require.NoError(t, err)
		require.Equal(t, a.spent, spent.String())
	}
	var rows []tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("acme")).Where("status = 'adjusted'").Order("id").Find(&rows).Error)
	require.Len(t, rows, 3)
	require.Equal(t, []string{"ops@example.com", "invoice 7"}, []string{rows[0].Actor, rows[0].Reason})
	require.Contains(t, c.ok("tenant?id=acme"), "invoice 7", "the history has it")
	for _, sum := range []string{"", "0", "-3", "abc", "1e400000000", "99999999999999999999"} {
		r := c.post("act", url.Values{"do": {"credit"}, "id": {"acme"}, "sum": {sum}, "reason": {"x"}, "step": {"apply"}})
		require.Equal(t, http.StatusUnprocessableEntity, r.status, sum)
	}
}

func TestTopUp_AddsToALimitOnce(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	require.Contains(t, c.ok("act?do=topup&id=acme"), "daily cost, $5.00 of $5.00 left")
	form := url.Values{"do": {"topup"}, "id": {"acme"}, "limit": {`month cost "" ""`}, "sum": {"10"}, "reason": {"bought credits"}, "step": {"preview"}}
	look := c.post("act", form)
	require.Equal(t, http.StatusOK, look.status, look.body)
	require.Contains(t, look.body, `<td class="was">$40.00<td class="became">$50.00, until`)
	for range 2 {
		require.Equal(t, http.StatusSeeOther, c.post("act", confirmation(look.body)).status)
	}
	e, err := tenant.EffectiveBudget(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, []string{"50", "10"}, []string{e.Limits[1].Limit.String(), e.Limits[1].TopUps.String()})
	require.Equal(t, "bought credits", lastAudit(t, db, "acme").Reason)
	require.Contains(t, c.ok("tenant?id=acme"), "$50.00 (with $10.00 topped up)")
	for name, wrong := range map[string]string{"limit": `week cost "" ""`, "sum": "1e999999999"} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		bad[name] = []string{wrong}
		require.Equal(t, http.StatusUnprocessableEntity, c.post("act", bad).status, name)
	}
}

func TestSuspend_AndResume(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	c := dashboard(t, ledger, staff)
	for _, step := range []struct {
		do, change string
		suspended  bool
	}{{"suspend", `<td class="was">active<td class="became">suspended`, true}, {"resume", `<td class="was">suspended<td class="became">active`, false}} {
		look := c.post("act", url.Values{"do": {step.do}, "id": {"acme"}, "reason": {"invoice 7"}, "step": {"preview"}})
		require.Contains(t, look.body, step.change)
		require.Equal(t, http.StatusSeeOther, c.post("act", confirmation(look.body)).status)
		b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
		require.NoError(t, err)
		require.Equal(t, step.suspended, b.Suspended)
		require.Equal(t, "invoice 7", lastAudit(t, db, "acme").Reason)
	}
}

func TestRename_KeepsTheBooks(t *testing.T) {
	t.Parallel()
	db, ledger := small(t)
	_, err := ledger.Debit(t.Context(), tenant.ID("acme"), tenant.USD("3"), "a fee")
	require.NoError(t, err)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("taken"), func(*tenant.Budget) error { return nil }))
	c := dashboard(t, ledger, staff)
	form := url.Values{"do": {"rename"}, "id": {"acme"}, "to": {"acme-inc"}, "name": {"Acme Inc."}, "reason": {"merger"}, "step": {"preview"}}
	look := c.post("act", form)
	require.Contains(t, look.body, `<td class="was">acme<td class="became">acme-inc`)
	r := c.post("act", confirmation(look.body))
	require.Equal(t, "tenant?done=rename&id=acme-inc", r.header.Get("Location"), r.body)
	spent, err := tenant.ChargeToday(t.Context(), db, tenant.ID("acme-inc"))
	require.NoError(t, err)
	require.Equal(t, "3", spent.String())
	history := c.ok("tenant?id=acme-inc")
	require.Contains(t, history, "tenant id: acme → acme-inc")
	require.Contains(t, history, "merger")
	require.Equal(t, http.StatusNotFound, c.get("tenant?id=acme").status)

	form.Set("id", "acme-inc")
	form.Set("to", "taken")
	form.Set("step", "apply")
	taken := c.post("act", form)
	require.Equal(t, http.StatusUnprocessableEntity, taken.status)
	require.Contains(t, taken.body, "there is a tenant &#34;taken&#34; already")
}
