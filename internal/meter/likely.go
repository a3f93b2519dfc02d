package meter

import "strings"

// Tokens of an image of input, at most, with the models that charge images by the token.
const (
	ImageInput = 5000
	FullImage  = 12_000 // of one that is seen at its own size, or changed
	DearImage  = 50_000 // of a model whose tokens cost little, and whose images do not
)

// ImageTokens returns how many tokens one image can be that a model is given. Full: it is seen at its own size, or changed.
func ImageTokens(model string, full bool) int64 {
	switch {
	case strings.Contains(model, "gpt-4o-mini"):
		return DearImage
	case full:
		return FullImage
	}
	return ImageInput
}

// LikelyBytes is how many bytes of text and JSON make one token, where the provider does not say how many it were.
const LikelyBytes = 3

// TextTokens returns how many tokens a text of output is likely to have cost.
func TextTokens(s string) int64 {
	var t text
	t.add([]byte(s))
	return t.tokens()
}
