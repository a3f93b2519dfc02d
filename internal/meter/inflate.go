package meter

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
)

const (
	mostExpansion = 256     // times the compressed size, on the whole; text and JSON reach a tenth of that
	freeExpansion = 1 << 20 // bytes that may come out of however little
)

// inflater decompresses a copy of the body. The standard decoders pull, so they run in a goroutine of their own, which
// takes each piece before write returns, and ends in close.
type inflater struct {
	in   *io.PipeWriter
	done chan struct{}
}

func newInflater(encoding string, to func([]byte)) *inflater {
	r, w := io.Pipe()
	i := &inflater{in: w, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		inflate(encoding, r, to)
		_ = r.Close() // from here on, writes fail at once
	}()
	return i
}

func (i *inflater) write(p []byte) { _, _ = i.in.Write(p) }

func (i *inflater) close() {
	_ = i.in.Close()
	<-i.done
}

func inflate(encoding string, r io.Reader, to func([]byte)) {
	in := &counted{r: r}
	buffered := bufio.NewReader(in)
	var out io.Reader
	var err error
	switch head, _ := buffered.Peek(2); {
	case len(head) < 2:
		return
	case head[0] == 0x1f && head[1] == 0x8b:
		out, err = gzip.NewReader(buffered)
	case encoding != "deflate":
		out, in.n = buffered, 1<<62 // the header is left over from what a proxy has decoded
	case head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0:
		out, err = zlib.NewReader(buffered)
	default:
		out = flate.NewReader(buffered)
	}
	if err != nil {
		return
	}
	buf := make([]byte, 16<<10)
	for total := int64(0); total <= freeExpansion || total/mostExpansion <= in.n; {
		n, err := out.Read(buf)
		to(buf[:n])
		total += int64(n)
		if err != nil {
			return
		}
	}
}

// counted counts what was read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
