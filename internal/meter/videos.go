package meter

import (
	"cmp"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

// videos reads jobs that make videos: OpenAI's and Azure's (*Videos*, OpenAI API reference), xAI's (*Video generation*, xAI
// docs; usage and duration as in its protocol buffers), OpenRouter's (its OpenAPI description) and Google's long-running
// operations (*Generate videos with Veo*, Gemini API docs; fetchPredictOperation on Vertex AI). What some of them do not
// say, how long the video is, their request has said.
type videos struct {
	reply
	endpoint  Endpoint
	id        string
	status    string
	operation bool
	over      bool // the operation
	length    int64
	size      string
	samples   int64
	spent     spending
}

// What the values of a job mean.
const (
	videoID field = 220 + iota
	videoName
	videoStatus
	videoDone
	videoLength
	videoSize
	videoSample
)

var videosSchema = schema(
	each(videoID, keep, "id", "request_id"),
	[]rule{
		{"name", videoName, keep}, {"done", videoDone, keep}, {"status", videoStatus, keep}, {"model", fieldModel, keep},
		{"error", fieldError, keep}, {"size", videoSize, keep},
	},
	each(videoLength, keep, "seconds", "n_seconds", "video.duration"),
	each(videoSample, keep, "response.generateVideoResponse.generatedSamples[]", "response.generatedVideos[]", "response.videos[]", "generations[]"),
	under("usage", costs),
)

func newVideos(e Endpoint) *videos { return &videos{reply: newReply(), endpoint: e, spent: noSpending} }

func (v *videos) schema() *node { return videosSchema }

func (v *videos) begin(f field) {
	if f == videoSample {
		v.samples++
		return
	}
	v.reply.begin(f)
}

func (v *videos) scalar(f field, s value) {
	switch f {
	case videoID:
		v.id = intern(v.id, s)
	case videoName: // the last part of it is the operation's own
		v.operation, v.id = true, string(s.text[strings.LastIndexByte(string(s.text), '/')+1:])
	case videoDone:
		v.over = s.isTrue()
	case videoStatus:
		v.status = strings.ToLower(string(s.text))
	case videoLength:
		if n, _, ok := scaled(s.text, 3); ok && n > 0 {
			v.length = n
		}
	case videoSize:
		v.size = intern(v.size, s)
	case fieldCost, fieldUpstreamCost, fieldMarketCost, fieldTicks, fieldOwnKey:
		v.implausible = !v.spent.read(f, s) || v.implausible
	default:
		v.reply.scalar(f, s)
	}
}

func (v *videos) result(to *Result) {
	v.cost = v.spent.stated(v.endpoint.Provider)
	ended, made := v.over, v.over
	if !v.operation {
		switch v.status {
		case "completed", "succeeded", "done":
			ended, made = true, true
		case "failed", "cancelled", "canceled", "expired":
			ended, v.failed = true, true
		}
	}
	if v.operation && v.over && v.samples == 0 { // what was filtered is not charged
		v.failed = true
	}
	v.known = v.id != "" || v.status != ""
	v.pending = !ended && !v.failed && v.known
	v.fill(to)
	to.ID = v.id
	to.Videos = v.samples
	if made && !v.failed && v.length > 0 {
		to.state(book.Usage{Units: units.Of(units.OutputVideo.With(resolution(v.size)...), v.length*max(v.samples, 1))})
	}
}

// askedVideo is what requests say: OpenAI's seconds and size, xAI's and OpenRouter's duration and resolution, Google's
// parameters.
var askedVideo = schema(
	each(askModel, keep, "model"),
	each(askLength, keep, "seconds", "n_seconds", "duration", "parameters.durationSeconds"),
	each(askSize, keep, "size", "resolution", "parameters.resolution"),
	each(askChoices, keep, "n", "n_variants", "parameters.sampleCount", "parameters.numberOfVideos"),
	each(askSilent, keep, "generate_audio", "parameters.generateAudio"),
)

// What is held for a video whose request does not say how long it is: what the provider makes then, or the longest.
const (
	soraLength   = 4_000 // milliseconds, where the request does not say it
	soraLongest  = 20_000
	grokLength   = 8_000
	otherLongest = 15_000
)

// videos bounds what a request for videos makes.
func (a *asked) videos(e Endpoint) units.Counts {
	words := resolution(a.size)
	if a.silent {
		words = append(words, "silent")
	}
	length := a.length
	switch {
	case length > 0:
	case e.Job != "": // it goes on with another one, whose length is known to the provider alone
		length = soraLongest
	case e.Provider == OpenAIProvider, e.Provider == Azure:
		length = soraLength
	case e.Provider == XAI, e.Provider == Google, e.Provider == Vertex:
		length = grokLength
	default:
		length = otherLongest
	}
	return units.Of(units.OutputVideo.With(words...), length*max(a.Choices, 1))
}

// video recognises what is posted to make a video.
func (e *Endpoint) video(p path) bool {
	last, before := p.back(0), p.back(1)
	model, verb, _ := cutLast(last, ":")
	e.Kind, e.Format = Video, Videos
	switch {
	case verb == "predictLongRunning":
		e.Model = model
	case verb == "fetchPredictOperation":
		e.Model, e.Retrieval = model, true
	case last == "videos" && before != "":
		e.Model = e.sora("sora-2")
	case before == "videos" && (last == "generations" || last == "edits" || last == "extensions"), p.back(2) == "videos" && last == "remix":
		e.Model = e.sora("sora-2-pro") // the dearest that it can be: it goes on with one that was made before
		if e.Provider != XAI {
			e.Job = cmp.Or(before, last)
		}
	case last == "jobs" && before == "generations" && p.back(2) == "video":
		e.Model = p.after("deployments")
	default:
		return false
	}
	return true
}

// sora is the model of a request that need not name it.
func (e *Endpoint) sora(model string) string {
	if e.Provider == OpenAIProvider {
		return model
	}
	return ""
}

// film recognises the request for a video, or for how far it is.
func (e *Endpoint) film(p path) bool {
	last, before := p.back(0), p.back(1)
	switch {
	case before == "videos" && last != "models" && last != "characters", before == "jobs" && p.back(2) == "generations" && p.back(3) == "video":
		e.Job = last
	case last == "content" && p.back(2) == "videos":
		e.Job, e.Download = before, true
	case before == "operations" && (p.google(e.Provider) || e.Provider == Vertex):
		e.Job = last
	default:
		return false
	}
	e.Kind, e.Format, e.Retrieval = Video, Videos, true
	return true
}
