package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// TestAsideHarmsNobody: what no route depends on may panic or end, and the log says so; what is told to end says nothing.
func TestAsideHarmsNobody(t *testing.T) {
	for name, test := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"panic": {func(context.Context) error { panic("bug: out of ink") }, "part panicked"},
		"end":   {func(context.Context) error { return errors.New("out of paper") }, "part ended"},
		"told":  {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			logger, hook := logtest.NewNullLogger()
			g := newGroup()
			ctx, cancel := context.WithCancelCause(t.Context())
			g.onReturn(cancel)
			g.aside("pen", logrus.NewEntry(logger), test.run)
			if test.want != "" {
				g.wait.Wait()
			}
			g.stop(nil)
			if ctx.Err() != nil {
				t.Errorf("the daemon ends: %v", context.Cause(ctx))
			}
			switch e := hook.LastEntry(); {
			case test.want == "" && e != nil, test.want != "" && (e == nil || !strings.Contains(e.Message, test.want)):
				t.Errorf("in the log: %+v", e)
			}
		})
	}
}

// TestLeave: what does not end is left behind, and what does is waited for no longer.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct{ takes, want time.Duration }{
			"quick": {50 * time.Millisecond, 50 * time.Millisecond}, "slow": {time.Minute, lastWords},
		} {
			g, began := newGroup(), time.Now()
			g.start(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(test.takes)
				return nil
			})
			g.stopWithin(lastWords)
			if took := time.Since(began); took != test.want {
				t.Errorf("%s: %v, want %v", name, took, test.want)
			}
			g.wait.Wait()
		}
	})
}
