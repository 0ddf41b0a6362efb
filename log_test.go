package main

import (
	"testing"

	"github.com/sirupsen/logrus"
)

// TestLostLinesAreCounted has a log that is stuck: the lines that do not fit are counted, also after a line has told of them.
func TestLostLinesAreCounted(t *testing.T) {
	stuck := make(chan struct{})
	log := logrus.New()
	out := newLogOutput(func(logLine) error { <-stuck; return nil })
	hook := &logHook{out, formatter("text", false, false)}
	log.SetOutput(t.Output())
	log.AddHook(hook)
	if n := lostLines(log); n != 0 {
		t.Fatalf("%d lines lost of none", n)
	}
	for range logQueue + 1 + 5 { // one is on its way
		out.send(logLine{text: []byte("x")})
	}
	if n := lostLines(log); n != 5 && n != 6 { // it may not be on its way yet
		t.Errorf("%d lines lost, want 5", n)
	}
	before := lostLines(log)
	close(stuck)
	log.Info("the next line says so")
	if n := lostLines(log); n < before {
		t.Errorf("%d lines lost, and %d before", n, before)
	}
	out.close()
}
