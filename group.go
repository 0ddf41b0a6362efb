package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
)

// group runs goroutines that are stopped and waited for together.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup
	failed chan error

	mu      sync.Mutex
	running map[string]int // by name
}

func newGroup() *group {
	g := &group{failed: make(chan error, 1), running: map[string]int{}}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

func (g *group) start(name string, run func(context.Context) error) {
	g.note(name, 1)
	g.wait.Go(func() {
		defer g.note(name, -1)
		err := run(g.ctx)
		if g.ctx.Err() != nil || errors.Is(err, exabgp.ErrGone) {
			return // it was asked to, or has told the loop already
		}
		select {
		case g.failed <- fmt.Errorf("%s ended: %w", name, err):
		default: // one failure is enough to stop
		}
	})
}

// aside runs what no route depends on. Where it panics or ends by itself, everything else goes on without it: six deaths of the process
// within 64 s would end ExaBGP, and its routes.
func (g *group) aside(name string, log *logrus.Entry, run func(context.Context) error) {
	g.note(name, 1)
	g.wait.Go(func() {
		defer g.note(name, -1)
		log := log.WithField("component", name)
		defer func() {
			if p := recover(); p != nil {
				log.WithFields(logrus.Fields{"bug": fmt.Sprint(p), "stack": string(debug.Stack())}).Error("part panicked, and is off until exazk is restarted; routes do not depend on it")
			}
		}()
		if err := run(g.ctx); g.ctx.Err() == nil {
			log.WithField("reason", fmt.Sprint(err)).Error("part ended, and is off until exazk is restarted; routes do not depend on it")
		}
	})
}

// onReturn calls cancel with the failure of the first goroutine that returns without being asked to.
func (g *group) onReturn(cancel context.CancelCauseFunc) {
	go func() { // ends with the group, whose stop cancels g.ctx
		select {
		case err := <-g.failed:
			cancel(err)
		case <-g.ctx.Done():
		}
	}()
}

func (g *group) note(name string, more int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running[name] += more; g.running[name] == 0 {
		delete(g.running, name)
	}
}

func (g *group) stop(cause error) {
	g.cancel(cause)
	g.wait.Wait()
}

// stopWithin is stop for what may be left behind at the end of the process: it names, sorted, those that have not ended in time.
func (g *group) stopWithin(limit time.Duration) (late []string) {
	g.cancel(nil)
	ended := make(chan struct{})
	go func() { // ends with the process at the latest
		g.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(limit):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.running))
}
