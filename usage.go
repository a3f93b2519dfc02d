package tenant

import (
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/units"
)

// Usage is what one call consumed, in tokens of disjoint classes: no token is counted in two of them. Providers report
// sums that overlap (cached tokens inside the prompt's, reasoning inside the output's); whoever fills a Usage takes
// them apart first. Two usages are equal, by ==, where they count the same.
type Usage struct {
	// Input is plain input: neither read from nor written to a cache, neither audio nor image.
	Input int64 `gorm:"column:input_tokens"`

	// CacheRead is input served from the provider's prompt cache.
	CacheRead int64 `gorm:"column:cache_read_tokens"`

	// CacheReadAudio is audio served from that cache. It is not part of CacheRead.
	CacheReadAudio int64 `gorm:"column:cache_read_audio_tokens"`

	// CacheWrite5m is input written to a cache that lives five minutes, or as long as the shortest kind of the provider's
	// does; CacheWrite1h is input written to one that lives one hour, or as long as a longer kind does.
	CacheWrite5m int64 `gorm:"column:cache_write_5m_tokens"`
	CacheWrite1h int64 `gorm:"column:cache_write_1h_tokens"`

	// Output is plain output: neither reasoning, audio nor image.
	Output int64 `gorm:"column:output_tokens"`

	// Reasoning is output spent on thinking.
	Reasoning int64 `gorm:"column:reasoning_tokens"`

	InputAudio  int64 `gorm:"column:input_audio_tokens"`
	OutputAudio int64 `gorm:"column:output_audio_tokens"`
	InputImage  int64 `gorm:"column:input_image_tokens"`
	OutputImage int64 `gorm:"column:output_image_tokens"`

	// WebSearches counts searches that the provider charges by the piece. They are not tokens.
	WebSearches int64 `gorm:"column:web_searches"`

	// Units are what else is charged by the piece or by its length: images, seconds of audio, pages. They are not tokens: what
	// a provider states as tokens is counted there, and nothing is counted in both.
	Units units.Counts `json:",omitzero" gorm:"column:units"`
}

// InputTokens returns the sum of all input classes.
func (u Usage) InputTokens() int64 {
	return sum(u.Input, u.CacheRead, u.CacheReadAudio, u.CacheWrite5m, u.CacheWrite1h, u.InputAudio, u.InputImage)
}

// OutputTokens returns the sum of all output classes.
func (u Usage) OutputTokens() int64 {
	return sum(u.Output, u.Reasoning, u.OutputAudio, u.OutputImage)
}

// TotalTokens returns the sum of all classes: what token limits count.
func (u Usage) TotalTokens() int64 { return money.Add(u.InputTokens(), u.OutputTokens()) }

func sum(parts ...int64) int64 {
	var s int64
	for _, p := range parts {
		s = money.Add(s, p)
	}
	return s
}
