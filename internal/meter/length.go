package meter

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// A recording of which nothing is known has one byte for a millisecond, at least: the least that speech is coded in. One that
// is not compressed has at most some two hundred.
const (
	leastByte = 1
	mostBytes = 192
)

// heardIn returns how many milliseconds of audio a request has in its JSON.
func heardIn(body []byte) int64 {
	var asked struct {
		Audio struct {
			Data []byte `json:"data"`
		} `json:"input_audio"`
	}
	if json.Unmarshal(body, &asked) != nil || len(asked.Audio.Data) == 0 { // whatever else it is
		return max(int64(len(body))/leastByte, 1)
	}
	return lengthOf(asked.Audio.Data)
}

// lengthOf returns how many milliseconds of audio a file has: what its header says, or at most what so many bytes can hold.
func lengthOf(file []byte) int64 {
	n := int64(len(file))
	for _, read := range []func([]byte) (units, perSecond uint64){wav, flac, ogg, mp4, mp3} {
		of, rate := read(file)
		if of == 0 || rate == 0 {
			continue
		}
		high, low := bits.Mul64(of, 1000)
		if high >= rate {
			continue
		}
		ms, rest := bits.Div64(high, low, rate)
		if rest > 0 {
			ms++
		}
		if ms <= uint64(maxCount) {
			return max(int64(ms), n/mostBytes)
		}
	}
	return max(n/leastByte, 1)
}

// wav reads a RIFF file. It may have been written without knowing its length, so that only the rate is believed.
func wav(f []byte) (n, perSecond uint64) {
	const format = 16 // bytes of a chunk that says it
	if len(f) < 12 || string(f[:4]) != "RIFF" || string(f[8:12]) != "WAVE" {
		return 0, 0
	}
	i := bytes.Index(f[:min(len(f), 1<<16)], []byte("fmt "))
	if i < 0 || len(f) < i+8+format {
		return 0, 0
	}
	return uint64(len(f)), uint64(binary.LittleEndian.Uint32(f[i+16:]))
}

func flac(f []byte) (samples, perSecond uint64) {
	if len(f) < 26 || string(f[:4]) != "fLaC" {
		return 0, 0
	}
	v := binary.BigEndian.Uint64(f[18:]) // 20 bits of the rate, 3 and 5 of others, 36 of the samples
	return v & (1<<36 - 1), v >> 44
}

// ogg reads how far its last page goes.
func ogg(f []byte) (samples, perSecond uint64) {
	if len(f) < 64 || string(f[:4]) != "OggS" {
		return 0, 0
	}
	head := f[:min(len(f), 1<<12)]
	switch i := bytes.Index(head, []byte("\x01vorbis")); {
	case i >= 0 && len(head) >= i+16:
		perSecond = uint64(binary.LittleEndian.Uint32(head[i+12:]))
	case bytes.Contains(head, []byte("OpusHead")):
		perSecond = 48_000
	}
	last := bytes.LastIndex(f, []byte("OggS"))
	if len(f) < last+14 {
		return 0, 0
	}
	return binary.LittleEndian.Uint64(f[last+6:]), perSecond
}

// mp4 reads the header of a movie, which audio in it has too.
func mp4(f []byte) (n, perSecond uint64) {
	if len(f) < 12 || string(f[4:8]) != "ftyp" {
		return 0, 0
	}
	i := bytes.Index(f, []byte("mvhd"))
	switch {
	case i < 0 || len(f) < i+36:
		return 0, 0
	case f[i+4] == 1:
		return binary.BigEndian.Uint64(f[i+28:]), uint64(binary.BigEndian.Uint32(f[i+24:]))
	default:
		return uint64(binary.BigEndian.Uint32(f[i+20:])), uint64(binary.BigEndian.Uint32(f[i+16:]))
	}
}

var (
	mp3Rates = [...]uint64{44_100, 48_000, 32_000}
	mp3Bits  = [2][15]uint64{ // kilobits a second of layer III, of version 1 and of those after it
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
	}
)

// mp3 reads the first frame: the number of frames, where it says it, or else the bits that each second has.
func mp3(f []byte) (n, perSecond uint64) {
	if len(f) > 10 && string(f[:3]) == "ID3" {
		size := int(f[6]&0x7f)<<21 | int(f[7]&0x7f)<<14 | int(f[8]&0x7f)<<7 | int(f[9]&0x7f)
		f = f[min(10+size, len(f)):]
	}
	if len(f) < 4 || f[0] != 0xff || f[1]&0xe0 != 0xe0 || f[1]>>1&3 != 1 {
		return 0, 0
	}
	version, rate, frame := f[1]>>3&3, f[2]>>2&3, uint64(1152)
	if version == 1 || rate == 3 || f[2]>>4 == 15 {
		return 0, 0
	}
	later, hertz := 0, mp3Rates[rate]
	if version != 3 {
		later, hertz, frame = 1, hertz/2, 576
		if version == 0 {
			hertz /= 2
		}
	}
	head := f[:min(len(f), 200)]
	for _, mark := range []string{"Xing", "Info"} {
		if i := bytes.Index(head, []byte(mark)); i > 0 && len(head) >= i+12 && head[i+7]&1 == 1 {
			return uint64(binary.BigEndian.Uint32(head[i+8:])) * frame, hertz
		}
	}
	return uint64(len(f)) * 8, mp3Bits[later][f[2]>>4] * 1000
}
