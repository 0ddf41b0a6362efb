package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// story tells what happens in a round, a line each, and keeps it.
type story struct {
	start time.Time
	out   io.Writer

	mu    sync.Mutex
	lines []string
}

func newStory(out io.Writer) *story { return &story{start: time.Now(), out: out} }

// now is the instant since the start of the round.
func (s *story) now() time.Duration { return time.Since(s.start) }

// when is the instant of a time that another process on this machine has read.
func (s *story) when(t time.Time) time.Duration { return t.Sub(s.start.Round(0)) }

func (s *story) say(format string, args ...any) {
	line := fmt.Sprintf("%7.2fs  %s", s.now().Seconds(), fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	fmt.Fprintln(s.out, line)
}

func (s *story) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n") + "\n"
}
