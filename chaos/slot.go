package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// starts is counted for every worker that was started.
const starts = "workers started"

// slot is the place of a worker. When its process ends, another takes its place.
type slot struct {
	*runner
	number uint64
	spared bool // nobody kills it
	doomed bool // it is killed when it is to end

	mu        sync.Mutex
	process   *os.Process
	journal   string
	killed    bool // by us
	protected bool // not to be killed just now
}

// run starts one worker after the other, until the run is over and the last has ended.
func (s *slot) run(ctx context.Context) {
	for life := uint64(0); ctx.Err() == nil; life++ {
		if err := s.live(ctx, life); err != nil {
			s.fatal(err)
			return
		}
	}
}

func (s *slot) live(ctx context.Context, life uint64) error {
	name := filepath.Join(s.dir, fmt.Sprint(s.name(), life))
	journal := name + ".journal"
	reached, err := s.workersURL()
	if err != nil {
		return err
	}
	o, err := json.Marshal(order{
		URL: reached, Journal: journal, Seed: s.Seed, Slot: s.number, Life: life,
		Goroutines: s.Goroutines, Cold: s.Cold, Zone: s.clock.zone.String(), Ahead: s.ahead(s.number), Spared: s.spared, Places: s.Places,
	})
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := os.Create(name + ".output")
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	// Not of ctx: a worker whose run is over ends its calls first.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary)
	cmd.Env = append(os.Environ(), workerVariable+"="+string(o))
	cmd.Stdout, cmd.Stderr = output, output
	// In a group of its own, a stopped worker gets a hang-up when this process dies.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.tally.add(starts)
	s.mu.Lock()
	s.process, s.journal, s.killed = cmd.Process, journal, false
	s.mu.Unlock()

	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err = <-exited:
	case <-ctx.Done():
		if s.doomed {
			s.end()
			err = <-exited
			break
		}
		s.send(syscall.SIGCONT)
		_, _ = io.WriteString(input, "end\n") // it may have ended
		select {
		case err = <-exited:
		case <-time.After(farewell):
			s.end()
			err = <-exited
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = nil
	if err == nil && ctx.Err() == nil {
		err = errors.New("it ended too early")
	}
	if err != nil && !s.killed {
		said, _ := os.ReadFile(output.Name()) // it may have said nothing
		s.violation("%s ended by itself: %v\n%s", filepath.Base(name), err, tail(said))
	}
	return nil
}

// end kills the worker, whatever it is at.
func (s *slot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.killed = true
		_ = s.process.Kill() // it may have ended
	}
}

// kill kills the worker if there is one and nothing else is being done to it.
func (s *slot) kill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.protected || s.killed || s.spared {
		return false
	}
	s.killed = true
	return s.process.Kill() == nil
}

// open returns the executions whose hold the worker was given and has not ended, as far as it has said so.
func (s *slot) open() []string {
	s.mu.Lock()
	journal := s.journal
	s.mu.Unlock()
	said, err := readJournal(journal)
	if err != nil {
		return nil // it has not begun
	}
	open := map[string]bool{}
	for _, e := range said {
		if e.ID != "" {
			open[e.ID] = e.What == held
		}
	}
	maps.DeleteFunc(open, func(_ string, is bool) bool { return !is })
	return slices.Collect(maps.Keys(open))
}

// send sends the worker a signal.
func (s *slot) send(signal syscall.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && s.process.Signal(signal) == nil
}

// protect keeps the worker from being killed. It reports false where that is not to be had.
func (s *slot) protect() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.protected || s.killed {
		return false
	}
	s.protected = true
	return true
}

func (s *slot) expose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protected = false
}

// name is what the names of the worker's journals begin with.
func (s *slot) name() string { return fmt.Sprintf("worker-%d-", s.number) }
