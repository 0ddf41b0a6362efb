package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Config is the checks of one service.
type Config struct {
	Service string
	Env     []string // extra KEY=value pairs for commands; they win over the daemon's environment
	Checks  []Check  // at least one
	Require int      // how many of them must be healthy, from 1 to all
}

// Check is one check of a service. All numbers but Jitter must be positive.
type Check struct {
	Name         string        // unique within the service
	Probe        Probe         // what is run; it was validated
	Interval     time.Duration // between the starts of two runs, while nothing is pending
	FastInterval time.Duration // the same while a change of state is pending, and before the first verdict
	Timeout      time.Duration // of one run; then nothing of it goes on
	Rise, Fall   int           // results in a row that make it healthy / unhealthy
	Jitter       time.Duration // the first run begins after a random part of it; 0: at once
}

// Checker runs the checks of one service.
type Checker struct {
	service string
	members []*member
	quorum  *Quorum
	status  []Status // of each check, in the order of the configuration
	failed  []report // the last run of each check that failed
	watch   func(Ran)
	log     *logrus.Entry
}

// member is one of the checks, with the goroutine that runs it.
type member struct {
	Check
	index   int
	machine *Machine
	runner  runner
	asked   chan struct{} // a run at once is asked for; one is enough, however often
	random  func(below time.Duration) time.Duration
	log     *logrus.Entry
}

// report is one run of a check and what it led to.
type report struct {
	from *member
	Outcome
	result Result
	took   time.Duration
}

// New returns a Checker in state Unknown. It panics if cfg has what validation must have caught.
func New(cfg Config, log *logrus.Entry) *Checker {
	c := &Checker{
		service: cfg.Service,
		quorum:  NewQuorum(len(cfg.Checks), cfg.Require),
		failed:  make([]report, len(cfg.Checks)),
		log:     log.WithFields(logrus.Fields{"component": "health", "service": cfg.Service}),
	}
	for i, check := range cfg.Checks {
		c.members = append(c.members, newMember(i, check, cfg.Env, c.log))
		c.status = append(c.status, Status{Name: check.Name})
	}
	return c
}

func newMember(index int, check Check, env []string, log *logrus.Entry) *member {
	if check.Timeout <= 0 || check.Jitter < 0 || check.Probe == nil {
		panic("bug: health: a check needs a probe, a positive timeout and no negative jitter")
	}
	m := &member{
		Check: check, index: index, machine: NewMachine(check), asked: make(chan struct{}, 1), random: upTo,
		log: log.WithFields(logrus.Fields{"check": check.Name, "probe": check.Probe.String()}),
	}
	m.runner = check.Probe.prepare(options{
		timeout: check.Timeout,
		env:     append(slices.Clone(env), "EXAZK_CHECK="+check.Name),
		panicked: func(p any, at []byte) {
			m.log.WithFields(logrus.Fields{"bug": fmt.Sprint(p), "stack": string(at)}).Error("check panicked")
		},
	})
	return m
}

// upTo is a random part of d.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// Watch has f told of every run, by the goroutine of Run: it must not wait. It is called before Run.
func (c *Checker) Watch(f func(Ran)) { c.watch = f }

// Now makes every check run at once. One that is running counts, so it is not run again. Now never blocks, may be called
// from any goroutine, before Run too, and calls that come close together are one.
func (c *Checker) Now() {
	for _, m := range c.members {
		select {
		case m.asked <- struct{}{}:
		default:
		}
	}
}

// Run checks, again and again, until ctx is done or emit returns false, and calls emit from its own goroutine for each
// change of the service's state. It leaves nothing behind, except for a process that SIGKILL does not end and a system call
// that does not return. A run that was cut short by ctx is not counted. Run returns ctx's cause, or nil if emit ended it. It
// is to be called once.
func (c *Checker) Run(ctx context.Context, emit func(Changed) bool) error {
	var running sync.WaitGroup
	defer running.Wait()
	within, stop := context.WithCancel(ctx)
	defer stop()
	reports := make(chan report)
	for _, m := range c.members {
		running.Go(func() { m.run(within, reports) })
	}
	for {
		select {
		case r := <-reports:
			if ch, changed := c.count(r); changed && !emit(ch) {
				return context.Cause(ctx)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run runs one check until ctx is done. It waits for each report to be taken.
func (m *member) run(ctx context.Context, reports chan<- report) {
	m.wait(ctx, m.random(m.Jitter))
	for ctx.Err() == nil {
		began := time.Now()
		r := m.runner.run(ctx, m.machine.State())
		if ctx.Err() != nil {
			return
		}
		select {
		case <-m.asked: // for the run that has just ended
		default:
		}
		now := time.Now()
		o := m.machine.Step(began, now, r)
		select {
		case reports <- report{from: m, Outcome: o, result: r, took: now.Sub(began)}:
		case <-ctx.Done():
			return
		}
		m.wait(ctx, time.Until(o.Next))
	}
}

// wait returns after d, when a run is asked for, or when ctx is done.
func (m *member) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.asked:
	case <-ctx.Done():
	}
}

// count takes a run of one check into account, and returns what to emit if it changed the state of the service.
func (c *Checker) count(r report) (ch Changed, changed bool) {
	i := r.from.index
	c.status[i] = Status{Name: r.from.Name, State: r.To, Result: r.result, Took: r.took}
	if c.watch != nil {
		c.watch(Ran{Service: c.service, Status: c.status[i]})
	}
	if !r.result.OK {
		c.failed[i] = r
	}
	from, to := c.quorum.Step(i, r.To)
	if len(c.members) > 1 || from == to {
		r.tell()
	}
	if from == to {
		return Changed{}, false
	}
	by := c.decided(r, to)
	ch = Changed{Service: c.service, State: to, Check: by.from.Name, Result: by.result, Took: by.took, Checks: slices.Clone(c.status)}
	log := transition(by.from.log.WithFields(by.fields()), from, to).WithField("event", "HealthChanged")
	if len(c.members) > 1 {
		log = log.WithFields(logrus.Fields{"passing": c.quorum.Passing(), "checks": len(c.members), "required": c.quorum.require})
	}
	log.Log(level(to), "health changed")
	return ch, true
}

// decided is the run to be shown as the reason for a change to state to that r led to: where it is unhealthy, the last
// failure of the first check that is.
func (c *Checker) decided(r report, to State) report {
	if to != Unhealthy {
		return r
	}
	return c.failed[slices.IndexFunc(c.status, func(s Status) bool { return s.State == Unhealthy })]
}

// tell logs what one check does: a change of its state, or a failure that is new.
func (r report) tell() {
	log := r.from.log.WithFields(r.fields())
	switch {
	case r.From != r.To:
		transition(log, r.From, r.To).WithField("event", "CheckChanged").Log(level(r.To), "check changed")
	case r.Report:
		log.WithFields(logrus.Fields{"event": "CheckFailed", "state": r.To.String(), "unreported": r.Unreported}).
			Warn("check failed in a new way")
	default:
		log.Debug("check ran")
	}
}

func transition(log *logrus.Entry, from, to State) *logrus.Entry {
	return log.WithFields(logrus.Fields{"from": from.String(), "to": to.String()})
}

func level(to State) logrus.Level {
	if to == Healthy {
		return logrus.InfoLevel
	}
	return logrus.WarnLevel
}

// fields is r for the log.
func (r report) fields() logrus.Fields {
	f := resultFields(r.result)
	f["elapsed_ms"] = r.took.Milliseconds()
	return f
}

// Fields is r for the log.
func (r Result) Fields() logrus.Fields { return resultFields(r) }

// resultFields is r for the log. The values of reason are: passed, failed, exit-code, timed-out and not-completed.
func resultFields(r Result) logrus.Fields {
	f := logrus.Fields{"reason": "failed", "output": r.Output}
	switch {
	case r.OK:
		f["reason"] = "passed"
	case r.TimedOut:
		f["reason"] = "timed-out"
	case r.Err != "":
		f["reason"] = "not-completed"
	case r.ExitCode > 0:
		f["reason"], f["exit_code"] = "exit-code", r.ExitCode
	}
	if r.Err != "" {
		f["error"] = r.Err
	}
	if h := hint(r.ExitCode); h != "" {
		f["hint"] = h
	}
	return f
}
