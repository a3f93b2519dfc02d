package pricing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/units"
)

// The powers of ten from a price of LiteLLM's to one per million of a unit.
const (
	perUnit     = 6
	perSecond   = 3 // of milliseconds
	perThousand = 3
)

// litellmUnit is a field with the price of a unit, for models of some modes. Of the fields for one unit the first one that has
// a price counts.
type litellmUnit struct {
	modes, field string
	unit         units.Unit
	shift        int32
}

var litellmUnits = []litellmUnit{
	{"audio_transcription", "input_cost_per_second", units.InputAudio, perSecond},
	{"audio_transcription", "output_cost_per_second", units.InputAudio, perSecond}, // of the audio all the same
	{"audio_speech", "input_cost_per_character", units.InputCharacters, perUnit},
	{"image_generation image_edit", "output_cost_per_image", units.OutputImages, perUnit},
	{"image_generation image_edit", "input_cost_per_image", units.OutputImages, perUnit}, // where it is the only price
	{"image_generation image_edit", "input_cost_per_pixel", units.OutputImages, perUnit},
	{"image_generation image_edit", "output_cost_per_pixel", units.OutputImages, perUnit},
	{"video_generation", "output_cost_per_video_per_second", units.OutputVideo, perSecond},
	{"video_generation", "output_cost_per_second", units.OutputVideo, perSecond},
	{"video_generation", "output_cost_per_second_1080p", units.OutputVideo.With("1080p"), perSecond},
	{"ocr", "ocr_cost_per_page", units.Pages, perUnit},
	{"ocr", "annotation_cost_per_page", units.Pages.With("annotated"), perUnit},
	{"rerank search vector_store", "input_cost_per_query", units.SearchUnits, perUnit},
	{"embedding", "input_cost_per_image", units.InputImages, perUnit},
	{"embedding", "input_cost_per_character", units.InputCharacters, perUnit},
	{"chat completion responses", "file_search_cost_per_1k_calls", units.FileSearches, perThousand},
	{"chat completion responses", "code_interpreter_cost_per_session", units.Containers, perUnit},
}

// fees are the units that a model charges beside its tokens. All others measure what is charged by tokens where the model
// has rates for them.
var fees = []units.Unit{units.FileSearches, units.Containers, units.InputImages}

// takes reports whether the row of a model is to have the price of a unit.
func (r *Row) takes(unit units.Unit, fields map[string]json.RawMessage, mode string, byTokens bool) bool {
	switch {
	case unit == units.InputImages:
		return r.picturesCounted(fields, mode)
	case mode == "embedding" && unit == units.InputCharacters: // Google charges texts by them, and states both
		return r.Provider == Vertex && fields["input_cost_per_image"] == nil
	default:
		return !byTokens || slices.Contains(fees, unit)
	}
}

// picturesCounted reports whether the images that a model embeds are counted, beside the tokens of text: others state no
// number of images, or take sound and video as well.
func (r *Row) picturesCounted(fields map[string]json.RawMessage, mode string) bool {
	return mode == "embedding" && (r.Provider == Cohere || r.Provider == Bedrock) && fields["input_cost_per_token"] != nil &&
		fields["input_cost_per_audio_per_second"] == nil && fields["input_cost_per_video_per_second"] == nil
}

// litellmSized is a name such as hd/1024-x-1024/dall-e-3, under which LiteLLM has what an image of one size and quality costs.
var litellmSized = regexp.MustCompile(`^(?:(hd|standard|low|medium|high)/)?(?:(\d{2,5})-x-(\d{2,5})|max-x-max)/(?:((?:\d{1,3}|max)-steps)/)?(.+)$`)

// litellmUnits gives the row the prices of units, and the name of the model without what they depend on.
func (r *Row) litellmUnits(fields map[string]json.RawMessage, mode string) error {
	var words []string
	var pixels decimal.Decimal
	if parts := litellmSized.FindStringSubmatch(r.Model); parts != nil && strings.HasPrefix(mode, "image_") {
		r.Model = parts[5]
		if prefix, rest, ok := strings.Cut(r.Model, "/"); ok && canonical(prefix) == r.Provider {
			r.Model = rest
		}
		words = []string{parts[1], parts[4]}
		if parts[2] != "" {
			words = append(words, parts[2]+"x"+parts[3])
			pixels = decimal.RequireFromString(parts[2]).Mul(decimal.RequireFromString(parts[3]))
		}
	}
	byTokens := fields["input_cost_per_token"] != nil && (r.Input != "" || r.Output != "" || r.OutputAudio != "" || r.OutputImage != "")
	for _, f := range litellmUnits {
		raw := fields[f.field]
		text, err := unitFigure(raw, f.shift)
		if err != nil {
			return fmt.Errorf("%s: %w", f.field, err)
		}
		if text == "" || !slices.Contains(strings.Fields(f.modes), mode) || !r.takes(f.unit, fields, mode, byTokens) {
			continue
		}
		if strings.HasSuffix(f.field, "_per_pixel") {
			if pixels.IsZero() {
				continue
			}
			text = perImage(raw, pixels)
		}
		unit := f.unit.With(words...)
		if r.Units[unit] != "" || text == "0" {
			continue
		}
		if r.Units == nil {
			r.Units = make(map[units.Unit]string)
		}
		r.Units[unit] = text
	}
	return nil
}

// perImage returns the price of an image from that of a pixel, which LiteLLM has rounded. Images are sold at whole tenths of a
// cent, cheap ones at hundredths.
func perImage(raw json.RawMessage, pixels decimal.Decimal) string {
	price := decimal.RequireFromString(string(raw)).Mul(pixels) // it was read by figure
	places := int32(3)
	if price.LessThan(decimal.New(1, -2)) {
		places = 4
	}
	return price.Round(places).Shift(perUnit).String()
}

// withTools are the models that can use the tools of OpenAI's responses, whoever serves them.
var withTools = regexp.MustCompile(`^(gpt-[4-9]|o[1-9](-|$)|codex-|computer-use-)`)

// share gives the models that can use it the price of a container, which LiteLLM lists as a model of its own.
func (l *list) share() {
	for key, container := range l.rows {
		price := container.Units[units.Containers]
		if key[1] != "container" || price == "" {
			continue
		}
		for other, r := range l.rows {
			if other[0] != key[0] || r.Input == "" || r.Units[units.Containers] != "" || !withTools.MatchString(other[1]) {
				continue
			}
			r.addUnits(Row{Units: map[units.Unit]string{units.Containers: price}})
			l.rows[other] = r
		}
	}
}

// tokensFirst takes from models that are charged by tokens what LiteLLM says, under other names, that an image of theirs comes
// to.
func (l *list) tokensFirst() {
	for _, r := range l.rows {
		if l.format == "LiteLLM" && r.Input != "" {
			maps.DeleteFunc(r.Units, func(unit units.Unit, _ string) bool { return !slices.Contains(fees, unit) })
		}
	}
}

// addUnits puts the prices of units of two rows for one model together. Those of the first one go before.
func (r *Row) addUnits(other Row) {
	if len(other.Units) == 0 {
		return
	}
	all := maps.Clone(other.Units)
	maps.Copy(all, r.Units)
	r.Units = all
	r.Input, r.Output = cmp.Or(r.Input, other.Input), cmp.Or(r.Output, other.Output)
}
