package meter

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

// What the provider's own tools used for a response: items of it, and models of their own.

type item struct{ typ, action, container string }

// used is what a response used of the provider's tools that is charged by the piece.
type used struct {
	searches, files int64
	containers      []string // that code ran in, each once: several calls can share one
}

// plus counts an item: a search, and not the opening of a page that it has found.
func (u *used) plus(i item) {
	switch i.typ {
	case "web_search_call":
		if i.action == "" || i.action == "search" {
			u.searches++
		}
	case "file_search_call":
		u.files++
	case "code_interpreter_call", "shell_call":
		if i.container != "" && len(u.containers) < maxContainers && !slices.Contains(u.containers, i.container) {
			u.containers = append(u.containers, i.container)
		}
	}
}

const maxContainers = 100 // of one response, beyond which nobody looks

// gigabytes are the memory of a container, which its price goes by; zero where nothing is said of it. Where a call has
// several, the most that one of them has is that of all.
type gigabytes int64

func (g *gigabytes) read(v value) {
	if n, _, ok := scaled(bytes.TrimSuffix(v.text, []byte("g")), 0); ok {
		*g = max(*g, gigabytes(n))
	}
}

func (g gigabytes) container() units.Unit {
	if g <= 1 { // as they are otherwise
		return units.Containers
	}
	return units.Containers.With(strconv.FormatInt(int64(g), 10) + "g")
}

type tool struct{ typ, model string }

// imageModel makes images for a response where its tool names no model.
const imageModel = "gpt-image-2"

// charged is what OpenAI charges of its tools beside tokens and searches of the web: searches of files, and containers.
func (o *openAI) charged() units.Counts {
	if o.endpoint.Provider != OpenAIProvider && o.endpoint.Provider != Azure {
		return units.Counts{}
	}
	return units.Of(units.FileSearches, max(o.items.files, o.doneItems.files)).
		Plus(units.Of(o.memory.container(), int64(max(len(o.items.containers), len(o.doneItems.containers)))))
}

// tools says what models of the provider's tools used, which is no part of the reply's own usage.
func (o *openAI) tools(to *Result) {
	made := o.drawings
	made.list = slices.Clone(made.list)
	if o.seldom != nil && !o.seldom.images.empty() {
		images := &o.seldom.images
		if u, _ := images.openAI(source{Endpoint: Endpoint{Kind: Images}}); u != (book.Usage{}) || images.bad {
			made.plus(cmp.Or(o.painter, imageModel), u, images.bad)
		}
	}
	made.fill(to, o.model)
}

// searches is what the provider counts, or else the searches among the items.
func (o *openAI) searches() int64 {
	if o.seldom != nil && o.seldom.billed.has(fieldSearches) {
		return o.seldom.billed.n[fieldSearches]
	}
	t := o.counts()
	if !t.any(fieldSearches, fieldOtherSearches) {
		n := max(o.items.searches, o.doneItems.searches)
		if o.known && o.endpoint.Format == ChatCompletions && searchesFirst(cmp.Or(o.model, o.endpoint.Model)) {
			n = max(n, 1)
		}
		return n
	}
	n := t.n[fieldSearches]
	if o.endpoint.Provider != Perplexity || t.has(fieldCitation) { // else a fee for the request covers them
		n += t.n[fieldOtherSearches]
	}
	return n
}

// divide leaves a usage to the first of the models whose shares of it are stated, less those of the others: each has its price,
// and the system of models that was asked has none.
func (o *openAI) divide(u *book.Usage, to *Result) {
	if o.seldom == nil || len(o.seldom.shares.list) == 0 {
		return
	}
	shares := o.seldom.shares
	to.Model = shares.list[0].Model
	shares.list = slices.Clone(shares.list[1:])
	for _, m := range shares.list {
		all, theirs := u.Classes(), m.Usage.Classes()
		for i := range all {
			*all[i] = max(*all[i]-*theirs[i], 0)
		}
	}
	shares.fill(to, to.Model)
}
