package health

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// killGrace is how long a killed check is waited for. It is reached only by a process that SIGKILL does not end.
const killGrace = time.Second

// Config is the check of one service. All numbers must be positive.
type Config struct {
	Service      string        // for logs and the environment
	Command      string        // run by /bin/sh -c
	Env          []string      // extra KEY=value pairs; they win over the daemon's environment
	Interval     time.Duration // between the starts of two runs, while nothing is pending
	FastInterval time.Duration // the same while a change of state is pending, and before the first verdict
	Timeout      time.Duration // of one run; then all its processes get SIGKILL
	Rise, Fall   int           // results in a row that make it healthy / unhealthy
}

// Checker runs the check of one service.
type Checker struct {
	cfg     Config
	log     *logrus.Entry
	machine *Machine
	start   func(env []string) (child, error)
	stuck   child // killed, but not ended: no further run is started; nil otherwise
}

// New returns a Checker in state Unknown. It panics if a number in cfg is not positive.
func New(cfg Config, log *logrus.Entry) *Checker {
	if cfg.Timeout <= 0 {
		panic("bug: health: timeout must be positive")
	}
	return &Checker{
		cfg:     cfg,
		log:     log.WithFields(logrus.Fields{"component": "health", "service": cfg.Service, "check": cfg.Command}),
		machine: NewMachine(cfg),
		start:   func(env []string) (child, error) { return startProcess("/bin/sh", cfg.Command, env) },
	}
}

// Run checks, at once and then again and again, until ctx is done or emit returns false, and calls emit from its own
// goroutine for each change of state. It leaves no child behind, except for a process that SIGKILL does not end. A run
// that was cut short by ctx is not counted. Run returns ctx's cause, or nil if emit ended it. It is to be called once.
func (c *Checker) Run(ctx context.Context, emit func(Changed) bool) error {
	for ctx.Err() == nil {
		began := time.Now()
		r := c.once(ctx)
		if ctx.Err() != nil {
			break
		}
		now := time.Now()
		o := c.machine.Step(began, now, r)
		c.tell(o, r, now.Sub(began))
		if o.From != o.To && !emit(Changed{Service: c.cfg.Service, State: o.To, Result: r, Took: now.Sub(began)}) {
			break
		}
		sleep(ctx, time.Until(o.Next))
	}
	return context.Cause(ctx)
}

// once is one run from its start to its end, or to the end of its time.
func (c *Checker) once(ctx context.Context) Result {
	if !c.unstuck() {
		return Result{ExitCode: -1, Err: "the run before was killed and has not ended"}
	}
	ch, err := c.start(environ(os.Environ(), c.cfg.Env, c.machine.State()))
	if err != nil {
		return Result{ExitCode: -1, Err: err.Error()}
	}
	over := c.await(ctx, ch)
	killErr := ch.kill(!over || ctx.Err() != nil)
	if !over {
		return c.cutShort(ch, killErr)
	}
	if !reapedInTime(ch) { // output that somebody in a session of its own holds open is closed long before this
		c.stuck = ch
		return Result{ExitCode: -1, Err: "the check ended and could not be reaped"}
	}
	return ch.result() // killErr does not matter here: it says that there was nothing left that we may kill
}

// await waits for the end of ch, of its time or of ctx. It returns whether ch ended by itself.
func (c *Checker) await(ctx context.Context, ch child) bool {
	timeout := time.NewTimer(c.cfg.Timeout)
	defer timeout.Stop()
	select {
	case <-ch.exited():
	case <-timeout.C:
	case <-ctx.Done():
	}
	// Asked again, because a process that was stopped (SIGSTOP, a paused VM) finds both the end and the timeout in its past.
	return ch.over()
}

// cutShort is the result of a run that was killed at its timeout.
func (c *Checker) cutShort(ch child, killErr error) Result {
	r := Result{ExitCode: -1, TimedOut: true, Err: fmt.Sprintf("timed out after %v", c.cfg.Timeout)}
	if reapedInTime(ch) {
		r.Output = ch.result().Output
		return r
	}
	c.stuck = ch
	r.Err += ", and does not end on SIGKILL"
	if killErr != nil {
		r.Err += ": " + killErr.Error()
	}
	return r
}

// reapedInTime waits for the end of a killed child, for at most killGrace.
func reapedInTime(ch child) bool {
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case <-ch.reaped():
		return true
	case <-grace.C:
		return false
	}
}

// unstuck says whether a new run may be started.
func (c *Checker) unstuck() bool {
	if c.stuck == nil {
		return true
	}
	select {
	case <-c.stuck.reaped():
		c.stuck = nil
		return true
	default:
		return false
	}
}

// tell logs a transition, or a failure that is new.
func (c *Checker) tell(o Outcome, r Result, took time.Duration) {
	log := c.log.WithFields(resultFields(r)).WithField("elapsed_ms", took.Milliseconds())
	switch {
	case o.From != o.To:
		log = log.WithFields(logrus.Fields{"event": "HealthChanged", "from": o.From.String(), "to": o.To.String()})
		if o.To == Healthy {
			log.Info("health changed")
		} else {
			log.Warn("health changed")
		}
	case o.Report:
		log.WithFields(logrus.Fields{"event": "CheckFailed", "state": o.To.String(), "unreported": o.Unreported}).
			Warn("check failed in a new way")
	default:
		log.Debug("check ran")
	}
}

// resultFields is r for the log. The values of reason are: passed, exit-code, timed-out and not-completed.
func resultFields(r Result) logrus.Fields {
	f := logrus.Fields{"reason": "exit-code", "exit_code": r.ExitCode, "output": r.Output}
	switch {
	case r.OK:
		f["reason"] = "passed"
	case r.TimedOut:
		f["reason"] = "timed-out"
	case r.Err != "":
		f["reason"] = "not-completed"
	}
	if r.Err != "" {
		f["error"] = r.Err
	}
	if h := hint(r.ExitCode); h != "" {
		f["hint"] = h
	}
	return f
}

// hint tells what to do about the two exit codes that a shell uses for itself (POSIX, Shell Command Language, 2.8.2).
func hint(code int) string {
	switch code {
	case 126:
		return fmt.Sprintf("the command cannot be executed: chmod +x it, and see that user id %d may enter its directory",
			os.Geteuid())
	case 127:
		return fmt.Sprintf("the command was not found: give its whole path (PATH is %q, user id %d)",
			os.Getenv("PATH"), os.Geteuid())
	}
	return ""
}

// environ is the environment of a check: see the package documentation.
func environ(own, extra []string, state State) []string {
	const leaked = "exabgp" // ExaBGP's variables, "exabgp_cli_pipe" and "exabgp.api.ack" alike
	env := make([]string, 0, len(own)+len(extra)+2)
	for _, kv := range own {
		if len(kv) >= len(leaked) && strings.EqualFold(kv[:len(leaked)], leaked) {
			continue
		}
		env = append(env, kv)
	}
	env = append(env, "PWD=/")
	env = append(env, extra...)
	return append(env, "EXAZK_STATE="+state.String()) // os/exec takes the last of two equal names
}

// sleep returns after d or when ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
