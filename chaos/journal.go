package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What a worker was told by the library.
const (
	held      = "held"      // a hold was given out
	settled   = "settled"   // a settle was acknowledged, whatever it found
	released  = "released"  // a release was acknowledged, whatever it found
	pending   = "pending"   // a settle or a release was not on the books yet
	leaked    = "leaked"    // the worker forgets the hold
	exhausted = "exhausted" // refused: a limit is used up
	contended = "contended" // refused: running calls hold what is left of a limit
	duplicate = "duplicate" // refused: the idempotency key is taken
	ended     = "ended"     // the call's ctx ended first
	away      = "away"      // the database could not be reached
	failed    = "failed"    // refused in the database's own words
	answered  = "answered"  // a call through the transport has its reply
	alive     = "alive"     // the worker has had its turn
	unsettled = "unsettled" // Close has said that the call is not on the books
	closed    = "closed"    // the ledger is closed
	wrong     = "wrong"     // an answer that the library must not give
)

// entry is one line of a journal: what the library said to one call.
type entry struct {
	What    string `json:"what"`
	Tenant  string `json:"tenant,omitempty"`
	ID      string `json:"id,omitempty"`
	Key     string `json:"key,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Cost    int64  `json:"cost,omitempty"` // nano-dollars
	Tokens  int64  `json:"tokens,omitempty"`
	Detail  string `json:"detail,omitempty"`

	// Costs are those that a call which was answered may have.
	Costs []int64 `json:"costs,omitempty"`

	// Release says that what is pending is a release.
	Release bool `json:"release,omitempty"`

	// At is the machine's time of an entry that the worker is alive.
	At time.Time `json:"at,omitzero"`

	// Since and Until are the database's time before the call to the library and after it; zero where nobody asked.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`

	life string // the worker whose journal it is
}

// journal is the file to which one worker process writes what the library acknowledged, before it goes on. What is
// written survives the kill of the process: it is with the operating system.
type journal struct{ file *os.File }

func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{file}, nil
}

// write appends a line in one system call. A worker whose journal is broken proves nothing, and ends.
func (j *journal) write(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos: write the journal:", err)
		os.Exit(exitBroken)
	}
}

// readJournals reads what all workers wrote.
func readJournals(dir string) ([]entry, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, file := range files {
		entries, err := readJournal(file)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// readJournal reads what a worker has written. The last line of a killed one may be cut off: what it was about to say was
// not written before the worker went on, because it did not go on.
func readJournal(file string) ([]entry, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", filepath.Base(file), line, err)
		}
		e.life = strings.TrimSuffix(filepath.Base(file), ".journal")
		entries = append(entries, e)
	}
	return entries, nil
}

// tally counts what happened during a run.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(what string) { t.addMany(what, 1) }

func (t *tally) addMany(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[what] += n
}

func (t *tally) of(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[what]
}
