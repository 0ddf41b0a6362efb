package main

import (
	"testing"
	"time"
)

// TestAskingDoesNotWait: while a reload waits for checks to end, signals are heard all the same, the one to stop above all.
func TestAskingDoesNotWait(t *testing.T) {
	checks := newChecks(nil, nil, nil)
	r := newReloader(nil, nil, nil, checks, nil, nil, nil)
	checks.mu.Lock() // as a reload does
	defer checks.mu.Unlock()
	asked := make(chan struct{})
	go func() {
		for range 3 {
			r.ask()
			r.askChecks()
		}
		close(asked)
	}()
	select {
	case <-asked:
	case <-time.After(5 * time.Second):
		t.Error("a signal waits for a reload")
	}
}
