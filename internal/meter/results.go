package meter

import (
	"bytes"
	"cmp"
	"net/http"
	"strconv"
	"strings"
)

// Line is one call among the results of a batch.
type Line struct {
	// Key names the call, alike however often and by whatever request its results are fetched: the provider's own id of
	// it, or what tells it from the others of the batch that the URL names.
	Key string

	// Result is what its reply says. It is complete.
	Result Result
}

// Results reads the results of a batch while they pass: one document a line, or the elements of an array in one document.
// It tells of each call that states its usage once its last byte was written. What has failed states none. Like [Reader],
// it takes bodies in pieces of any size and with lines of any length in bounded memory, and is for one goroutine at a time.
//
// What a [File] holds is not known before it is read. It has results if its first line has the form of one, a name with a
// response or an error; otherwise no more of the file is read.
type Results struct {
	reader   *lineReader
	frame    frame
	inflater *inflater
	opaque   bool
}

// NewResults returns a reader of the reply to a request to an endpoint whose kind is [BatchResults] or [File], given the
// reply's status and header. It calls each for every call that has a usage.
func NewResults(e Endpoint, status int, header http.Header, each func(Line)) *Results {
	l := &lineReader{endpoint: e, each: each, index: -1}
	l.undecided = e.Kind == File && status != http.StatusPartialContent // which begins anywhere
	r := &Results{reader: l}
	root := l.format()
	s := newScanner(root, l)
	if root.field == lineCall {
		r.frame = &resultLines{scanner: s, reader: l}
	} else {
		r.frame = documents{s}
	}
	switch encoding := strings.ToLower(strings.TrimSpace(header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip", "deflate":
		r.inflater = newInflater(encoding, r.frame.write)
	default:
		r.opaque = true
	}
	return r
}

// Write reads a piece of the body. It takes all of it, keeps none of it, and returns no error.
func (r *Results) Write(p []byte) (int, error) {
	switch {
	case r.opaque:
	case r.inflater != nil:
		r.inflater.write(p)
	default:
		r.frame.write(p)
	}
	return len(p), nil
}

// Close ends the reading; ended reports whether the body was written to its end. It reports whether all that the batch may
// have cost is known: not where its results were cut short, or one of them cannot be read, has no name, or states no usage
// although it has succeeded.
func (r *Results) Close(ended bool) bool {
	if r.inflater != nil {
		r.inflater.close()
	}
	whole := r.frame.close()
	_, lines := r.frame.(*resultLines)
	switch l := r.reader; {
	case r.opaque || l.odd:
		return false
	case l.formed:
		return whole && ended
	default: // a file without results, or a batch that has none yet
		return l.endpoint.Kind == File || !lines
	}
}

// What the values of a line mean, beside those of the reply in it.
const (
	lineCall field = 200 + iota
	lineCalls
	lineID
	lineName
	lineReply
	lineRequest
	lineStatus
	lineError
	lineOutcome
)

// The schemas of the results of batches.
var (
	openAIResults = replyAt(openAISchema, "response.body", openAILine())
	mistralJob    = replyAt(openAISchema, "outputs[].response.body", under("outputs[]", openAILine()))
	routedPage    = beside(
		replyAt(openAISchema, "data[].response.body", under("data[]", openAILine())),
		replyAt(openAISchema, "results[].response.body", under("results[]", openAILine())), nil)
	xaiPage = replyAt(openAISchema, "results[].batch_result.response.*", []rule{ // the name says what kind of call it is
		{"results[]", lineCall, keep}, {"results[].batch_request_id", lineName, measure},
		{"results[].batch_result.response", lineReply, keep}, {"results[].batch_result.error", lineError, keep},
	})
	anthropicResults = replyAt(anthropicSchema, "result.message", []rule{
		{"", lineCall, keep}, {"custom_id", lineName, measure}, {"result", lineReply, keep}, {"result.type", lineOutcome, keep},
	})
	geminiResults = replyAt(geminiSchema, "response", geminiLine())
	geminiBatch   = func() *node {
		at := func(output string) *node {
			output += ".inlinedResponses.inlinedResponses"
			return replyAt(geminiSchema, output+"[].response", under(output, []rule{{"", lineCalls, keep}}), under(output+"[]", geminiLine()))
		}
		root := at("response")
		root.members["metadata"] = at("metadata.output").members["metadata"]
		return root
	}()
)

func openAILine() []rule {
	return []rule{
		{"", lineCall, keep}, {"id", lineID, keep}, {"custom_id", lineName, measure}, {"error", lineError, keep},
		{"response", lineReply, keep}, {"response.status_code", lineStatus, keep}, {"response.request_id", lineRequest, keep},
	}
}

func geminiLine() []rule {
	return []rule{{"", lineCall, keep}, {"response", lineReply, keep}, {"error", lineError, keep}}
}

// replyAt compiles rules into a schema that has another one, of the reply, at a path.
func replyAt(reply *node, path string, lists ...[]rule) *node {
	root := schema(lists...)
	at := root.at(path)
	at.members, at.elements, at.rest = reply.members, reply.elements, reply.rest
	return root
}

// lineReader reads one call of a batch after the other.
type lineReader struct {
	endpoint Endpoint
	each     func(Line)
	reply    family // of the call that is read, or was read last
	line     lineHead
	index    int // of the call in its file or list
	calls    int // that have ended, or what has their place

	undecided bool // whether the file has results, which its first line says
	ordinary  bool // the file has none
	formed    bool // there was a result
	odd       bool // there was one that may have cost what is not known
}

// lineHead is what a line says around the reply.
type lineHead struct {
	id, name, request      string
	named, replied, failed bool
}

// format returns where the calls are in the body.
func (l *lineReader) format() *node {
	e := l.endpoint
	switch {
	case e.Format == Anthropic:
		return anthropicResults
	case e.Format == Gemini && e.Kind == File:
		return geminiResults
	case e.Format == Gemini:
		return geminiBatch
	case e.Kind == File:
		return openAIResults
	case e.Provider == XAI:
		return xaiPage
	case e.Provider == OpenRouter:
		return routedPage
	default:
		return mistralJob
	}
}

func (l *lineReader) begin(f field) {
	switch f {
	case lineCall:
		l.reply, l.line = newFamily(l.endpoint), lineHead{}
		l.index++
	case lineCalls:
		l.index = -1
	case lineReply:
		l.line.replied = true
	case lineError:
		l.line.failed = true
	default:
		l.reply.begin(f)
	}
}

func (l *lineReader) end(f field) {
	switch f {
	case lineCall:
		l.reply.done()
		l.call()
		l.calls++
	case lineCalls, lineReply, lineError:
	default:
		l.reply.end(f)
	}
}

func (l *lineReader) scalar(f field, v value) {
	h := &l.line
	switch f {
	case lineID:
		h.id = string(v.text)
	case lineName:
		if h.named = v.quoted; len(v.text) < maxToken { // else there may be more of it
			h.name = string(v.text)
		}
	case lineRequest:
		h.request = string(v.text)
	case lineOutcome:
		h.replied, h.failed = true, !v.is("succeeded")
	case lineStatus:
		n, _, ok := scaled(v.text, 0)
		h.failed = h.failed || ok && n >= http.StatusBadRequest
	case lineError:
		h.failed = true
	case lineCall, lineCalls, lineReply:
	default:
		l.reply.scalar(f, v)
	}
}

func (l *lineReader) text(f field, t text) {
	if f != lineName {
		l.reply.text(f, t)
	}
}

func (l *lineReader) pipe(f field, p []byte) { l.reply.pipe(f, p) }
func (l *lineReader) done()                  {}

// call ends a call.
func (l *lineReader) call() {
	h := &l.line
	if l.ordinary { // however much of the line was read at once
		return
	}
	if !(h.replied || h.failed) || !h.named && l.endpoint.Format != Gemini {
		l.not()
		return
	}
	l.formed, l.undecided = true, false
	r := Result{Complete: true, Provider: l.endpoint.Provider}
	l.reply.result(&r)
	r.RequestID = cmp.Or(h.request, r.ID)
	switch key := l.key(); {
	case (r.Found || r.ReportedCost > 0) && !r.Implausible && key != "":
		l.each(Line{Key: key, Result: r})
	case r.Found, r.Implausible, !h.failed:
		l.odd = true
	}
}

// not says of a line that it is no result.
func (l *lineReader) not() {
	l.ordinary = l.undecided
	l.odd = l.odd || l.formed || l.endpoint.Kind != File
}

// key names a call. OpenAI's ids, which others have taken over, name it whatever file it is in; others may be those of a
// line alone. Google's batches keep the order of their requests, and their keys need not differ.
func (l *lineReader) key() string {
	h := &l.line
	switch {
	case strings.HasPrefix(h.id, "batch_req_"):
		return h.id
	case l.endpoint.Batch == "":
		return ""
	case l.endpoint.Format == Gemini:
		return l.endpoint.Batch + "/" + strconv.Itoa(l.index)
	case h.name == "":
		return ""
	default:
		return l.endpoint.Batch + "/" + h.name
	}
}

// resultLines is one result a line. A line that cannot be read does not spoil the next.
type resultLines struct {
	scanner *scanner
	reader  *lineReader
	some    bool // the line has bytes
	foreign bool // and is no object
	calls   int  // before the line
}

func (l *resultLines) write(p []byte) {
	for len(p) > 0 && !l.reader.ordinary {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.part(p)
			return
		}
		l.part(p[:end])
		l.next()
		p = p[end+1:]
	}
}

func (l *resultLines) part(p []byte) {
	if !l.some {
		p = bytes.TrimLeft(p, " \t\r")
		l.some = len(p) > 0
		l.foreign = l.some && p[0] != '{'
	}
	if !l.foreign {
		l.scanner.write(p)
	}
	if l.reader.undecided && (l.foreign || l.scanner.state == failed) {
		l.reader.not()
	}
}

// next ends a line.
func (l *resultLines) next() {
	if l.some && (l.foreign || l.reader.calls == l.calls || !l.scanner.idle()) {
		l.reader.not()
	}
	l.scanner.reset()
	l.some, l.foreign, l.calls = false, false, l.reader.calls
}

func (l *resultLines) close() bool {
	l.next()
	return true
}
