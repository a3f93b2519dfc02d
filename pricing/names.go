package pricing

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

// find returns nil if no model has the name, or more than one has. The first reading of the name that leads to a model
// ends the search, even if that model is one too many: a looser reading must not decide for it.
func (b *Book) find(provider, name string) *listing {
	name = b.deployed(provider, name)
	prefix, rest, prefixed := strings.Cut(name, "/")
	prefix = canonical(prefix)
	if provider == "" && prefixed && b.providers[prefix] {
		return b.find(prefix, rest) // openai/gpt-4o is OpenAI's, although gateways have models of that name
	}
	if l, known := b.named(provider, name); known {
		return l
	}
	if prefixed && provider == prefix {
		return b.find(provider, rest)
	}
	if prefixed && provider == Perplexity && b.providers[prefix] && !providers[prefix].host {
		return b.find(prefix, rest) // it passes the models of others on at their makers' prices
	}
	if provider == "" && strings.HasPrefix(name, "models/") {
		provider = Google
	}
	for reading := range readings(provider, resource(provider, name)) {
		if l, known := b.named(reading.provider, reading.name); known {
			if reading.elsewhere && b.dearerInARegion(l) {
				return nil
			}
			return l
		}
	}
	if provider != "" && name != "" && name != Any && !ollamaCloud(provider, name) {
		return in(b.names[Any], provider)
	}
	return nil
}

type reading struct {
	provider, name string
	elsewhere      bool // the name without the region that it was asked with
}

// dearerInARegion reports whether a region charges more for the model than is charged without a region in the name. What
// another one charges, that no row has, is not known then.
func (b *Book) dearerInARegion(l *listing) bool {
	if l == nil {
		return false
	}
	for _, region := range bedrockRegions {
		if r := in(b.names[region+"."+l.name], l.provider); r != nil && r.latest().Input > l.latest().Input {
			return true
		}
	}
	return false
}

func (l *listing) latest() tenant.Price { return l.periods[len(l.periods)-1].price }

// readings yields the names that a provider's name of a model may be listed under, from the narrowest to the widest.
func readings(provider, name string) iter.Seq[reading] {
	return func(yield func(reading) bool) {
		elsewhere := false
		as := func(name string) bool { return yield(reading{provider, name, elsewhere}) }
		if strings.HasPrefix(name, "ft:") {
			fineTuned(name, as)
			return
		}
		if !as(name) {
			return
		}
		whole := name
		switch provider {
		case Bedrock:
			for i, name := range [...]string{name, cutRegion(name)} {
				elsewhere = i > 0 && !strings.HasPrefix(whole, "global.")
				if !as(name) {
					return
				}
				for _, cut := range [...]func(string) (string, bool){cutRevision, cutFirstVersion, cutDate} {
					if rest, ok := cut(name); ok && !as(rest) {
						return
					}
				}
			}
			return
		case OpenRouter:
			// The cheapest route there is cannot cost more than the listed one. Other variants can, and are rows or nothing.
			if base, ok := strings.CutSuffix(name, ":floor"); ok {
				as(base)
				return
			}
		}
		if rest, ok := strings.CutSuffix(name, "@default"); ok && provider == Vertex {
			as(rest)
			return
		}
		if rest, ok := cutDate(name); ok {
			at := len(rest)
			if provider == Vertex && name[at] == '-' && !as(rest+"@"+name[at+1:]) { // as replies spell it
				return
			}
			as(rest)
			return
		}
		if rest, ok := cutVersion(name); ok {
			switch provider {
			case "", Google:
				yield(reading{provider: Google, name: rest})
			case Vertex:
				as(rest)
			}
		}
	}
}

// fineTuned yields the names that a fine-tuned model, "ft:base:organization:suffix:id", may be listed under; the suffix
// may be empty, and a checkpoint may follow. They never include the base itself, which is cheaper.
func fineTuned(name string, yield func(string) bool) {
	parts := strings.Split(name, ":")
	switch n := len(parts); {
	case n == 2:
	case n == 5 || n == 6:
		if parts[2] == "" || parts[4] == "" || parts[n-1] == "" {
			return
		}
	default:
		return
	}
	base := parts[0] + ":" + parts[1]
	if !yield(base) {
		return
	}
	if rest, ok := cutDate(base); ok {
		yield(rest)
	}
}

// resource cuts off the path in front of a model's name in the resource names of Google's and Amazon's clouds.
func resource(provider, name string) string {
	switch provider {
	case Google, Vertex:
		if rest, ok := strings.CutPrefix(name, "models/"); ok {
			return rest
		}
		if i := strings.Index(name, "/models/"); i >= 0 && (strings.HasPrefix(name, "publishers/") || strings.HasPrefix(name, "projects/")) {
			return name[i+len("/models/"):]
		}
		if rest, ok := strings.CutPrefix(name, "google/"); ok && provider == Vertex {
			return rest
		}
	case Bedrock:
		for _, kind := range [...]string{":foundation-model/", ":inference-profile/"} {
			if i := strings.Index(name, kind); i >= 0 && strings.HasPrefix(name, "arn:") {
				return name[i+len(kind):]
			}
		}
	}
	return name
}

// bedrockRegions are the prefixes of Bedrock's inference profiles.
var bedrockRegions = []string{"us", "us-gov", "eu", "apac", "jp", "au", "ca", "in", "sa", "global"}

// cutRegion removes the region of an inference profile: "eu.amazon.nova-pro-v1:0".
func cutRegion(name string) string {
	region, rest, ok := strings.Cut(name, ".")
	if !ok || !strings.Contains(rest, ".") {
		return name
	}
	second, _, _ := strings.Cut(rest, ".")
	if !slices.Contains(bedrockRegions, region) || slices.Contains(bedrockRegions, second) {
		return name
	}
	return rest
}

// cutRevision removes the revision from the end of names like amazon.nova-pro-v1:0. What is left still has its version:
// the next one may have another price.
func cutRevision(name string) (string, bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 1 || !digits(name[i+1:]) {
		return "", false
	}
	return name[:i], true
}

// cutFirstVersion removes "-v1" and "-v1:0" from the end of a name: newer models have no version in Amazon's names, and
// are written with one all the same. The second version may have another price.
func cutFirstVersion(name string) (string, bool) {
	if rest, ok := cutRevision(name); ok {
		name = rest
	}
	return strings.CutSuffix(name, "-v1")
}

// ollamaCloud reports whether a model of Ollama's does not run on one's own machine.
func ollamaCloud(provider, name string) bool {
	return provider == Ollama && (strings.HasSuffix(name, "-cloud") || strings.HasSuffix(name, ":cloud"))
}

// named returns the provider's listing of this very name, or that of the only maker which has one. A name that is
// known and yet leads to no listing belongs to several.
func (b *Book) named(provider, name string) (l *listing, known bool) {
	if name == Any {
		return nil, false
	}
	all := b.names[name]
	if provider != "" {
		l = in(all, provider)
		return l, l != nil
	}
	makers := 0
	for _, one := range all {
		if !one.host {
			l = one
			makers++
		}
	}
	if makers > 1 {
		l = nil
	}
	return l, makers > 0
}

func in(all []*listing, provider string) *listing {
	for _, l := range all {
		if l.provider == provider {
			return l
		}
	}
	return nil
}

// cutDate removes the date from the end of names like gpt-4o-2024-08-06, claude-opus-4-5-20251101 and
// claude-opus-4-5@20251101.
func cutDate(name string) (string, bool) {
	for _, f := range [...]struct{ seps, layout string }{{"-", "2006-01-02"}, {"-@", "20060102"}} {
		i := len(name) - len(f.layout)
		if i < 2 || !strings.Contains(f.seps, name[i-1:i]) {
			continue
		}
		if _, err := time.Parse(f.layout, name[i:]); err == nil {
			return name[:i-1], true
		}
	}
	return "", false
}

// cutVersion removes the version from the end of names like gemini-2.0-flash-001.
func cutVersion(name string) (string, bool) {
	i := len(name) - len("-001")
	if i < 1 || name[i] != '-' || !digits(name[i+1:]) {
		return "", false
	}
	return name[:i], true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
