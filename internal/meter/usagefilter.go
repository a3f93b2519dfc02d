package meter

import "bytes"

// UsageFilter takes the chunk that [AskForUsage] brings out of a stream of events: the one that has usage and no choices.
// All other bytes pass unchanged. An event is held until it shows that it is not that chunk, which its first choice does,
// or until it ends.
type UsageFilter struct {
	reply
	frame   *events
	held    []byte
	passing bool // the event is not the one
	blank   bool // nothing of the line has come yet
	choices bool
	usage   bool
}

const mostHeld = 64 << 10 // bytes of one event; the chunk has a few hundred

var filterSchema = schema([]rule{
	{"choices", fieldItems, keep}, {"choices[]", fieldItem, keep}, {"choices[].x", fieldNone, keep}, {"usage", fieldUsage, keep},
})

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
func (f *UsageFilter) Flush(dst []byte) []byte { return f.endEvent(dst) }

func (f *UsageFilter) endEvent(dst []byte) []byte {
	if f.choices && f.usage && !f.passing {
		f.held = f.held[:0]
	}
	f.passing, f.choices, f.usage = false, false, false
	return f.release(dst)
}

func (f *UsageFilter) release(dst []byte) []byte {
	dst = append(dst, f.held...)
	f.held = f.held[:0]
	return dst
}
