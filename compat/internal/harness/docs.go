package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// updateVariable names the environment variable that has [RunAll] write the page instead of comparing it.
const updateVariable = "TENANT_UPDATE_DOCS"

const transportComment = "// The transport under the SDK:"

// results are the cases that have passed.
type results struct {
	mu  sync.Mutex
	all map[string]map[Case]bool
}

func (r *results) passed(sdk string, c Case) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]map[Case]bool{}
	}
	if r.all[sdk] == nil {
		r.all[sdk] = map[Case]bool{}
	}
	r.all[sdk][c] = true
}

// seen is what is kept of an SDK that has passed all cases.
type seen struct {
	Name    string
	Module  string
	Version string
	Code    string // the lines that put the transport under it
	Notes   []string

	Gateways []string `json:",omitempty"`
}

const keptIn = "sdks.json"

// document fails the test where the page is not what has been run; with TENANT_UPDATE_DOCS set it writes the page. The
// SDKs are in several modules, since they do not agree on the versions of what they need: each keeps what it has seen in a
// file of its own, and the page is made of all of them. It does nothing where not all cases of all SDKs of the module
// have passed: they have failed their own tests, or were not to be run.
func (r *results) document(t *testing.T, sdks []*SDK) {
	versions, all := versionsOf(t, "go.mod"), make([]seen, len(sdks))
	for i, sdk := range sdks {
		if len(r.all[sdk.Name]) != len(cases) {
			t.Logf("the documentation is not checked: %s has not passed all cases", sdk.Name)
			return
		}
		require.NotEmpty(t, versions[sdk.Module], "%s is not in go.mod", sdk.Module)
		all[i] = seen{Name: sdk.Name, Module: sdk.Module, Version: versions[sdk.Module], Code: transportLines(t, sdk), Notes: sdk.Notes, Gateways: gatewaysOf(sdk)}
	}
	kept, err := json.MarshalIndent(all, "", "\t")
	require.NoError(t, err)
	compare(t, keptIn, string(kept)+"\n")

	root := repository(t)
	compare(t, filepath.Join(root, "docs", "sdks.md"), render(everything(t, filepath.Join(root, "compat"))))
}

// compare checks, or writes, a file.
func compare(t *testing.T, file, want string) {
	if os.Getenv(updateVariable) != "" {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		return
	}
	have, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, want, string(have), "%s is not what has been run; write it with: %s=1 go test .", file, updateVariable)
}

// repository is the folder that has the one with the documentation.
func repository(t *testing.T) string {
	for root := ".."; len(root) < 100; root = filepath.Join("..", root) {
		if _, err := os.Stat(filepath.Join(root, "go.work")); err == nil {
			return root
		}
	}
	require.Fail(t, "no folder above has a go.work")
	return ""
}

// everything is what all modules have seen.
func everything(t *testing.T, compat string) (all []seen) {
	below, err := filepath.Glob(filepath.Join(compat, "*", keptIn))
	require.NoError(t, err)
	for _, file := range append([]string{filepath.Join(compat, keptIn)}, below...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var some []seen
		require.NoError(t, json.Unmarshal(text, &some))
		all = append(all, some...)
	}
	return all
}

const preface = `# SDKs over the transport

Written by the tests in compat/, which run each SDK against a server on loopback, with a ledger on PostgreSQL: ✓ is what
they have seen. Versions are those that they were built with.

`

var meanings = []struct {
	name    Case
	meaning string
}{
	{Plain, "the reply is the provider's, byte for byte; tokens and cost are on the books, to the nano-dollar, when the SDK returns"},
	{Streamed, "each piece arrives before the provider sends the next; the usage is read, and a chunk that the SDK did not ask for is not seen"},
	{ToolCall, "the SDK gets the call of the tool and sends its result: two executions"},
	{Cancelled, "a stream given up half-way, by its context or by its own means: the provider sees that the reader has gone, what came is charged once and marked estimated"},
	{Refused, "without room in the budget nothing is sent or tried again, streams included; `AsBudgetError` finds the refusal in the SDK's error, whose type says 402"},
	{Failed, "each of the SDK's own attempts is a failed execution that costs nothing, the one that succeeds is charged once; the error that is left has the SDK's own type"},
	{Gateways, "replies in the forms that these servers have for them, of whatever provider is behind: counted by what their numbers mean, and estimated where they say nothing"},
	{Tenants, "one client, calls of two tenants at the same time: each tenant's executions and cost are its own"},
}

// frameworks is what was seen of frameworks whose own usage is not what the provider bills. findings/ has a run of each.
const frameworks = `
## Whose own usage not to book

These sum usage up in their own way, so that it is not what the provider bills. Put the transport under them, which reads the provider's own
replies, and book nothing of what they say. Each was run without the transport, by a script in [findings](../findings).

| framework | its usage | the transport |
|---|---|---|
| any-llm-go 0.8 | of Anthropic it leaves out what was cached; Gemini's reasoning is beside the output and OpenAI's inside | ` + "`anyllm.WithHTTPClient(client)`" + `, which its providers openai and gemini take. Its provider anthropic makes its calls without the client: nobody counts them. Use Anthropic's SDK there |
| fantasy 0.42 | streams of Gemini add up totals that are already sums; the input has the cache in it with Gemini, and not with others | ` + "`google.WithHTTPClient(client)`" + `, and the like of its other providers |
| langchaingo 0.1.14, llms/anthropic | each block of a reply carries the usage of the whole | ` + "`anthropic.WithHTTPClient(client)`" + ` |
| tokenlens 1.3 (npm) | its costs charge what was cached twice | it makes no calls: price by the ledger's book |
`

func render(sdks []seen) string {
	var page strings.Builder
	page.WriteString(preface)
	header, rule := "| SDK | version |", "|---|---|"
	for _, c := range cases {
		header += " " + string(c.name) + " |"
		rule += "---|"
	}
	page.WriteString(header + "\n" + rule + "\n")
	for _, sdk := range sdks {
		fmt.Fprintf(&page, "| %s | %s |", sdk.Name, sdk.Version)
		for _, c := range cases {
			mark := "✓"
			if c.name == Gateways {
				mark = cmp.Or(strings.Join(sdk.Gateways, ", "), "none")
			}
			for i, note := range sdk.Notes {
				if strings.HasPrefix(note, string(c.name)+":") {
					mark += fmt.Sprintf(" (%d)", i+1)
				}
			}
			page.WriteString(" " + mark + " |")
		}
		page.WriteString("\n")
	}
	page.WriteString("\nNumbers are those of the notes below. What the columns say:\n\n")
	for _, m := range meanings {
		fmt.Fprintf(&page, "- **%s**: %s.\n", m.name, m.meaning)
	}
	page.WriteString("\nAfter each, the books agree with the executions (`Verify`), and nothing is held.\n\n## How to put the transport under it\n\n" +
		"`client` is the `*http.Client` of `tenanthttp.NewClient`. The base URL is the tests' server; leave it out for the provider's own.\n")
	for _, sdk := range sdks {
		fmt.Fprintf(&page, "\n### %s\n\n`%s`\n\n```go\n%s```\n", sdk.Name, sdk.Module, sdk.Code)
		for i, note := range sdk.Notes {
			if i == 0 {
				page.WriteString("\n")
			}
			fmt.Fprintf(&page, "%d. %s\n", i+1, note)
		}
	}
	page.WriteString(frameworks)
	return page.String()
}

// transportLines are the lines in the SDK's file that put the transport under it.
func transportLines(t *testing.T, sdk *SDK) string {
	source, err := os.ReadFile(sdk.File)
	require.NoError(t, err)
	var lines strings.Builder
	indent, within := "", false
	for line := range strings.Lines(string(source)) {
		before, found := strings.CutSuffix(line, transportComment+"\n")
		switch {
		case found:
			indent, within = before, true
		case within && strings.TrimSpace(line) == "":
			return lines.String()
		case within:
			lines.WriteString(strings.TrimPrefix(line, indent))
		}
	}
	require.Fail(t, "no lines follow the comment", "%s in %s", transportComment, sdk.File)
	return ""
}

// versionsOf reads the versions that a go.mod requires. A test binary does not know them itself.
func versionsOf(t *testing.T, gomod string) map[string]string {
	text, err := os.ReadFile(gomod)
	require.NoError(t, err)
	versions := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(strings.TrimPrefix(line, "require ")); len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			versions[fields[0]] = fields[1]
		}
	}
	return versions
}
