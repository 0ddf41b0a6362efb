package main

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/daemon"
	"exazk/health"
	"exazk/loopback"
)

// reloader takes a new configuration over while the daemon runs.
type reloader struct {
	load      func() (*daemon.Config, error) // reads the file again; nil where there is none
	cfg       *daemon.Config
	loop      *daemon.Loop
	checks    *checks
	show      func(*daemon.Config) // where the page is to be
	addresses *loopback.Keeper     // nil where there is none
	log       *logrus.Entry
	asked     chan struct{} // of room one: however often it is asked for meanwhile, the file is read once more
	again     chan struct{} // likewise: the checks are to run
}

func newReloader(load func() (*daemon.Config, error), cfg *daemon.Config, loop *daemon.Loop, checks *checks, show func(*daemon.Config), addresses *loopback.Keeper, log *logrus.Entry) *reloader {
	return &reloader{
		load: load, cfg: cfg, loop: loop, checks: checks, show: show, addresses: addresses, log: log,
		asked: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
}

// ask asks for a reload and does not wait: a file on a server that is away, or a check that does not end, must not keep a signal
// to stop from being heard.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// askChecks has every check run at once. It does not wait either: a reload waits for checks to end, which may take a second each.
func (r *reloader) askChecks() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// readWithin is how long the file may take before the log says so: it is small, and read in milliseconds.
const readWithin = 5 * time.Second

// run reloads as often as it is asked to, until ctx is done.
func (r *reloader) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
			r.reload(ctx)
		case <-r.again:
			r.checks.now()
		}
	}
}

// reload reads the file again. One that is faulty changes nothing.
func (r *reloader) reload(ctx context.Context) {
	if r.load == nil {
		r.log.Warn("nothing to reload: the configuration came from the command line; remedy: restart exazk, its routes stay")
		return
	}
	slow := time.AfterFunc(readWithin, func() {
		r.log.Error("the configuration is not read yet, and until it is nothing can be reloaded; remedy: see whether the server that its file is on is away")
	})
	next, err := r.load()
	slow.Stop()
	if err != nil {
		faults, _, _ := strings.Cut(err.Error(), "\n\n") // the lines that show a fault of TOML are for a terminal
		for line := range strings.SplitSeq(faults, "\n") {
			r.log.WithField("reason", line).Error("reload refused, everything stays as it is")
		}
		return
	}
	if next.Node != r.cfg.Node {
		r.log.WithField("reason", fmt.Sprintf("node is %q now and was %q; remedy: a node keeps its name, or restart exazk after a drain", next.Node, r.cfg.Node)).Error("reload refused, everything stays as it is")
		return
	}
	if keys := r.cfg.Restart(next); len(keys) > 0 {
		r.log.WithField("keys", strings.Join(keys, ", ")).Warn("changed keys that only a restart of exazk takes over; its routes stay meanwhile")
	}
	next = r.cfg.Adopt(next)
	if reflect.DeepEqual(r.cfg, next) {
		r.log.Info("reloaded, nothing has changed")
		return
	}
	r.cfg = next
	if r.addresses != nil {
		r.addresses.Configure(loopbackVIPs(next))
	}
	if !r.loop.Post(ctx, daemon.Reload{Config: next}) {
		return
	}
	r.show(next)
	r.checks.use(next)
	r.log.WithFields(logrus.Fields{"services": len(next.Services)}).Info("reloaded")
}

// checks are the running checks, by service.
type checks struct {
	loop *daemon.Loop
	log  *logrus.Entry
	ran  func(health.Ran) // told of every run of a check

	mu      sync.Mutex
	running map[string]*running     // nil while none may run
	failed  context.CancelCauseFunc // what ends with the first that returns without being asked to
}

// running is what checks one service.
type running struct {
	*group
	config  health.Config
	checker *health.Checker
}

func newChecks(loop *daemon.Loop, ran func(health.Ran), log *logrus.Entry) *checks {
	return &checks{loop: loop, ran: ran, log: log}
}

// run runs the checks of a configuration, and of those after it, until ctx is done.
func (c *checks) run(ctx context.Context, cfg *daemon.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.running, c.failed = map[string]*running{}, cancel
	c.mu.Unlock()
	c.use(cfg)
	<-ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	stopAll(slices.Collect(maps.Values(c.running)))
	c.running = nil
	return context.Cause(ctx)
}

// stopAll asks all to stop before it waits for the first: each may take a second to end.
func stopAll(ending []*running) {
	for _, r := range ending {
		r.cancel(nil)
	}
	for _, r := range ending {
		r.stop(nil)
	}
}

// use has exactly the checks of a configuration run. Those that did not change go on; one that did begins without a verdict,
// and until it has one the service's last state counts.
func (c *checks) use(cfg *daemon.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return
	}
	wanted := map[string]health.Config{}
	for i := range cfg.Services {
		wanted[cfg.Services[i].Name] = cfg.HealthConfig(&cfg.Services[i])
	}
	var ending []*running
	for name, r := range c.running {
		if next, there := wanted[name]; !there || !reflect.DeepEqual(next, r.config) {
			ending = append(ending, r)
			delete(c.running, name)
		}
	}
	stopAll(ending) // what they say no longer counts, and they must not run beside the next
	for name, config := range wanted {
		if c.running[name] == nil {
			c.running[name] = c.start(config)
		}
	}
}

func (c *checks) start(config health.Config) *running {
	r := &running{group: newGroup(), config: config, checker: health.New(config, c.log)}
	r.checker.Watch(c.ran)
	r.onReturn(c.failed)
	r.group.start("the checks of "+config.Service, func(ctx context.Context) error { return r.checker.Run(ctx, c.loop.Health(ctx)) })
	return r
}

// now has every check run at once.
func (c *checks) now() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		r.checker.Now()
	}
}
