package meter

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// A golden is a reply of our own writing, and what is to be read from it.
type golden struct {
	name string
	url  string
	body string

	header   http.Header
	usage    book.Usage
	found    bool
	cost     string // in nano-dollars; empty: not stated
	tier     string
	model    string
	unended  bool
	strange  bool // implausible
	failed   bool
	also     []ModelUsage
	finished []string
}

// check reads the reply whole, in halves and byte by byte, and in all the ways in which others would write it.
func (g golden) check(t *testing.T) {
	t.Helper()
	e := at(t, http.MethodPost, g.url)
	g.varied(t, e)
	for _, pieces := range []int{1, 2, len(g.body)} {
		got := readIn(pieces, e, http.StatusOK, g.header, []byte(g.body))
		require.Equal(t, g.usage, got.Usage)
		require.Equal(t, g.found || g.usage != (book.Usage{}), got.Found, "found")
		require.Equal(t, !g.unended, got.Complete, "complete")
		require.Equal(t, g.strange, got.Implausible, "implausible")
		require.Equal(t, g.failed, got.Failed, "failed")
		require.Equal(t, g.also, got.Also)
		if g.cost == "" {
			require.Negative(t, got.ReportedCost)
		} else {
			require.Equal(t, g.cost, strconv.FormatInt(got.ReportedCost, 10))
		}
		if g.tier != "" {
			require.Equal(t, g.tier, got.ServiceTier)
		}
		if g.model != "" {
			require.Equal(t, g.model, got.Model)
		}
		if g.finished != nil {
			require.Equal(t, g.finished, got.FinishReasons)
		}
	}
}

func at(t *testing.T, method, raw string) Endpoint {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	e, ok := Recognise(method, u)
	require.True(t, ok, raw)
	return e
}

func check(t *testing.T, goldens []golden) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.check(t)
		})
	}
}

// sse writes events with the given data, and after them the end mark of OpenAI.
func sse(data ...string) string { return sseOpen(data...) + "data: [DONE]\n\n" }

// sseOpen writes events with the given data and no end mark.
func sseOpen(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + strings.ReplaceAll(d, "\n", "\ndata: ") + "\n\n")
	}
	return b.String()
}
