package exabgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// ErrGone is returned by Run when ExaBGP ended.
var ErrGone = errors.New("exabgp is gone")

// Options for New.
type Options struct {
	Track       bool          // follow neighbors: query and poll; false for neighbor_tracking = "off"
	Interactive bool          // stdin is a terminal: no queries, no acknowledgements expected, commands only printed
	Dialect     Dialect       // the command language; Auto has it found out
	DriftCheck  time.Duration // between two looks at what ExaBGP holds; 0 for none
	Environ     []string      // os.Environ(): where Dialect is Auto, it may tell; nil where it is not to be looked at
	// Progress is told of every command, by the goroutine that Run is called on: it must not wait. Nil means nobody is told.
	Progress func(Progress)
}

// Process is our end of ExaBGP's process API.
type Process struct {
	in  io.Reader
	out io.Writer
	opt Options
	log *logrus.Entry

	mu      sync.Mutex
	table   *Table        // given and not yet taken up; the one thing that Set and Run share
	changed chan struct{} // holds a token while table is not nil
}

// New returns a Process that reads ExaBGP's lines from in and writes commands to out. Nothing is read or written before Run.
func New(in io.Reader, out io.Writer, opt Options, log *logrus.Entry) *Process {
	return &Process{in: in, out: out, opt: opt, log: log, changed: make(chan struct{}, 1)}
}

// Set replaces the table that is to be written and returns at once. It keeps a copy. A table with an invalid prefix, one
// with host bits, the same route twice, one for all neighbors and for single ones too, or attributes that are not in their form
// makes Run panic.
func (p *Process) Set(t Table) {
	t.Routes = slices.Clone(t.Routes)
	p.mu.Lock()
	p.table = &t
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default: // the token is there already
	}
}

func (p *Process) takeTable() *Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table
	p.table = nil
	return t
}

// heardLine is what the reader hands over: a line, or the end of them.
type heardLine struct {
	verdict Verdict
	text    string // the beginning of a Bad line
	err     error
}

// Run reads and writes until ctx is done, or until ExaBGP is gone: then it emits Gone and returns ErrGone. It also
// returns when emit returns false. It may be called once.
func (p *Process) Run(ctx context.Context, emit func(Event) bool) error {
	s := &shell{
		Process: p,
		machine: NewWriter(p.opt),
		lines:   newQueue[heardLine](nil),
		events:  newQueue(supersedes),
		writes:  make(chan []byte, 1), // the machine never has two; 1 spares it to wait for the writer's return to its receive
		written: make(chan error, 1),  // so that the writer ends even if nobody listens any more
	}
	// These two are not waited for: their read and their write can not be interrupted (see the package comment).
	go read(p.in, s.lines)
	go write(p.out, s.writes, s.written)
	defer close(s.writes)

	stop := make(chan struct{})
	refused := make(chan struct{})
	var emitter sync.WaitGroup
	emitter.Go(func() {
		defer close(refused)
		emitAll(s.events, stop, emit)
	})
	err := s.loop(ctx, refused)
	close(stop)
	emitter.Wait() // which emits what is left, Gone last
	return err
}

// supersedes says that of two lists in a row, or of two keepalives of one neighbor, the newer one is enough.
func supersedes(last, next Event) bool {
	if h, ok := last.(NeighborHeard); ok {
		return next == h
	}
	_, a := last.(NeighborsListed)
	_, b := next.(NeighborsListed)
	return a && b
}

// read hands over every line that means something, and Bad ones for the count. It waits for nothing but in.
func read(in io.Reader, lines *queue[heardLine]) {
	r := newLineReader(in, maxLine)
	var version string // the last one that was handed over
	for {
		line, length, err := r.next()
		if err != nil {
			lines.put(heardLine{err: err})
			return
		}
		v := Verdict{Kind: Bad, Words: fmt.Sprintf("line of %d bytes", length)}
		if length <= maxLine {
			v = Decode(line)
		}
		switch fresh := v.Version != "" && v.Version != version; {
		case v.Kind == Blank, v.Kind == Other && !fresh:
		case v.Kind == Bad:
			lines.put(heardLine{verdict: v, text: clip(string(line[:min(len(line), 1000)]))})
		default:
			if v.Version != "" {
				version = v.Version
			}
			lines.put(heardLine{verdict: v})
		}
	}
}

// write writes what it is given and says how it went.
func write(out io.Writer, writes <-chan []byte, written chan<- error) {
	for text := range writes {
		_, err := out.Write(text)
		written <- err
	}
}

// emitAll emits events until stop is closed and the queue is empty, or until emit returns false.
func emitAll(events *queue[Event], stop <-chan struct{}, emit func(Event) bool) {
	for stopping := false; ; {
		for _, ev := range events.take() {
			if !emit(ev) {
				return
			}
		}
		if stopping {
			return
		}
		select {
		case <-events.ready:
		case <-stop:
			stopping = true // and look once more
		}
	}
}

// shell moves the machine's inputs and outputs.
type shell struct {
	*Process
	machine *Writer
	lines   *queue[heardLine]
	events  *queue[Event]
	writes  chan []byte
	written chan error
	bad     badLines
	wake    *time.Timer
}

func (s *shell) loop(ctx context.Context, refused <-chan struct{}) error {
	s.wake = time.NewTimer(time.Hour)
	defer s.wake.Stop()
	gone := s.step(Begin{})
	for !gone {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-refused:
			return errors.New("event not wanted any more")
		case <-s.changed:
			if t := s.takeTable(); t != nil {
				gone = s.step(Told{Table: *t})
			}
		case <-s.lines.ready:
			gone = s.hear(s.lines.take())
		case err := <-s.written:
			gone = s.step(Written{Err: err})
		case <-s.wake.C:
			gone = s.step(Tick{})
		}
	}
	return ErrGone
}

func (s *shell) hear(lines []heardLine) (gone bool) {
	for _, line := range lines {
		switch {
		case line.err != nil:
			return s.step(Ended{Err: line.err})
		case line.verdict.Kind == Bad:
			s.bad.log(time.Now(), s.log, line)
		default:
			gone = s.step(Heard{Verdict: line.verdict}) || gone
		}
	}
	return gone
}

// step gives the machine one input and carries out what follows.
func (s *shell) step(in Input) (gone bool) {
	out := s.machine.Step(time.Now(), in)
	for _, note := range out.Notes {
		s.log.WithFields(note.Fields).Log(note.Level, note.Text)
	}
	for _, p := range out.Progress {
		s.opt.Progress(p)
	}
	for _, ev := range out.Events {
		s.events.put(ev)
		_, last := ev.(Gone)
		gone = gone || last
	}
	if out.Write != nil {
		s.log.WithFields(logrus.Fields{"event": "write", "command": string(out.Write)}).Debug("write to exabgp")
		s.writes <- out.Write // never waits: see its buffer
	}
	s.wake.Stop()
	if !out.Wake.IsZero() {
		s.wake.Reset(time.Until(out.Wake))
	}
	return gone
}

// badLines counts lines that can not be read, and logs one a minute.
type badLines struct {
	count int // since the last one in the log
	next  time.Time
}

func (b *badLines) log(now time.Time, log *logrus.Entry, line heardLine) {
	b.count++
	if now.Before(b.next) {
		return
	}
	log.WithFields(logrus.Fields{"event": "bad-line", "reason": line.verdict.Words, "line": line.text, "lines": b.count}).
		Warn("line from exabgp skipped")
	b.count, b.next = 0, now.Add(time.Minute)
}
