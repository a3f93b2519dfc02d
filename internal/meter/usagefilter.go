package meter

import "bytes"

// UsageFilter takes the chunk that [AskForUsage] brings out of a stream of events: the one that has usage and no choices,
// and nothing after it but the end mark. llama.cpp has one for each answer, wherever that ends. All other bytes pass
// unchanged. An event is held until it shows that it is not that chunk, which its first choice does, or until it ends; the
// chunk until the stream goes on, or ends.
type UsageFilter struct {
	reply
	frame   *events
	held    []byte // of the event that is read
	chunk   []byte // an event that is the one if nothing follows
	after   []byte // what followed it, and decides nothing: comments
	passing bool   // the event is not the one
	blank   bool   // nothing of the line has come yet
	data    bool   // the event has data
	choices bool
	usage   bool
	more    bool // the event says something else
	each    bool // the server is llama.cpp
}

const mostHeld = 64 << 10 // bytes of one event; the chunk has a few hundred

var filterSchema = schema([]rule{
	{"choices", fieldItems, keep}, {"choices[]", fieldItem, keep}, {"choices[].x", fieldNone, keep}, {"usage", fieldUsage, keep},
	{"system_fingerprint", fieldBuild, keep}, {"timings", fieldTimings, keep}, {"error", fieldError, keep},
}, each(fieldError, keep, "citations", "search_results", "content", "delta", "message"))

// NewUsageFilter returns a filter for one stream.
func NewUsageFilter() *UsageFilter {
	f := &UsageFilter{blank: true}
	f.frame = &events{scanner: newScanner(filterSchema, f)}
	return f
}

func (f *UsageFilter) begin(is field) {
	switch is {
	case fieldItems:
		f.choices = true
	case fieldItem:
		f.passing = true
	case fieldUsage:
		f.usage = true
	case fieldTimings:
		f.each = true
	case fieldError:
		f.more = true
	}
}

func (f *UsageFilter) scalar(is field, v value) {
	switch is {
	case fieldBuild:
		f.each = f.each || isBuild(v.text)
	case fieldError:
		f.more = true
	}
}

// Append appends to dst what may pass of the stream, of which p is the next piece, and returns it.
func (f *UsageFilter) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		line, ends := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, ends = p[:i+1], true
		}
		p = p[len(line):]
		f.frame.write(line)
		f.data = f.data || f.frame.begun
		if f.passing = f.passing || len(f.held)+len(line) > mostHeld; f.passing {
			dst = append(f.release(dst), line...)
		} else {
			f.held = append(f.held, line...)
		}
		if !ends {
			f.blank = f.blank && len(bytes.Trim(line, "\r")) == 0
			continue
		}
		if f.blank && len(bytes.Trim(line, "\r\n")) == 0 {
			dst = f.endEvent(dst)
		}
		f.blank = true
	}
	return dst
}

// Flush appends what is held of a stream that has ended.
func (f *UsageFilter) Flush(dst []byte) []byte {
	dst = f.endEvent(dst)
	return f.over(dst)
}

func (f *UsageFilter) endEvent(dst []byte) []byte {
	switch {
	case f.choices && f.usage && !f.more && !f.passing && f.each:
		f.held = f.held[:0]
	case f.choices && f.usage && !f.more && !f.passing:
		dst = f.goesOn(dst)
		f.chunk, f.held = append(f.chunk, f.held...), f.held[:0]
	case f.data:
		dst = f.release(dst)
	case f.frame.marked:
		dst = f.release(f.over(dst))
	case len(f.chunk) > 0 && len(f.chunk)+len(f.after)+len(f.held) <= mostHeld:
		f.after, f.held = append(f.after, f.held...), f.held[:0]
	default:
		dst = f.release(dst)
	}
	f.passing, f.choices, f.usage, f.more, f.data = false, false, false, false, false
	return dst
}

// goesOn lets a chunk pass that was not the last: nobody has asked for it.
func (f *UsageFilter) goesOn(dst []byte) []byte {
	dst = append(dst, f.chunk...)
	f.chunk = f.chunk[:0]
	return f.over(dst)
}

// over takes the chunk out, after which nothing comes.
func (f *UsageFilter) over(dst []byte) []byte {
	dst = append(dst, f.after...)
	f.chunk, f.after = f.chunk[:0], f.after[:0]
	return dst
}

func (f *UsageFilter) release(dst []byte) []byte {
	dst = append(f.goesOn(dst), f.held...)
	f.held = f.held[:0]
	return dst
}
