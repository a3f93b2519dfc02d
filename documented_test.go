package tenant_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// documented are the packages whose exported names are for users.
var documented = []string{
	".",
	"tenanthttp",
	"tenanttest",
	"tenantui",
	"pricing",
	"units",
	"adapters/openai",
	"otel",
	"adapters/anthropic",
	"adapters/google",
	"adapters/fantasy",
	"adapters/failsafe",
}

// standard are methods whose errors are those that their interface says.
var standard = map[string]bool{
	"UnmarshalJSON": true, "UnmarshalText": true, "MarshalJSON": true, "MarshalText": true, "Scan": true, "Value": true, "Unwrap": true, "Error": true, "RoundTrip": true,
}

// The documentation of a function that returns an error says which, and that of an option what holds without it.
func TestDocumentation_SaysErrorsAndDefaults(t *testing.T) {
	t.Parallel()
	saysErrors := regexp.MustCompile(`(?i)\berrors?\b|\[[a-z.*]*Err[A-Z]|Error\]`)
	for _, dir := range documented {
		for _, f := range sources(t, dir) {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || !fn.Name.IsExported() || fn.Recv != nil && !ast.IsExported(receiver(fn)) {
					continue
				}
				name, doc := dir+"."+fn.Name.Name, strings.Join(strings.Fields(fn.Doc.Text()), " ")+" "
				if fn.Name.Name == "Error" && fn.Recv != nil {
					continue // the error's words
				}
				if !strings.HasPrefix(doc, fn.Name.Name+" ") {
					t.Errorf("the documentation of %s does not begin with its name", name)
				}
				if fn.Type.Results == nil {
					continue
				}
				for _, r := range fn.Type.Results.List {
					switch kind := typeName(r.Type); {
					case kind == "error" && !standard[fn.Name.Name]:
						if !saysErrors.MatchString(doc) {
							t.Errorf("%s does not say which errors it returns", name)
						}
					case strings.HasSuffix(kind, "Option") && strings.HasPrefix(fn.Name.Name, "With"):
						if !strings.Contains(doc, "Defaults to ") {
							t.Errorf("%s does not say what holds without it", name)
						}
					}
				}
			}
		}
	}
}

// receiver is the name of a method's type.
func receiver(fn *ast.FuncDecl) string {
	e := fn.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	return typeName(e)
}
