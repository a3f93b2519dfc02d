package tenantui

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/llmtenant/tenant"
)

// action is a link to an act on a tenant's page.
type action struct{ Name, Link string }

// act is something that can be done with a tenant.
type act struct {
	Title, Button, Text string
	Role                Role
	Danger              bool
	Done                string

	// form says what is asked for, filled in with what is so now, or with what was sent.
	form func(*doing) error

	// plan says what will change by what was sent.
	plan func(*doing) error

	// apply changes it.
	apply func(context.Context, *doing) error
}

// doing is an act of a viewer's on a tenant.
type doing struct {
	*request
	act
	id     tenant.ID
	budget *tenant.Budget
	sent   url.Values // nil where nothing was sent yet
	Body   actBody
}

type actBody struct {
	Do, ID, TenantName, Back string
	Text, Error, Reason      string
	Button, ButtonClass      string
	Fields                   []field
	Limits                   []limitLine
	Windows                  []string
	Metrics                  []string
	Changes                  []difference
	Hidden                   []option
}

type field struct {
	Name, Label, Value string
	Options            []option
	Check, Required    bool
	Mode               string
}

type option struct{ Name, Value string }

type difference struct{ What, Was, Becomes string }

// errChanged says that a tenant is not what it was when the change was looked at.
var errChanged = errors.New("the settings were changed meanwhile, by somebody else; look at what will change once more")

// doneText is what is said after an act.
func doneText(name string) string { return acts()[name].Done }

func acts() map[string]act {
	return map[string]act{
		"limits": limitsAct(), "topup": topUpAct(), "credit": adjustAct(true), "debit": adjustAct(false),
		"suspend": suspendAct(true), "resume": suspendAct(false), "rename": renameAct(),
	}
}

// actions are the acts that the viewer may do with a tenant as it is.
func (q *request) actions(b *tenant.Budget, id tenant.ID) []action {
	names := []string{"limits", "topup", "credit", "debit", "suspend", "rename"}
	if b.Suspended {
		names[4] = "resume"
	}
	if id == tenant.Root {
		names = names[:2]
	}
	var all []action
	known := acts()
	for _, name := range names {
		if q.viewer.may(known[name].Role) && (q.grants == nil || q.grants(q, name, id)) {
			all = append(all, action{known[name].Title, address("act", "do", name, "id", string(id))})
		}
	}
	return all
}

// act shows the form of an act, then what it will change, and then does it.
func (s *site) act(q *request) error {
	var form url.Values
	name, id := q.query("do"), q.query("id")
	if q.Method == http.MethodPost {
		q.Body = http.MaxBytesReader(q.w, q.Body, 1<<20)
		if err := q.ParseForm(); err != nil {
			return bad("the form cannot be read: %v", err)
		}
		form = q.PostForm
		name, id = form.Get("do"), form.Get("id")
	}
	a, known := acts()[name]
	if !known {
		return errNotFound
	}
	own, err := q.own(id)
	if err != nil {
		return err
	}
	if !q.viewer.may(a.Role) || q.grants != nil && !q.grants(q, name, own) {
		return errNotYours
	}
	budget, err := tenant.BudgetFor(q.Context(), q.db, own)
	if ok, err := exists(err); err != nil {
		return err
	} else if !ok {
		budget = &tenant.Budget{TenantID: id, Name: id, Inherit: true}
	}
	d := &doing{request: q, act: a, id: own, budget: budget, sent: form}
	d.Body = actBody{
		Do: name, ID: id, TenantName: display(budget.Name), Back: tenantPage(id), Text: a.Text, Button: a.Button, ButtonClass: "main",
		Reason: strings.TrimSpace(form.Get("reason")),
	}
	if d.Body.TenantName == "" {
		d.Body.TenantName = display(id)
	}
	if a.Danger {
		d.Body.ButtonClass = "danger"
	}
	if form == nil {
		return d.ask(nil)
	}
	return d.step()
}

// step takes one step: it looks at what will change, or changes it.
func (d *doing) step() error {
	if d.Body.Reason == "" {
		return d.ask(bad("Say why: the reason is kept with the change."))
	}
	if n := len(d.Body.Reason); n > 255 {
		return d.ask(bad("The reason has %d bytes, and 255 are allowed.", n))
	}
	if err := d.plan(d); err != nil {
		return d.ask(err)
	}
	if len(d.Body.Changes) == 0 {
		return d.ask(bad("That changes nothing."))
	}
	if d.sent.Get("step") != "apply" {
		return d.confirm()
	}
	ctx := tenant.ContextWithReason(tenant.ContextWithActor(d.Context(), d.viewer.Actor), d.Body.Reason)
	err := d.apply(ctx, d)
	switch {
	case errors.Is(err, errChanged):
		d.Body.Error = "The settings were changed meanwhile, by somebody else. This is what will change now."
		d.sent.Del("state")
		return d.confirm()
	case err != nil:
		d.Body.Changes = nil
		return d.ask(err)
	}
	return d.see("tenant", "id", string(d.id), "done", d.Body.Do)
}

// ask shows the form, and what was wrong with what was sent.
func (d *doing) ask(wrong error) error {
	if wrong != nil {
		var known badRequest
		if !errors.As(wrong, &known) && !mistake(wrong) {
			return wrong
		}
		d.status, d.Body.Error = http.StatusUnprocessableEntity, strings.TrimPrefix(wrong.Error(), "tenant: ")
	}
	d.Body.Changes = nil
	if err := d.form(d); err != nil {
		return err
	}
	return d.request.show("act", page{Title: d.Title, Nav: "tenants", Body: d.Body})
}

// mistake reports whether an error is about what somebody has asked for, which he is told.
func mistake(err error) bool {
	for _, known := range []error{tenant.ErrInvalidOption, tenant.ErrInvalidTenant, tenant.ErrIdentityConflict, tenant.ErrNoBudget, tenant.ErrDuplicate, tenant.ErrHierarchy} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// confirm shows what will change, with all that was sent, to send it once more.
func (d *doing) confirm() error {
	if d.sent.Get("state") == "" {
		d.sent.Set("state", fingerprint(d.budget))
	}
	if d.sent.Get("key") == "" {
		d.sent.Set("key", rand.Text())
	}
	for _, name := range slices.Sorted(keysOf(d.sent)) {
		if name == "step" {
			continue
		}
		for _, v := range d.sent[name] {
			d.Body.Hidden = append(d.Body.Hidden, option{name, v})
		}
	}
	return d.request.show("act", page{Title: d.Title, Nav: "tenants", Body: d.Body})
}

// change adds a line to what will change, if it does.
func (d *doing) change(what, was, becomes string) {
	if was != becomes {
		d.Body.Changes = append(d.Body.Changes, difference{what, was, becomes})
	}
}

// now is a field of what was sent, or what is so where nothing was sent.
func (d *doing) now(name, otherwise string) string {
	if d.sent == nil {
		return otherwise
	}
	return strings.TrimSpace(d.sent.Get(name))
}
