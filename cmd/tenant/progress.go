package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress tells how far something is: in one line of a terminal, and in a line now and then elsewhere.
type progress struct {
	a        *app
	terminal bool
	next     time.Time
	open     bool // a line of the terminal is
}

func (a *app) progress() *progress {
	f, ok := a.problems.w.(*os.File)
	return &progress{a: a, terminal: ok && term.IsTerminal(int(f.Fd())), next: time.Now().Add(time.Second)}
}

func (p *progress) tell(format string, args ...any) {
	now := time.Now()
	if p.a.Quiet || now.Before(p.next) {
		return
	}
	if p.terminal {
		p.next, p.open = now.Add(200*time.Millisecond), true
		_, _ = fmt.Fprintf(p.a.problems, "\r\x1b[K"+format, args...)
		return
	}
	p.next = now.Add(10 * time.Second)
	p.a.problems.say(format, args...)
}

// end takes the line away.
func (p *progress) end() {
	if p.open {
		_, _ = fmt.Fprint(p.a.problems, "\r\x1b[K")
		p.open = false
	}
}

// note says something beside the results.
func (a *app) note(format string, args ...any) {
	if !a.Quiet {
		a.problems.say(format, args...)
	}
}

// confirm has somebody confirm what cannot be taken back. Where there is nobody to ask, --yes is needed.
func (a *app) confirm(ctx context.Context, yes bool, question, answer string) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(a.in.Fd())) {
		return wrong("%s There is no terminal to confirm it on; give --yes, or --dry-run to see first", question)
	}
	a.problems.say("%s", question)
	_, _ = fmt.Fprintf(a.problems, "Type %s to go on: ", answer)
	line := make(chan string, 1)
	go func() {
		line <- readLine(a.in) // ends with the program, where it is interrupted
	}()
	select {
	case <-ctx.Done():
		a.problems.say("")
		return ctx.Err()
	case text := <-line:
		if strings.TrimSpace(text) != answer {
			return errors.New("it was not confirmed; nothing was done")
		}
		return nil
	}
}

func readLine(from io.Reader) string {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := from.Read(b)
		if n == 0 || err != nil || b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// whole keeps what is written until it is whole lines that can be gone on behind.
type whole struct {
	to  io.Writer
	b   bytes.Buffer
	n   int64 // with to
	err error
}

func (w *whole) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return w.b.Write(p)
}

// commit hands on what was written.
func (w *whole) commit() error {
	if w.err == nil && w.b.Len() > 0 {
		var n int64
		n, w.err = w.b.WriteTo(w.to)
		w.n += n
	}
	return w.err
}
