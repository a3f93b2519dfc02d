package pricing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/money"
)

// maxList is more than ten times the largest list there is, in bytes.
const maxList = 64 << 20

// Load reads a price list as LiteLLM (model_prices_and_context_window.json), models.dev (api.json) or genai-prices (data.json)
// publishes it; it sees from the content which one it is. The book has that list's prices and no others. Names of providers become those
// of this package, and the prefix of a provider is cut off the name of a model, as in "azure/gpt-4o".
//
// A list that is malformed, cut short, or has a price that cannot be one is refused whole, with an error that names the
// model and the field. Figures are read as decimals, never as floats; what is finer than a nano-dollar per million
// tokens, as the noise of others' floats is, is rounded half up.
//
// Prices by the image, the second, the character, the page or the search become the Units of a row, where the model is not
// charged by tokens. Left out are models whose price cannot be charged by a [tenant.Usage]: those that are charged by tokens
// and by what they are given beside them, and those listed at zero, which is how the lists say that they do not know. Free are the models of OpenRouter that are named so, with ":free", and all that run on one's own Ollama.
func Load(r io.Reader) (*Book, error) {
	b, err := load(r)
	if err != nil {
		return nil, fmt.Errorf("pricing: Load: %w", err)
	}
	return b, nil
}

func load(r io.Reader) (*Book, error) {
	limited := &io.LimitedReader{R: r, N: maxList + 1}
	l := list{rows: make(map[[2]string]listed)}
	buffered := bufio.NewReader(limited)
	each := l.readObject
	if first, _ := firstOf(buffered); first == '[' {
		each = l.readGenai
	}
	err := each(buffered)
	if limited.N <= 0 {
		return nil, fmt.Errorf("the list is larger than %d MB", maxList>>20)
	}
	if err != nil {
		return nil, err
	}
	if len(l.rows)+len(l.dated) == 0 {
		return nil, errors.New("there is no price in it; a list of LiteLLM's, of models.dev's or of genai-prices' is expected")
	}
	return l.book()
}

// firstOf returns the first byte that is no white space, and leaves it where it is.
func firstOf(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if !strings.ContainsRune(" \t\r\n", rune(b)) {
			return b, r.UnreadByte()
		}
	}
}

func (l *list) readObject(r io.Reader) error { return eachEntry(r, l.entry) }

// eachEntry calls f with the name and the value of each member of a JSON object, as they come.
func eachEntry(r io.Reader, f func(name string, value json.RawMessage) error) error {
	dec := json.NewDecoder(r)
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return fmt.Errorf("not a JSON object: %w", cut(err, "%v", start))
	}
	last := "the beginning"
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("after %s: %w", last, cut(err, ""))
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("%s: %w", name, cut(err, ""))
		}
		if seen[name] {
			return fmt.Errorf("%s: it is there twice", name)
		}
		seen[name] = true
		if err := f(name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		last = name
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("after %s: %w", last, cut(err, ""))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after %s: something follows the list", last)
	}
	return nil
}

// cut returns err, said as what it is where the list ends too early, or an error by the format where there is none.
func cut(err error, format string, args ...any) error {
	switch {
	case err == nil:
		return fmt.Errorf(format, args...)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the list is cut short: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// list collects the rows of a list.
type list struct {
	format string
	rows   map[[2]string]listed
	dated  []Row // of models with a price for each of some periods
}

type listed struct {
	Row
	rank string // the least one counts, where a list has a model twice
}

// entry reads one member of a list, whichever list it is.
func (l *list) entry(name string, value json.RawMessage) error {
	var probe struct {
		Provider json.RawMessage `json:"litellm_provider"`
		Models   json.RawMessage `json:"models"`
	}
	if value[0] != '{' {
		return nil // a note, such as the day of the list
	}
	if err := json.Unmarshal(value, &probe); err != nil {
		return err
	}
	format := ""
	switch {
	case probe.Provider != nil && probe.Models != nil:
		return errors.New("it is neither LiteLLM's nor models.dev's")
	case probe.Provider != nil:
		format = "LiteLLM"
	case probe.Models != nil:
		format = "models.dev"
	default:
		return nil // LiteLLM's rules for names, and whatever else the lists grow
	}
	if l.format != "" && l.format != format {
		return fmt.Errorf("it is %s's in a list of %s's", format, l.format)
	}
	l.format = format
	if format == "LiteLLM" {
		return l.litellm(name, value)
	}
	return l.modelsDev(name, value)
}

// add takes a row, unless it has no price that can be charged.
func (l *list) add(r Row, rank string) {
	free := r.Input == "0" && r.Output == "0" && len(r.Units) == 0
	if free && (r.Provider != OpenRouter || !strings.HasSuffix(r.Model, ":free")) || r.Model == Any {
		return
	}
	key := [2]string{r.Provider, r.Model}
	other, twice := l.rows[key]
	if !twice {
		l.rows[key] = listed{r, rank}
		return
	}
	first, second := listed{r, rank}, other
	if other.rank < rank {
		first, second = other, first
	}
	first.addUnits(second.Row)
	if first.agrees(second.Row) {
		first.Rates = second.with(first.Rates)
		if first.Tiers == nil && first.Services == nil {
			first.Tiers = second.Tiers
		}
		if first.Services == nil && slices.Equal(first.Tiers, second.Tiers) {
			first.Services = second.Services
		}
		if first.Uplifts == nil {
			first.Uplifts = second.Uplifts
		}
	}
	l.rows[key] = first
}

// agrees reports whether two rows for one model contradict each other nowhere, so that each can add to the other.
func (r Row) agrees(s Row) bool {
	for i, f := range r.fields(nil) {
		if other := *s.fields(nil)[i].text; *f.text != "" && other != "" && *f.text != other {
			return false
		}
	}
	return true
}

func (l *list) book() (*Book, error) {
	l.share()
	l.tokensFirst()
	rows := []Row{{Provider: Ollama, Model: Any, Rates: Rates{Input: "0", Output: "0"}}}
	for _, r := range l.rows {
		rows = append(rows, r.Row)
	}
	rows = append(rows, l.dated...)
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(a.Provider+"\x00"+a.Model, b.Provider+"\x00"+b.Model)
	})
	return newBook(rows, func(provider string) bool {
		p, known := providers[provider]
		return !known || p.host
	})
}

// figure reads a price in US dollars, and returns it times 10^shift with no more than nine decimals. It is empty where
// there is none, and where it is zero.
func figure(raw json.RawMessage, shift int32) (string, error) { return figureUpTo(raw, shift, maxRate) }

// unitFigure is figure for a unit: a video may cost more than a million tokens do.
func unitFigure(raw json.RawMessage, shift int32) (string, error) {
	return figureUpTo(raw, shift, 1000*maxRate)
}

func figureUpTo(raw json.RawMessage, shift int32, most int64) (string, error) {
	text := string(bytes.TrimSpace(raw))
	if text == "" || text == "null" {
		return "", nil
	}
	var n json.Number
	if text[0] == '"' || json.Unmarshal(raw, &n) != nil {
		return "", fmt.Errorf("%.40s is not a number", text)
	}
	if n, err := n.Int64(); err == nil && n == 0 {
		return "", nil
	}
	const least, greatest = -60, 20 // beyond these exponents no figure is a price, and arithmetic is slow
	if len(n) > 100 {
		return "", fmt.Errorf("%.40s... is not a price", n)
	}
	d, err := decimal.NewFromString(n.String())
	if err != nil || d.Exponent() < least || d.Exponent() > greatest {
		return "", fmt.Errorf("%.40s is not a price", n)
	}
	if d.IsNegative() {
		return "", fmt.Errorf("%.40s is negative", n)
	}
	nano, err := money.FromDecimal(d.Shift(shift).Round(nanoDecimals))
	if err != nil {
		return "", fmt.Errorf("%.40s: %w", n, err)
	}
	if nano > most {
		return "", fmt.Errorf("%.40s is more than anybody charges", n)
	}
	if nano == 0 {
		return "", nil
	}
	return dollars(nano), nil
}

const (
	nanoDecimals = 9
	maxRate      = 1_000_000 * money.Nano // a dollar per token
)

// dollars writes nano-dollars in US dollars, without zeros at the end.
func dollars(nano int64) string {
	text := strings.TrimPrefix(money.Format(nano), "$")
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
