package tenant_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is what the code of this module has: functions and types, tests, and files by their paths and by their ends.
type named struct {
	functions, files map[string]bool
	in               map[string]map[string]bool // the functions of a file
}

func namesOfCode(t *testing.T) named {
	t.Helper()
	all := named{functions: map[string]bool{}, files: map[string]bool{}, in: map[string]map[string]bool{}}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		all.files[filepath.ToSlash(path)] = true
		if entry.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		in := map[string]bool{}
		all.in[filepath.ToSlash(path)] = in
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				all.functions[f.Name.Name], in[f.Name.Name] = true, true
			}
		}
		return nil
	}))
	return all
}

var (
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz|Example|Benchmark)[A-Z_]\w*$`)
	fileName = regexp.MustCompile(`^[\w./-]+\.(go|yml|md|sh)$`)
	pathName = regexp.MustCompile(`^(internal|tenanttest|adapters|compat|migrations|pricing|tenanthttp)(/[\w-]+)*$`)
	opened   = regexp.MustCompile(`^(Test|Fuzz|Example|Benchmark)\w*…$`)
)

// missing returns what a document names that the code does not have.
func (n named) missing(document string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(document, -1) {
		name := m[1]
		switch {
		case testName.MatchString(name) && !n.functions[name],
			fileName.MatchString(name) && !n.files[name],
			pathName.MatchString(name) && !n.files[name]:
			out = append(out, name)
		case opened.MatchString(name): // such as TestPool_…
			found := false
			for f := range n.functions {
				found = found || strings.HasPrefix(f, strings.TrimSuffix(name, "…"))
			}
			if !found {
				out = append(out, name)
			}
		}
	}
	return out
}

// undecided says what is wrong with where a rule is decided: a file, and a function of it.
func (n named) undecided(cell string) (wrong string) {
	var files, functions []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		if strings.ContainsAny(m[1], "./") {
			files = append(files, m[1])
		} else {
			functions = append(functions, m[1])
		}
	}
	switch {
	case len(files) == 0:
		return "it names no file"
	case len(functions) == 0 && slices.ContainsFunc(files, func(f string) bool { return !strings.Contains(f, ".") || strings.HasSuffix(f, ".go") }):
		return "it names no function"
	}
	for _, f := range functions {
		if !slices.ContainsFunc(files, func(file string) bool {
			for path, in := range n.in { // a file, or one of a folder
				meant, err := filepath.Match(file, path)
				if (err == nil && meant || filepath.ToSlash(filepath.Dir(path)) == file) && in[f] {
					return true
				}
			}
			return false
		}) {
			return f + " is in none of these files"
		}
	}
	return ""
}

func TestDocuments_NameTestsFunctionsAndFilesThatExist(t *testing.T) {
	t.Parallel()
	code := namesOfCode(t)
	for _, document := range []string{"docs/guarantees.md", "docs/inside.md"} {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		require.Empty(t, code.missing(string(text)), document)
	}
	guarantees, err := os.ReadFile("docs/guarantees.md")
	require.NoError(t, err)
	rules := 0
	for line := range strings.Lines(string(guarantees)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| rule") {
			continue
		}
		rules++
		require.GreaterOrEqual(t, len(cells), 3, line)
		require.Empty(t, code.undecided(cells[1]), line)
	}
	require.Greater(t, rules, 100)
	require.Empty(t, code.undecided("`settle.go` `conclude`"))
	require.NotEmpty(t, code.undecided("`settle.go`"))
	require.NotEmpty(t, code.undecided("`settle.go` `nowhere`"))
	require.NotEmpty(t, code.undecided("`settle.go` `reserve`"))
	require.Equal(t, []string{"TestNobody_Wrote", "internal/nowhere", "nowhere.go", "TestNobody_…"},
		code.missing("`TestNobody_Wrote` `internal/nowhere` `internal/lane` `nowhere.go` `settle.go` `TestNobody_…` `TestPool_…`"))
}
