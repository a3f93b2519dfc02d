package meter

import (
	"encoding/binary"
	"math/bits"
	"net/http"
	"slices"

	"github.com/llmtenant/tenant/internal/book"
)

// text is an amount of text, in characters.
type text struct{ ascii, wide int64 }

// add counts eight bytes at a time.
func (t *text) add(p []byte) {
	const high = 0x8080808080808080 // the highest bit of each byte
	ascii, wide := len(p), 0
	for ; len(p) >= 8; p = p[8:] {
		w := binary.LittleEndian.Uint64(p)
		if w&high == 0 {
			continue
		}
		ascii -= bits.OnesCount64(w & high)
		wide += bits.OnesCount64(w & (w << 1) & high) // the first byte of a character has its two highest bits set
	}
	for _, c := range p {
		if c >= 0x80 {
			ascii--
		}
		if c >= 0xc0 {
			wide++
		}
	}
	t.ascii += int64(ascii)
	t.wide += int64(wide)
}

func (t *text) plus(o text) {
	t.ascii += o.ascii
	t.wide += o.wide
}

// tokens is what the text is likely to have cost: four letters a token where the script is Latin, one character a token
// where it is not.
func (t text) tokens() int64 { return (t.ascii+3)/4 + t.wide }

// reply is what the formats have in common, and what a format without a need of its own does with it.
type reply struct {
	model, id, tier string
	finish          []string
	output          text
	pieces          int64 // of output: in a stream, each is a token at least
	cost, upstream  int64
	ending          bool // the document that is read is the last of its stream
	ended           bool // and was read whole
	known           bool // something of the format was there
	pending         bool
	implausible     bool // a cost
	failed          bool // the provider says so in the reply
}

func newReply() reply { return reply{cost: notStated, upstream: notStated} }

const (
	notStated  = -1
	maxReasons = 8 // of finishing that are kept
)

func (r *reply) begin(f field)      { r.failed = r.failed || f == fieldError }
func (r *reply) end(field)          {}
func (r *reply) pipe(field, []byte) {}
func (r *reply) done()              { r.ended = r.ended || r.ending }

func (r *reply) text(_ field, t text) {
	if t == (text{}) {
		return
	}
	r.output.plus(t)
	r.pieces++
}

func (r *reply) scalar(f field, v value) {
	switch f {
	case fieldError:
		r.failed = r.failed || len(v.text) > 0
	case fieldModel:
		r.model = intern(r.model, v)
	case fieldID:
		r.id = intern(r.id, v)
	case fieldTier:
		r.tier = intern(r.tier, v)
	case fieldFinish:
		if len(r.finish) < maxReasons && !slices.Contains(r.finish, string(v.text)) {
			r.finish = append(r.finish, string(v.text))
		}
	}
}

// intern keeps the string that is there where the new one is the same, as it is in all chunks but the first, or empty.
func intern(old string, v value) string {
	if len(v.text) == 0 || old == string(v.text) {
		return old
	}
	return string(v.text)
}

// family is the reader of one wire format.
type family interface {
	handler
	// schema is what of a document the handler wants to see.
	schema() *node
	// result adds what was read to a result.
	result(*Result)
}

// A host is a family that is also told the headers of the reply, or of the messages in it.
type host interface{ header(http.Header) }

func (r *reply) fill(to *Result) {
	if r.implausible {
		r.cost = notStated
	}
	to.Read = r.known
	to.Model, to.ID, to.ServiceTier, to.FinishReasons = r.model, r.id, r.tier, r.finish
	to.ReportedCost, to.Pending = r.cost, r.pending
	to.Implausible = to.Implausible || r.implausible
	to.Failed = r.failed && r.output == (text{})
	to.OutputChars = r.output.ascii + r.output.wide
	to.OutputEstimate = max(r.output.tokens(), r.pieces)
}

// state books a usage that a provider has stated, unless it cannot be one call's.
func (to *Result) state(u book.Usage) {
	if !plausible(u) {
		to.Implausible = true
		return
	}
	to.Usage, to.Found = u, true
}
