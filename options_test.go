package tenant_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// optionTypes are the kinds of options, of which a verb takes what can be assigned to its own.
var optionTypes = map[string]reflect.Type{
	"AgentOption":    reflect.TypeFor[tenant.AgentOption](),
	"CallOption":     reflect.TypeFor[tenant.CallOption](),
	"ReserveOption":  reflect.TypeFor[tenant.ReserveOption](),
	"RecordOption":   reflect.TypeFor[tenant.RecordOption](),
	"QueryOption":    reflect.TypeFor[tenant.QueryOption](),
	"OpenOption":     reflect.TypeFor[tenant.OpenOption](),
	"RegisterOption": reflect.TypeFor[tenant.RegisterOption](),
	"BackfillOption": reflect.TypeFor[tenant.BackfillOption](),
	"RepriceOption":  reflect.TypeFor[tenant.RepriceOption](),
	"PruneOption":    reflect.TypeFor[tenant.PruneOption](),
	"ImportOption":   reflect.TypeFor[tenant.ImportOption](),
	"ExportOption":   reflect.TypeFor[tenant.ExportOption](),
	"VerifyOption":   reflect.TypeFor[tenant.VerifyOption](),
}

// face finds in the package's sources what returns an option, and what takes any number of them, each with its type.
func face(t *testing.T) (options, verbs map[string]string) {
	options, verbs = map[string]string{}, map[string]string{}
	for _, f := range sources(t, ".") {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() {
				continue
			}
			if r := fn.Type.Results; r != nil && len(r.List) == 1 && strings.HasSuffix(typeName(r.List[0].Type), "Option") {
				options[fn.Name.Name] = typeName(r.List[0].Type)
			}
			if p := fn.Type.Params.List; len(p) > 0 {
				if many, ok := p[len(p)-1].Type.(*ast.Ellipsis); ok && strings.HasSuffix(typeName(many.Elt), "Option") {
					verbs[fn.Name.Name] = typeName(many.Elt)
				}
			}
		}
	}
	return options, verbs
}

func typeName(e ast.Expr) string {
	id, _ := e.(*ast.Ident)
	if id == nil {
		return ""
	}
	return id.Name
}

// sources parses what a package is made of, without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []*ast.File
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+e.Name(), nil, parser.ParseComments)
			require.NoError(t, err)
			out = append(out, f)
		}
	}
	return out
}

// trial is a ledger on which a verb is given an option.
type trial struct {
	*testing.T
	db     *gorm.DB
	ledger *tenant.Ledger
	model  *tenanttest.Model
	who    tenant.ID
	param  string // what a tenant function has read
}

// callVerbs do what a verb does, for the trial's tenant, with one option.
var callVerbs = map[string]func(tr *trial, ctx context.Context, option any) error{
	"NewAgent": func(tr *trial, ctx context.Context, option any) error {
		agent, err := tenant.NewAgent(tr.ledger, tr.model, tr.reads(), option.(tenant.AgentOption))
		if err != nil {
			return err
		}
		_, err = agent.Call(ctx, "Hello")
		return err
	},
	"Call": func(tr *trial, ctx context.Context, option any) error {
		agent, err := tenant.NewAgent(tr.ledger, tr.model, tr.reads())
		if err != nil {
			return err
		}
		_, err = agent.Call(ctx, "Hello", option.(tenant.CallOption))
		return err
	},
	"Stream": func(tr *trial, ctx context.Context, option any) error {
		agent, err := tenant.NewAgent(tr.ledger, tr.model, tr.reads())
		if err != nil {
			return err
		}
		for _, err = range agent.Stream(ctx, "Hello", option.(tenant.CallOption)) {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Reserve": func(tr *trial, ctx context.Context, option any) error {
		hold, err := tr.ledger.Reserve(ctx, tr.who, cent, option.(tenant.ReserveOption))
		if err != nil {
			return err
		}
		_, err = tr.ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.01")})
		return err
	},
	"Record": func(tr *trial, ctx context.Context, option any) error {
		_, err := tr.ledger.Record(ctx, tr.who, tenant.Actual{Cost: tenant.USD("0.01")}, option.(tenant.RecordOption))
		return err
	},
	"Credit": func(tr *trial, ctx context.Context, option any) error {
		_, err := tr.ledger.Credit(ctx, tr.who, tenant.USD("1"), "goodwill", option.(tenant.RecordOption))
		return err
	},
	"Debit": func(tr *trial, ctx context.Context, option any) error {
		_, err := tr.ledger.Debit(ctx, tr.who, tenant.USD("1"), "a fee", option.(tenant.RecordOption))
		return err
	},
}

// reads is an agent's tenant function that notes the parameter of a call, and lets its tenant be.
func (tr *trial) reads() tenant.AgentOption {
	return tenant.WithTenantFunc(func(_ context.Context, c *tenant.Call) (tenant.Tenant, error) {
		tr.param, _ = tenant.Param[string](c, "plan")
		return c.Tenant, nil
	})
}

// last is the execution that was made last.
func (tr *trial) last() (e tenant.Execution) {
	require.NoError(tr, tr.db.Order("id DESC").Take(&e).Error)
	return e
}

// callOptions are what the options of calls do, seen from outside, under the verbs that take them.
var callOptions = map[string]func(tr *trial, verb string, do func(context.Context, any) error){
	"WithAgent": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithAgent("support")))
		require.Equal(tr, "support", tr.last().Agent)
	},
	"WithTag": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithTag("plan", "pro")))
		require.Equal(tr, map[string]string{"plan": "pro"}, tr.last().Tags)
	},
	"WithIdempotencyKey": func(tr *trial, verb string, do func(context.Context, any) error) {
		first, again := do(tr.ctx(), tenant.WithIdempotencyKey("k")), do(tr.ctx(), tenant.WithIdempotencyKey("k"))
		if verb == "NewAgent" {
			require.ErrorIs(tr, first, tenant.ErrInvalidOption)
			require.ErrorContains(tr, first, "NewAgent: WithIdempotencyKey")
			return
		}
		require.NoError(tr, first)
		if verb != "Credit" && verb != "Debit" { // which say that it was done already
			require.ErrorIs(tr, again, tenant.ErrDuplicate)
		}
		var n int64
		require.NoError(tr, tenant.Executions(tr.Context(), tr.db, tr.who).Where("idempotency_key = ?", "k").Count(&n).Error)
		require.EqualValues(tr, 1, n)
	},
	"WithWait": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, tenant.ConfigureBudget(tr.Context(), tr.db, tr.who, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits.DailyCalls = tenant.Hard, tenant.Count(1)
			return nil
		}))
		hold, err := tr.ledger.Reserve(tr.Context(), tr.who, cent)
		require.NoError(tr, err)
		ctx, cancel := context.WithTimeout(tr.ctx(), tenant.DefaultWait/2)
		defer cancel()
		err = do(ctx, tenant.WithWait(0))
		require.ErrorIs(tr, err, tenant.ErrBudgetExceeded)
		require.NotErrorIs(tr, err, context.DeadlineExceeded, "it has waited")
		_, err = tr.ledger.Release(tr.Context(), hold)
		require.NoError(tr, err)
	},
	"WithTenant": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithTenant(tenant.ID("another"))))
		require.Equal(tr, "another", tr.last().TenantID)
	},
	"WithParam": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithParam("plan", "pro")))
		require.Equal(tr, "pro", tr.param)
	},
	"WithMaxTokens": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithMaxTokens(77)))
		require.EqualValues(tr, 77, tr.request().MaxTokens)
	},
	"WithSystem": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithSystem("Be short.")))
		require.Equal(tr, "Be short.", tr.request().System)
	},
	"WithMessages": func(tr *trial, _ string, do func(context.Context, any) error) {
		before := []tenant.Message{tenant.UserMessage("One?"), tenant.AssistantMessage("Two.")}
		require.NoError(tr, do(tr.ctx(), tenant.WithMessages(before...)))
		require.Equal(tr, append(before, tenant.UserMessage("Hello")), tr.request().Messages)
	},
	"WithImages": func(tr *trial, _ string, do func(context.Context, any) error) {
		image := tenant.Image{URL: "https://pictures.example/cat.png"}
		require.NoError(tr, do(tr.ctx(), tenant.WithImages(image)))
		require.Equal(tr, []tenant.Message{tenant.UserMessage("Hello", image)}, tr.request().Messages)
	},
	"WithTemperature": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithTemperature(0)))
		require.NotNil(tr, tr.request().Temperature)
		require.Zero(tr, *tr.request().Temperature)
	},
	"WithStop": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithStop("END", "\n\n")))
		require.Equal(tr, []string{"END", "\n\n"}, tr.request().Stop)
	},
	"WithJSONSchema": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithJSONSchema("answer", []byte(`{"type":"object"}`))))
		require.Equal(tr, &tenant.Schema{Name: "answer", JSON: []byte(`{"type":"object"}`)}, tr.request().Schema)
	},
	"Use": func(tr *trial, _ string, do func(context.Context, any) error) {
		var seen *tenant.Call
		require.NoError(tr, do(tr.ctx(), tenant.Use(func(next tenant.Handler) tenant.Handler {
			return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
				seen = call
				return next(ctx, call)
			}
		})))
		require.Equal(tr, "Hello", seen.Prompt)
	},
	"WithFallback": func(tr *trial, _ string, do func(context.Context, any) error) {
		tr.model = tenanttest.NewModel(tenanttest.Fail(fmt.Errorf("%w: down", tenant.ErrNotBilled)))
		other := tenanttest.NewModel()
		require.NoError(tr, do(tr.ctx(), tenant.WithFallback(other)))
		require.Len(tr, other.Requests(), 1)
	},
	"WithTenantFunc": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.NoError(tr, do(tr.ctx(), tenant.WithTenantFunc(func(context.Context, *tenant.Call) (tenant.Tenant, error) {
			return tenant.ID("by-function"), nil
		})))
		require.Equal(tr, "by-function", tr.last().TenantID)
	},
	"RequireTenant": func(tr *trial, _ string, do func(context.Context, any) error) {
		require.ErrorIs(tr, do(tr.Context(), tenant.RequireTenant()), tenant.ErrTenantRequired)
	},
}

func (tr *trial) ctx() context.Context { return tenant.ContextWithTenant(tr.Context(), tr.who) }

func (tr *trial) request() tenant.Request {
	all := tr.model.Requests()
	require.NotEmpty(tr, all)
	return all[len(all)-1]
}

// No option is given to a verb in which it means nothing: it does not compile, or is used, or is an error that names it.
func TestOptions_OfCallsMeanSomethingToEachVerbThatTakesThem(t *testing.T) {
	t.Parallel()
	options, verbs := face(t)
	db, ledger := tenanttest.Open(t)
	took := map[string][]string{}
	for option, kind := range options {
		for verb, takes := range verbs {
			if !optionTypes[kind].AssignableTo(optionTypes[takes]) || !optionTypes[kind].AssignableTo(optionTypes["AgentOption"]) {
				continue
			}
			took[verb] = append(took[verb], option)
			require.Contains(t, callVerbs, verb)
			require.Contains(t, callOptions, option)
			t.Run(verb+"/"+option, func(t *testing.T) {
				tr := &trial{T: t, db: db, ledger: ledger, model: tenanttest.NewModel(), who: tenant.ID(verb + "/" + option)}
				callOptions[option](tr, verb, func(ctx context.Context, option any) error { return callVerbs[verb](tr, ctx, option) })
			})
		}
	}
	record := []string{"WithAgent", "WithIdempotencyKey", "WithTag"}
	reserve := append(slices.Clone(record), "WithWait")
	call := append(slices.Clone(reserve), "WithMaxTokens", "WithParam", "WithSystem", "WithTenant",
		"WithMessages", "WithImages", "WithTemperature", "WithStop", "WithJSONSchema")
	for verb, want := range map[string][]string{
		"Record": record, "Credit": record, "Debit": record, "Reserve": reserve, "Call": call, "Stream": call,
		"NewAgent": append(slices.Clone(call), "RequireTenant", "WithTenantFunc", "Use", "WithFallback"),
	} {
		require.ElementsMatch(t, want, took[verb], verb)
		delete(took, verb)
	}
	require.Empty(t, took)
}

// An option of one verb has a type of its own, which no other verb takes, and a test that uses it.
func TestOptions_OfOneVerbAreTakenByNoOther(t *testing.T) {
	t.Parallel()
	options, verbs := face(t)
	takers := map[string][]string{}
	for verb, takes := range verbs {
		require.Contains(t, optionTypes, takes, "an unknown kind of options")
		takers[takes] = append(takers[takes], verb)
	}
	for a, typ := range optionTypes {
		for b, other := range optionTypes {
			calls := slices.Index([]string{"AgentOption", "CallOption", "ReserveOption", "RecordOption"}, b)
			nested := calls >= 0 && slices.Index([]string{"AgentOption", "CallOption", "ReserveOption", "RecordOption"}, a) >= calls
			require.Equal(t, a == b || nested, typ.AssignableTo(other), "%s is an %s", a, b)
		}
	}
	require.Equal(t, []string{"Open"}, takers["OpenOption"])
	require.Equal(t, []string{"Register"}, takers["RegisterOption"])
	require.Equal(t, []string{"Backfill"}, takers["BackfillOption"])
	require.Equal(t, []string{"Reprice"}, takers["RepriceOption"])
	require.Equal(t, []string{"Prune"}, takers["PruneOption"])
	require.Equal(t, []string{"Import"}, takers["ImportOption"])
	require.Equal(t, []string{"Export"}, takers["ExportOption"])

	used := map[string]bool{}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_test.go") {
			text, err := os.ReadFile(e.Name())
			require.NoError(t, err)
			for option := range options {
				used[option] = used[option] || strings.Contains(string(text), "tenant."+option+"(") || strings.Contains(string(text), "tenant."+option+"[")
			}
		}
	}
	for option := range options {
		require.True(t, used[option], "no test uses %s", option)
	}
}

// What a question is asked about is its tenant alone, or those below it too.
func TestOptions_OfQuestionsAreHeardByEachOfThem(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	place(t, db, "above", "", "")
	place(t, db, "below", "above", "")
	_, err := ledger.Record(t.Context(), tenant.ID("below"), tenant.Actual{Cost: tenant.USD("1"), Usage: tenant.Usage{Input: 1}})
	require.NoError(t, err)

	ctx, org := t.Context(), tenant.ID("above")
	of := func(question func(context.Context, *gorm.DB, tenant.Tenant, ...tenant.QueryOption) (int64, error)) func(...tenant.QueryOption) (int64, error) {
		return func(o ...tenant.QueryOption) (int64, error) { return question(ctx, db, org, o...) }
	}
	questions := map[string]func(...tenant.QueryOption) (int64, error){
		"Cost": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.Cost(ctx, db, org, tenant.Today, o...)
			return d.IntPart(), err
		},
		"CostToday": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.CostToday(ctx, db, org, o...)
			return d.IntPart(), err
		},
		"CostThisMonth": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.CostThisMonth(ctx, db, org, o...)
			return d.IntPart(), err
		},
		"Charge": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.Charge(ctx, db, org, tenant.Today, o...)
			return d.IntPart(), err
		},
		"ChargeToday": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.ChargeToday(ctx, db, org, o...)
			return d.IntPart(), err
		},
		"ChargeThisMonth": func(o ...tenant.QueryOption) (int64, error) {
			d, err := tenant.ChargeThisMonth(ctx, db, org, o...)
			return d.IntPart(), err
		},
		"Tokens":          func(o ...tenant.QueryOption) (int64, error) { return tenant.Tokens(ctx, db, org, tenant.Today, o...) },
		"TokensToday":     of(tenant.TokensToday),
		"TokensThisMonth": of(tenant.TokensThisMonth),
		"ExecutionCount": func(o ...tenant.QueryOption) (int64, error) {
			return tenant.ExecutionCount(ctx, db, org, tenant.Today, o...)
		},
		"ExecutionCountToday":     of(tenant.ExecutionCountToday),
		"ExecutionCountThisMonth": of(tenant.ExecutionCountThisMonth),
		"UsageSummary": func(o ...tenant.QueryOption) (int64, error) {
			s, err := tenant.UsageSummary(ctx, db, org, tenant.Today, o...)
			return s.Calls, err
		},
		"Executions": func(o ...tenant.QueryOption) (n int64, err error) {
			err = tenant.Executions(ctx, db, org, o...).Count(&n).Error
			return n, err
		},
	}
	_, verbs := face(t)
	maps.DeleteFunc(verbs, func(_, takes string) bool { return takes != "QueryOption" })
	require.ElementsMatch(t, slices.Collect(maps.Keys(verbs)), slices.Collect(maps.Keys(questions)))
	for name, question := range questions {
		n, err := question()
		require.NoError(t, err, name)
		require.Zero(t, n, name)
		n, err = question(tenant.WithDescendants())
		require.NoError(t, err, name)
		require.EqualValues(t, 1, n, name)
		_, err = question(nil)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, name)
		require.ErrorContains(t, err, "nil QueryOption", name)
	}
}

// A nil option is an error that says so, whoever takes it.
func TestOptions_NilOnesAreErrorsThatNameTheirKind(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	require.NoError(t, db.AutoMigrate(&Organization{}))
	require.NoError(t, ledger.Register(&Organization{}))
	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel())
	require.NoError(t, err)
	ctx := t.Context()
	errs := map[string]error{}
	_, errs["Open: a nil OpenOption"] = tenant.Open(db, nil)
	_, errs["NewAgent: a nil AgentOption"] = tenant.NewAgent(ledger, tenanttest.NewModel(), nil)
	_, errs["Call: a nil CallOption"] = agent.Call(ctx, "Hello", nil)
	for _, err := range agent.Stream(ctx, "Hello", nil) {
		errs["Stream: a nil CallOption"] = err
	}
	_, errs["Reserve: a nil ReserveOption"] = ledger.Reserve(ctx, acme, cent, nil)
	_, errs["Record: a nil RecordOption"] = ledger.Record(ctx, acme, tenant.Actual{}, nil)
	_, errs["Credit: a nil RecordOption"] = ledger.Credit(ctx, acme, tenant.USD("1"), "x", nil)
	_, errs["Debit: a nil RecordOption"] = ledger.Debit(ctx, acme, tenant.USD("1"), "x", nil)
	errs["a nil RegisterOption"] = ledger.Register(&Organization{}, nil)
	_, errs["a nil BackfillOption"] = ledger.Backfill(ctx, &Organization{}, nil)
	_, errs["a nil RepriceOption"] = ledger.Reprice(ctx, time.Now().Add(-time.Hour), time.Now(), nil)
	_, errs["a nil PruneOption"] = ledger.Prune(ctx, time.Now().Add(-time.Hour), nil)
	_, errs["a nil ImportOption"] = ledger.Import(ctx, "s", func(func(tenant.ImportedCall, error) bool) {}, nil)
	_, errs["a nil ExportOption"] = tenant.Export(ctx, db, io.Discard, tenant.CSV(), tenant.ExecutionQuery{}, nil)
	for want, err := range errs {
		require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
		require.ErrorContains(t, err, want)
	}
	var n int64
	require.NoError(t, db.Model(&tenant.Execution{}).Count(&n).Error)
	require.Zero(t, n, "none of them has booked anything")
}

// Nobody takes a context for an option: what returns a context is called after what it puts into it.
func TestContexts_AreNamedAlike(t *testing.T) {
	t.Parallel()
	var names []string
	for _, dir := range []string{".", "tenanthttp"} {
		for _, f := range sources(t, dir) {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || !fn.Name.IsExported() || fn.Type.Results == nil {
					continue
				}
				for _, r := range fn.Type.Results.List {
					if s, ok := r.Type.(*ast.SelectorExpr); ok && typeName(s.X) == "context" && s.Sel.Name == "Context" {
						names = append(names, fn.Name.Name)
						require.Regexp(t, "^ContextWith[A-Z]", fn.Name.Name)
					}
				}
			}
		}
	}
	require.ElementsMatch(t, []string{"ContextWithTenant", "ContextWithActor", "ContextWithReason", "ContextWithCall", "ContextWithExchange"}, names)
}
