package tenanthttp

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/llmtenant/tenant"
)

// Option is an option of [NewTransport] and [NewClient].
type Option func(*options) error

type options struct {
	maxInput        int64
	maxOutput       int64
	provider        string
	hidden          map[string]int64 // by host
	unasked         bool
	refuseUnmetered bool
	requireTenant   bool
}

const (
	// DefaultMaxInput is how many tokens of input an open request holds, where [WithMaxInput] does not say it.
	DefaultMaxInput = 200_000

	// DefaultMaxOutput is how many tokens of output each choice holds of a request that states no limit, where
	// [WithMaxOutput] does not say it.
	DefaultMaxOutput = 16_384

	mostTokens = 1 << 40
)

// WithMaxInput sets how many tokens of input are held for an open request: one whose input is not all in its body,
// because the provider searches, fetches media by their URL, or has the conversation stored. It is best the context
// window of the largest model in use. Defaults to [DefaultMaxInput].
func WithMaxInput(tokens int64) Option {
	return func(o *options) error { return count(&o.maxInput, "WithMaxInput", tokens) }
}

// WithMaxOutput gives requests that state no limit of their output one of so many tokens. Where the model's own limit is
// lower, some providers refuse such a request. So much is held as well for reasoning that a limit does not bind, as in xAI's
// responses. Defaults to none: a request without a limit is sent as it is and holds
// [DefaultMaxOutput] for each choice, unless its budget has room for less, so that a longer reply is an overrun.
func WithMaxOutput(tokens int64) Option {
	return func(o *options) error { return count(&o.maxOutput, "WithMaxOutput", tokens) }
}

// WithHiddenInput sets how many tokens of input a host adds to what a request has in it, at most: for a gateway or a server
// with a prompt of its own. It counts for the host and those below its name; one with a port is that port alone. Given more
// than once, each is for its own host. Defaults to 1,024, which covers the templates of models and tools, and 4,096 for
// api.venice.ai.
func WithHiddenInput(host string, tokens int64) Option {
	return func(o *options) error {
		name := strings.ToLower(host)
		if u, err := url.Parse("http://" + name); err != nil || name == "" || u.Host != name || u.Hostname() == "" {
			return fmt.Errorf("%w: WithHiddenInput: %.64q is no host", tenant.ErrInvalidOption, host)
		}
		if o.hidden == nil {
			o.hidden = make(map[string]int64)
		}
		n := o.hidden[name]
		if err := count(&n, "WithHiddenInput", tokens); err != nil {
			return err
		}
		o.hidden[name] = n
		return nil
	}
}

// knownHidden are hosts that add more than others: Venice has a prompt of its own.
var knownHidden = map[string]int64{"api.venice.ai": 4096}

// hiddenInput returns how many tokens a host adds to a request. The longest name counts.
func (o *options) hiddenInput(u *url.URL) int64 {
	if n, ok := o.hidden[strings.ToLower(u.Host)]; ok {
		return n
	}
	for name := strings.ToLower(u.Hostname()); name != ""; {
		if n, ok := o.hidden[name]; ok {
			return n
		}
		if n, ok := knownHidden[name]; ok {
			return n
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return hiddenInput
}

func count(to *int64, option string, tokens int64) error {
	if tokens < 1 || tokens > mostTokens {
		return fmt.Errorf("%w: %s: %d is not between 1 and 2^40", tenant.ErrInvalidOption, option, tokens)
	}
	*to = tokens
	return nil
}

// WithProvider names the provider behind hosts that are not known, such as a gateway or a server of one's own, as the
// price book names it. Defaults to none: the price is then that of the company that makes the model.
func WithProvider(name string) Option {
	return func(o *options) error {
		if name == "" || len(name) > 255 {
			return fmt.Errorf("%w: WithProvider: %.32q is empty or longer than 255 bytes", tenant.ErrInvalidOption, name)
		}
		o.provider = name
		return nil
	}
}

// WithoutIncludeUsage sends streams of chat completions and completions as they are: stream_options.include_usage is not
// added to those that do not state it. It is for servers that refuse a member that they do not know. The streams of one that
// states no usage unasked are then charged an estimate. Defaults to off: the usage is asked for, but not of Mistral, DeepSeek
// and Perplexity, which state it unasked, nor of Azure in versions of its API that refuse it.
func WithoutIncludeUsage() Option {
	return func(o *options) error {
		o.unasked = true
		return nil
	}
}

// RefuseUnmetered refuses requests that cannot be metered with [ErrUnmetered]. Defaults to off: they are passed on, and
// the ledger's observer is given a [tenant.UnmeteredEvent].
func RefuseUnmetered() Option {
	return func(o *options) error {
		o.refuseUnmetered = true
		return nil
	}
}

// RequireTenant refuses calls whose context has no tenant with [tenant.ErrTenantRequired]. Defaults to off: such a call
// is recorded without a tenant, and no limit counts it. So are a batch's results, in any case: their calls were made.
func RequireTenant() Option {
	return func(o *options) error {
		o.requireTenant = true
		return nil
	}
}
