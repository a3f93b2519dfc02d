package meter

import (
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
)

// A source is who states a usage.
type source struct {
	Endpoint
	model  string // as the reply names it, else as the URL does
	claude bool   // Anthropic has counted
	beside bool   // the reply says that its cache is beside the prompt
}

// isClaude reports whether a model is one of Anthropic's, whose own usage has the cache beside the input. Gateways shorten
// their names.
func isClaude(model string) bool {
	model = strings.ToLower(model)
	return slices.ContainsFunc([]string{"claude", "anthropic", "sonnet", "haiku", "opus"}, func(part string) bool {
		return strings.Contains(model, part)
	})
}

// parts are a set of what can lie inside of a prompt or a completion, or beside them.
type parts uint8

const (
	reasoningPart parts = 1 << iota
	readPart            // of the cache
	writePart
	audioPart // of the input
	imagePart // likewise
	connectorPart
	soundPart // of the output
	picturePart

	cacheParts = readPart | writePart
	ofOutput   = reasoningPart | soundPart | picturePart
)

// explanations are the sets of parts that can be what a total has beyond prompt and completion. The first that has its
// size is taken.
var explanations = [...]parts{
	reasoningPart, cacheParts, audioPart, connectorPart, readPart, writePart, soundPart, imagePart, picturePart,
	reasoningPart | cacheParts, reasoningPart | readPart, reasoningPart | writePart, reasoningPart | audioPart,
	cacheParts | audioPart, readPart | audioPart, reasoningPart | cacheParts | audioPart, audioPart | soundPart, imagePart | picturePart,
	connectorPart | cacheParts, connectorPart | readPart, connectorPart | reasoningPart,
}

// sums are the totals of a usage, and the sizes of the parts.
type sums struct {
	prompt, completion, total                int64
	hasTotal                                 bool
	reasoning, read, write, audio, connector int64
	image, sound, picture                    int64
}

func (s *sums) size(of parts) (n int64) {
	for _, p := range [...]struct {
		part parts
		size int64
	}{{reasoningPart, s.reasoning}, {readPart, s.read}, {writePart, s.write}, {audioPart, s.audio}, {connectorPart, s.connector},
		{imagePart, s.image}, {soundPart, s.sound}, {picturePart, s.picture}} {
		if of&p.part != 0 {
			n += p.size
		}
	}
	return n
}

// totals are the prompt and the completion as they are stated. One that is missing is what the total leaves of it.
func (t *tally) totals(k Kind) (s sums, ok bool) {
	s.prompt, s.completion, s.total = t.n[fieldPrompt], t.n[fieldCompletion], t.n[fieldTotal]
	s.hasTotal = t.has(fieldTotal) && s.total >= s.prompt+s.completion
	left := func(stated int64) int64 { return max(s.total-stated, 0) }
	switch {
	case k.inputOnly() && t.any(fieldPrompt, fieldTotal): // Voyage states the total alone
		s.prompt = max(s.prompt, left(s.completion))
	case t.has(fieldPrompt, fieldCompletion):
	case t.has(fieldPrompt, fieldTotal):
		s.completion = left(s.prompt)
	case t.has(fieldCompletion, fieldTotal):
		s.prompt = left(s.completion)
	default:
		return s, false
	}
	return s, true
}

// apart moves what lies beside the prompt and the completion into them, so that each part is inside of one of them. The
// table in docs/usage.md says how that is decided: by what the numbers add up to, and where they leave it open, by who
// states them.
func (s *sums) apart(of source) {
	hidden := int64(0)
	if s.hasTotal {
		hidden = s.total - s.prompt - s.completion
	}
	switch beside, known := s.explain(hidden, of); {
	case hidden > 0 && known:
		s.put(beside)
	case hidden > 0:
		s.unexplained(hidden, of)
	default:
		s.put(s.habits(of))
	}
}

// explain returns the parts whose size is that of what a total has beyond prompt and completion.
func (s *sums) explain(hidden int64, of source) (beside parts, known bool) {
	first := reasoningPart // Gemini's compatible API hides it, whatever else is as large
	if of.claude {
		first = cacheParts
	}
	if s.size(first) == hidden {
		return first, true
	}
	for _, set := range explanations {
		if of.Provider != Google && s.size(set) == hidden {
			return set, true
		}
	}
	return 0, false
}

// put adds parts that lie beside to what they are to be inside of.
func (s *sums) put(beside parts) {
	s.completion += s.size(beside & ofOutput)
	s.prompt += s.size(beside &^ ofOutput)
}

// unexplained places what no parts add up to. What cannot be inside of the prompt is outside; of reasoning that is stated
// nothing more is hidden; Anthropic's models hide nothing but input, Mistral's and transcriptions sound; all others hide
// reasoning.
func (s *sums) unexplained(hidden int64, of source) {
	for _, p := range [...]parts{reasoningPart, readPart, writePart, audioPart} {
		n := s.size(p)
		fits := n > 0 && n <= hidden
		switch p {
		case reasoningPart:
		case audioPart:
			fits = fits && n > s.prompt && of.Provider != Google
		default:
			fits = fits && (n > s.prompt || of.claude) && of.Provider != Google
		}
		if fits {
			s.put(p)
			hidden -= n
		}
	}
	switch {
	case of.claude, s.reasoning > 0, s.prompt == 0: // a prompt of zero is one that is not known
		s.prompt += hidden
	case of.Kind == Transcription || of.Provider == Mistral:
		s.prompt += hidden
		s.audio = max(s.audio, hidden)
	default:
		s.completion += hidden
		s.reasoning = hidden
	}
}

// habits returns what lies beside although no total shows it.
func (s *sums) habits(of source) (beside parts) {
	switch {
	case of.Provider == Vercel && of.Format != Responses:
		beside |= reasoningPart
	case s.reasoning > s.completion && (!s.hasTotal || of.Provider == OpenRouter): // counted by another tokenizer
		beside |= reasoningPart
	}
	if of.beside || of.claude && s.size(cacheParts) > s.prompt {
		beside |= cacheParts
	}
	return beside
}

// openAI takes a usage apart.
func (t *tally) openAI(of source) (u book.Usage, ok bool) {
	s, ok := t.totals(of.Kind)
	if !ok {
		return u, false
	}
	short, long := t.writes()
	s.read, s.write, s.audio, s.connector = t.reads(), short+long, t.n[fieldAudioIn], t.n[fieldConnector]
	s.image, s.sound, s.picture = t.n[fieldImageIn], t.n[fieldAudioOut], t.n[fieldImageOut]
	research := of.Provider == Perplexity && t.has(fieldCitation) // leaves reasoning and citations out of its total
	switch s.reasoning = t.n[fieldReasoning]; {
	case of.Kind.inputOnly():
		s.reasoning = 0
	case research:
		s.put(reasoningPart)
	default:
		s.apart(of)
	}

	prompt, completion := s.prompt, s.completion
	cached := take(&prompt, s.read)
	u.CacheReadAudio = take(&cached, t.n[fieldAudioCached])
	u.CacheRead = cached
	u.CacheWrite1h = take(&prompt, long)
	u.CacheWrite5m = take(&prompt, short)
	u.InputAudio = take(&prompt, max(s.audio-t.n[fieldAudioCached], 0))
	u.InputImage = take(&prompt, max(t.n[fieldImageIn]-t.n[fieldImageCached], 0))
	u.Input = prompt + t.n[fieldCitation]
	u.Reasoning = take(&completion, s.reasoning)
	u.OutputAudio = take(&completion, t.n[fieldAudioOut])
	u.OutputImage = take(&completion, t.n[fieldImageOut])
	u.Output = completion

	// What these make is of one kind, where no details say otherwise.
	switch {
	case of.Kind == Images && !t.any(fieldImageOut, fieldTextOut):
		u.Output, u.OutputImage = 0, u.Output
	case of.Kind == Speech && !t.any(fieldAudioOut, fieldTextOut):
		u.Output, u.OutputAudio = 0, u.Output
	case of.Kind == Transcription && !t.has(fieldAudioIn) && s.audio == 0:
		u.Input, u.InputAudio = 0, u.Input
	}
	return u, true
}
