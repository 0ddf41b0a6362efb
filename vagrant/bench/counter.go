package main

import (
	"context"
	"sync"
	"time"

	"exazk/vagrant/lab"
)

// counter counts the routes that ToRs hear announced and withdrawn, by BIRD's counters. Those begin anew with each BGP
// session, so they are read ten times a second; what came in the last tenth before the end of a session may be missed.
type counter struct {
	lab  *lab.Lab
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	last  map[string]lab.Received // by load balancer
	total map[string]int
}

// startCounter counts from now until end is called.
func startCounter(ctx context.Context, l *lab.Lab) *counter {
	ctx, stop := context.WithCancel(ctx)
	c := &counter{lab: l, stop: stop, done: make(chan struct{}), last: map[string]lab.Received{}, total: map[string]int{}}
	// A ToR that is read later only would count what came before. One without its session has nothing to be read.
	for end := time.Now().Add(2 * time.Second); len(c.last) < len(lab.Balancers()) && time.Now().Before(end) && ctx.Err() == nil; {
		c.read()
	}
	c.total = map[string]int{} // what was before does not count
	go func() {
		defer close(c.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.read()
			}
		}
	}()
	return c
}

// read asks every ToR once. One whose BIRD does not answer is asked again the next time.
func (c *counter) read() {
	c.mu.Lock() // also so that no reading is overtaken by a later one
	defer c.mu.Unlock()
	for _, lb := range lab.Balancers() {
		if now, err := c.lab.Received(lab.Leaf(lb), lb); err == nil {
			c.total[lb] += now.After(c.last[lb])
			c.last[lb] = now
		}
	}
}

// of returns what one load balancer's ToR heard from it by now.
func (c *counter) of(lb string) int {
	c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total[lb]
}

// end stops counting and waits for it.
func (c *counter) end() {
	c.stop()
	<-c.done
	c.read()
}
