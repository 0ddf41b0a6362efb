package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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
}

func newGroup() *group {
	g := &group{failed: make(chan error, 1)}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

func (g *group) start(name string, run func(context.Context) error) {
	g.wait.Go(func() {
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
	g.wait.Go(func() {
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

// leave is stop for what may be left behind: the process ends whether it has ended within d or not.
func (g *group) leave(d time.Duration) {
	g.cancel(nil)
	ended := make(chan struct{})
	go func() {
		g.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(d):
	}
}

func (g *group) stop(cause error) {
	g.cancel(cause)
	g.wait.Wait()
}
