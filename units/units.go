// Package units counts what a call is charged for beside its tokens: by the piece, by the page or by the second. A
// tenant.Usage and a tenant.Estimate hold such counts, and tenant.Rates hold what each costs.
package units

import "strings"

// Unit names what is counted. Its kind may be followed by what its price depends on, such as the size of an image, each
// after a plus sign and in alphabetical order, as in "output_images+1024x1024+hd"; see [Unit.With]. Beside those named
// here, a price list may have units of its own. It is made of lower case letters, digits, and the signs _ . - +.
type Unit string

// The kinds of units. What can be a fraction is counted in thousandths, so that every count is a whole number.
const (
	InputAudio       Unit = "input_audio_ms"     // milliseconds of audio that the model hears
	OutputAudio      Unit = "output_audio_ms"    // milliseconds of audio that it speaks
	InputVideo       Unit = "input_video_ms"     // milliseconds of video that it sees
	OutputVideo      Unit = "output_video_ms"    // milliseconds of video that it makes, by size as in "output_video_ms+1280x720"
	InputImages      Unit = "input_images"       // images that it sees
	OutputImages     Unit = "output_images"      // images that it makes, by size and quality as in "output_images+1024x1024+hd"
	InputCharacters  Unit = "input_characters"   // Unicode code points of text, where tokens are not counted
	OutputCharacters Unit = "output_characters"  // likewise
	InputVideoTokens Unit = "input_video_tokens" // tokens of video, where they are charged apart from all other input
	InputMessages    Unit = "input_messages"     // messages of text that are put into a session of speech
	Pages            Unit = "pages"              // of documents that are read; "pages+annotated" are those that are described too
	SearchUnits      Unit = "search_units"       // of a rerank: a query with some documents, 100 of them with Cohere
	FileSearches     Unit = "file_searches"      // calls of a tool that searches files which the provider keeps
	Containers       Unit = "container_sessions" // sandboxes that code ran in, by memory above a gigabyte as in "container_sessions+4g"
	MapGroundings    Unit = "map_groundings"     // prompts, or since Gemini 3 queries, that were answered with data of a map
)

// With returns the unit with more of what its price depends on. Upper case becomes lower case, and what a unit's name cannot
// have is left out of each word.
func (u Unit) With(words ...string) Unit {
	kind, parts := u.split()
	for _, w := range words {
		w = clean(w, false)
		if w == "" {
			continue
		}
		i := 0
		for i < len(parts) && parts[i] < w {
			i++
		}
		if i == len(parts) || parts[i] != w {
			parts = append(parts[:i], append([]string{w}, parts[i:]...)...)
		}
	}
	return Unit(strings.Join(append([]string{kind}, parts...), "+"))
}

// Valid reports whether the unit is written as [Unit.With] writes one.
func (u Unit) Valid() bool { return u != "" && u == u.tidy() }

// Kind returns the unit without what its price depends on.
func (u Unit) Kind() Unit {
	kind, _, _ := strings.Cut(string(u), "+")
	return Unit(kind)
}

// Measures reports whether a unit measures what other models are charged for by tokens: the length of audio and video, images,
// characters, pages and searches of a ranking. Others, such as the calls of a tool, are charged on top of tokens.
func (u Unit) Measures() bool {
	switch u.Kind() {
	case InputAudio, OutputAudio, InputVideo, OutputVideo, InputImages, OutputImages, InputCharacters, OutputCharacters, Pages, SearchUnits:
		return true
	}
	return false
}

// Covers reports whether what is said of a unit holds of another one: they are of the same kind, and the other has all
// that this one's price depends on.
func (u Unit) Covers(other Unit) bool {
	if u == other {
		return true
	}
	kind, parts := u.split()
	of, has := other.split()
	if kind != of {
		return false
	}
	for _, p := range parts {
		for len(has) > 0 && has[0] < p {
			has = has[1:]
		}
		if len(has) == 0 || has[0] != p {
			return false
		}
	}
	return true
}

func (u Unit) split() (kind string, parts []string) {
	kind, rest, _ := strings.Cut(string(u), "+")
	if rest == "" {
		return kind, nil
	}
	return kind, strings.Split(rest, "+")
}

// tidy returns the unit in the one form that it has.
func (u Unit) tidy() Unit {
	kind, parts := u.split()
	return Unit(clean(kind, true)).With(parts...)
}

// clean leaves out what a part of a name cannot have.
func clean(s string, kind bool) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}, s)
	if kind && s == "" {
		return "unknown"
	}
	return s[:min(len(s), longest)]
}

// longest is the most of a part of a name that is kept.
const longest = 32
