package pricing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Option changes a book; see [Book.With].
type Option func(*Book) (*Book, error)

// With returns a book that is b with the options applied, in their order. A bad value is an error that names the option.
func (b *Book) With(options ...Option) (*Book, error) {
	out := *b
	next := &out
	for _, o := range options {
		if o == nil {
			return nil, errors.New("pricing: With: a nil Option")
		}
		var err error
		if next, err = o(next); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Override puts rows in place of those that the book has for the same models: negotiated rates, or models that it does
// not know. A model in both has the new rows alone, at all times, and the other names that the book has for it lead to
// them too. A row of the book with a date in its name is a model of its own and stays. The errors are those of [New].
func Override(rows ...Row) Option {
	return func(b *Book) (*Book, error) {
		top, err := New(rows...)
		if err != nil {
			return nil, err
		}
		return b.over(top), nil
	}
}

// AsOf says of which day the book's figures are: that of the list which was laid over it.
func AsOf(day time.Time) Option {
	return func(b *Book) (*Book, error) {
		if day.IsZero() {
			return nil, errors.New("pricing: AsOf: no day")
		}
		b.day = day
		return b, nil
	}
}

// ChargeReported says that calls of these providers are charged what the provider states as their cost, where it does.
// So it is by default for OpenRouter, Perplexity, Vercel's gateway and xAI, whose fees for searches and the like no
// usage shows. What a call is held at is reckoned by the book in any case.
func ChargeReported(providers ...string) Option { return chargeRule("ChargeReported", true, providers) }

// ChargeComputed says that calls of these providers are charged what their usage costs by the book, whatever the
// provider states.
func ChargeComputed(providers ...string) Option {
	return chargeRule("ChargeComputed", false, providers)
}

func chargeRule(option string, reported bool, providers []string) Option {
	return func(b *Book) (*Book, error) {
		b.charge = cloned(b.charge)
		for _, p := range providers {
			if p == "" {
				return nil, fmt.Errorf("pricing: %s: empty name of a provider", option)
			}
			b.charge[canonical(p)] = reported
		}
		return b, nil
	}
}

// Deployments says which model is behind each name that the host gave one itself: a deployment on Azure by its name, an
// application inference profile on Bedrock by its ARN. The models are named as the book names them, on Bedrock with the
// region of the profile ("us.anthropic.…").
func Deployments(models map[string]string) Option {
	return func(b *Book) (*Book, error) {
		b.deployments = cloned(b.deployments)
		for _, name := range slices.Sorted(maps.Keys(models)) {
			on, model := deployedOn(name), models[name]
			if b.find(on, model) == nil {
				return nil, fmt.Errorf("pricing: Deployments[%s]: the book has no model %q of %s", name, model, on)
			}
			b.deployments[name] = model
		}
		return b, nil
	}
}

// deployedOn returns the provider that has deployments of such names.
func deployedOn(name string) string {
	if strings.HasPrefix(name, "arn:") {
		return Bedrock
	}
	return Azure
}

// deployed returns the model behind a name that the host gave it, or the name.
func (b *Book) deployed(provider, name string) string {
	if model, ok := b.deployments[name]; ok && deployedOn(name) == provider {
		return model
	}
	return name
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	maps.Copy(out, m)
	return out
}
