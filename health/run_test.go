package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

var errStop = errors.New("test is over")

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// script is one run of a fake check.
type script struct {
	takes   time.Duration // until it exits; forever if 0
	result  Result
	hang    time.Duration // from kill until it can be reaped
	killErr error
	err     error // it cannot be started
}

func pass() script {
	return script{takes: 10 * time.Millisecond, result: Result{OK: true, Output: "ok"}}
}
func fail() script {
	return script{takes: 10 * time.Millisecond, result: Result{ExitCode: 1, Output: "refused"}}
}

// fake plays scripts in order, the last one for ever, and checks how it is used.
type fake struct {
	t       *testing.T
	scripts []script
	began   []time.Time
	envs    [][]string
	running int
	killed  []bool // of each kill: whether it looked beyond the process group
}

func (f *fake) start(env []string) (child, error) {
	s := f.scripts[min(len(f.began), len(f.scripts)-1)]
	f.began = append(f.began, time.Now())
	f.envs = append(f.envs, env)
	if s.err != nil {
		return nil, s.err
	}
	if f.running++; f.running > 1 {
		f.t.Error("two runs at once")
	}
	c := &fakeChild{fake: f, script: s, at: time.Now(), ended: make(chan struct{}), gone: make(chan struct{})}
	if s.takes > 0 {
		c.timer = time.AfterFunc(s.takes, func() { close(c.ended) })
	}
	return c, nil
}

type fakeChild struct {
	*fake
	script
	at    time.Time // its start
	timer *time.Timer
	dead  bool
	ended chan struct{}
	gone  chan struct{}
}

func (c *fakeChild) exited() <-chan struct{} { return c.ended }
func (c *fakeChild) reaped() <-chan struct{} { return c.gone }

func (c *fakeChild) over() bool { return c.takes > 0 && time.Since(c.at) >= c.takes }

func (c *fakeChild) kill(all bool) error {
	if c.dead {
		c.t.Error("killed twice")
	}
	c.dead = true
	c.fake.killed = append(c.fake.killed, all)
	if c.timer != nil {
		c.timer.Stop()
	}
	time.AfterFunc(c.hang, func() {
		c.running--
		close(c.gone)
	})
	return c.killErr
}

func (c *fakeChild) result() Result {
	select {
	case <-c.gone:
	default:
		c.t.Error("result asked for before the reaping")
	}
	return c.script.result
}

// withFake is a Checker whose first check is f.
func withFake(t *testing.T, f *fake, cfg Config, log *logrus.Entry) *Checker {
	f.t = t
	c := New(cfg, log)
	c.members[0].runner.(*commandRunner).start = f.start
	return c
}

// play runs a Checker with a fake for d of virtual time, and returns the changes with the time of each since the start.
func play(t *testing.T, f *fake, cfg Config, log *logrus.Entry, d time.Duration) (changes []string, c *Checker) {
	t.Helper()
	c = withFake(t, f, cfg, log)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	begin := time.Now()
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(ch Changed) bool {
			if ch.Service != cfg.Service {
				t.Errorf("change of service %q, want %q", ch.Service, cfg.Service)
			}
			changes = append(changes, fmt.Sprintf("%v %v %v %v", time.Since(begin), ch.State, ch.Took, ch.Result))
			return true
		})
	}()
	time.Sleep(d)
	synctest.Wait()
	cancel(errStop)
	if err := <-done; err != errStop {
		t.Errorf("Run returned %v, want the cause of the context", err)
	}
	time.Sleep(time.Hour) // what hangs ends, so that the fake can count
	synctest.Wait()
	if f.running != 0 {
		t.Errorf("%d runs left behind", f.running)
	}
	return changes, c
}

func since(times []time.Time) []string {
	var out []string
	for _, at := range times {
		out = append(out, at.Sub(times[0]).String())
	}
	return out
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestRunCadence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scripts: []script{pass(), pass(), pass(), pass(), fail(), fail(), pass()}}
		changes, _ := play(t, f, only(testCheck), quiet(), 4*time.Second)
		equal(t, "changes", changes, []string{
			"410ms healthy 10ms {true 0 false  ok}",
			"2.61s unhealthy 10ms {false 1 false  refused}",
		})
		equal(t, "runs", since(f.began), []string{
			"0s", "200ms", "400ms", // until the first verdict
			"1.4s", "2.4s", // steady
			"2.6s", // a failure, seen again
			"3.6s", // steady
			"3.8s", // a success
			"4s",
		})
	})
}

func TestRunTellsTheCheckItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Setenv("EXABGP_CLI_PIPE", "leaked")
		cfg := only(testCheck)
		cfg.Checks[0].Rise, cfg.Checks[0].Fall, cfg.Env = 1, 1, []string{"EXAZK_NODE=node1"}
		f := &fake{scripts: []script{pass(), fail(), pass()}}
		play(t, f, cfg, quiet(), 1500*time.Millisecond)
		if len(f.envs) != 2 {
			t.Fatalf("%d runs, want 2", len(f.envs))
		}
		for i, want := range []string{"EXAZK_STATE=unknown", "EXAZK_STATE=healthy"} {
			env := f.envs[i]
			if env[len(env)-1] != want || !slices.Contains(env, "EXAZK_NODE=node1") ||
				slices.Contains(env, "EXABGP_CLI_PIPE=leaked") {
				t.Errorf("run %d: environment %q, want %s at its end", i, env, want)
			}
		}
	})
}

func TestRunKillsAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scripts: []script{{result: Result{OK: true, Output: "half way"}}}}
		changes, _ := play(t, f, only(testCheck), quiet(), 3*time.Second)
		equal(t, "changes", changes, []string{"2.02s unhealthy 1s {false -1 true timed out after 1s half way}"})
		equal(t, "runs", since(f.began), []string{"0s", "1.02s", "2.04s"}) // one at a time, a pause between
		if slices.Contains(f.killed, false) {
			t.Errorf("kills looked beyond the group: %v, want all true", f.killed)
		}
	})
}

func TestRunPrefersAnEndToATimeoutAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := only(testCheck)
		cfg.Checks[0].Rise = 1
		f := &fake{scripts: []script{{takes: cfg.Checks[0].Timeout, result: Result{OK: true}}}}
		changes, _ := play(t, f, cfg, quiet(), 10*time.Second)
		if len(changes) != 1 || !strings.Contains(changes[0], " healthy ") {
			t.Errorf("changes %q, want one to healthy", changes)
		}
	})
}

func TestRunKillsWhatIsLeftAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scripts: []script{pass()}}
		play(t, f, only(testCheck), quiet(), 300*time.Millisecond)
		if want := []bool{false, false}; !slices.Equal(f.killed, want) {
			t.Errorf("kills %v, want %v: each run's group, and no search for its session", f.killed, want)
		}
	})
}

func TestRunDoesNotPileUpOnAProcessThatCannotBeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := script{hang: 10 * time.Second, killErr: errors.New("operation not permitted")}
		f := &fake{scripts: []script{stuck, pass()}}
		changes, _ := play(t, f, only(testCheck), quiet(), 20*time.Second)
		equal(t, "changes", changes, []string{
			"2.02s unhealthy 0s {false -1 false the run before was killed and has not ended }",
			"11.43s healthy 10ms {true 0 false  ok}",
		})
		equal(t, "first runs", since(f.began)[:4], []string{"0s", "11.02s", "11.22s", "11.42s"})
	})
}

func TestRunSaysWhyAProcessCannotBeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := only(testCheck)
		cfg.Checks[0].Fall = 1
		f := &fake{scripts: []script{{hang: time.Minute, killErr: errors.New("operation not permitted")}}}
		changes, _ := play(t, f, cfg, quiet(), 3*time.Second)
		equal(t, "changes", changes, []string{
			"2s unhealthy 2s {false -1 true timed out after 1s, and does not end on SIGKILL: operation not permitted }",
		})
	})
}

func TestRunGivesUpOnAnEndedProcessThatIsNotReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := only(testCheck)
		cfg.Checks[0].Fall = 1
		s := pass()
		s.hang = time.Minute
		f := &fake{scripts: []script{s}}
		changes, _ := play(t, f, cfg, quiet(), 3*time.Second)
		equal(t, "changes", changes, []string{
			"1.01s unhealthy 1.01s {false -1 false the check ended and could not be reaped }",
		})
		if len(f.began) != 1 {
			t.Errorf("%d runs started, want 1", len(f.began))
		}
	})
}

func TestRunCountsAFailureToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scripts: []script{{err: errors.New("start check: cannot allocate memory")}, pass()}}
		cfg := only(testCheck)
		cfg.Checks[0].Fall = 1
		changes, _ := play(t, f, cfg, quiet(), 500*time.Millisecond)
		equal(t, "changes", changes, []string{"0s unhealthy 0s {false -1 false start check: cannot allocate memory }"})
	})
}

func TestRunKillsTheRunThatIsUnderWayWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := only(testCheck)
		cfg.Checks[0].Timeout, cfg.Checks[0].Fall = time.Hour, 1
		f := &fake{scripts: []script{{}}}
		changes, _ := play(t, f, cfg, quiet(), time.Second)
		equal(t, "changes", changes, nil) // a run that was cut short says nothing
		if want := []bool{true}; !slices.Equal(f.killed, want) {
			t.Errorf("kills %v, want %v", f.killed, want)
		}
	})
}

func TestRunEndsWithItsCaller(t *testing.T) {
	t.Run("context done before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStop)
		c := New(only(testCheck), quiet())
		c.members[0].runner.(*commandRunner).start = func([]string) (child, error) { t.Error("a run was started"); return nil, errStop }
		if err := c.Run(ctx, func(Changed) bool { return true }); err != errStop {
			t.Errorf("Run returned %v, want %v", err, errStop)
		}
	})
	t.Run("emit refuses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{scripts: []script{pass()}}
			c := withFake(t, f, only(testCheck), quiet())
			if err := c.Run(t.Context(), func(Changed) bool { return false }); err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
			if len(f.began) != testCheck.Rise {
				t.Errorf("%d runs, want %d", len(f.began), testCheck.Rise)
			}
		})
	})
}

func TestRunGoesOnAfterEmitBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{scripts: []script{pass()}}
		c := withFake(t, f, only(testCheck), quiet())
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(12 * time.Second)
			cancel()
		}()
		c.Run(ctx, func(Changed) bool {
			time.Sleep(10 * time.Second)
			return true
		})
		equal(t, "runs", since(f.began), []string{"0s", "200ms", "400ms", "1.4s", "10.41s", "11.41s"})
	})
}

func TestRunLogsTransitionsAndNewFailuresOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, hook := logtest.NewNullLogger()
		logger.SetLevel(logrus.InfoLevel)
		notFound := script{takes: 10 * time.Millisecond, result: Result{ExitCode: 127, Output: "sh: 1: x: not found"}}
		f := &fake{scripts: []script{pass(), pass(), pass(), pass(), fail(), fail(), fail(), notFound, {}}}
		play(t, f, only(testCheck), logrus.NewEntry(logger), 2*time.Minute)
		var got []string
		for _, e := range hook.AllEntries() {
			got = append(got, fmt.Sprintf("%v %s %v>%v %v %v", e.Level, e.Message, e.Data["from"], e.Data["to"],
				e.Data["reason"], e.Data["exit_code"]))
			for _, field := range []string{"component", "service", "check", "event", "output", "elapsed_ms"} {
				if _, ok := e.Data[field]; !ok {
					t.Errorf("%q has no field %q", e.Message, field)
				}
			}
		}
		equal(t, "log", got, []string{
			"info health changed unknown>healthy passed <nil>",
			"warning check failed in a new way <nil>><nil> exit-code 1",
			"warning health changed healthy>unhealthy exit-code 1",
			"warning check failed in a new way <nil>><nil> timed-out <nil>",
		})
	})
}

func TestResultFields(t *testing.T) {
	tests := []struct {
		r          Result
		reason     string
		hint, fail string // a part of the field; empty: no such field
	}{
		{Result{OK: true}, "passed", "", ""},
		{Result{ExitCode: 1}, "exit-code", "", ""},
		{Result{ExitCode: 126}, "exit-code", "chmod +x", ""},
		{Result{ExitCode: 127}, "exit-code", fmt.Sprintf("user id %d", os.Geteuid()), ""},
		{Result{ExitCode: -1, TimedOut: true, Err: "timed out after 1s"}, "timed-out", "", "timed out"},
		{Result{ExitCode: -1, Err: "start check: x"}, "not-completed", "", "start check"},
		{Result{ExitCode: -1, Output: "503 Service Unavailable, want 200-299"}, "failed", "", ""},
	}
	for _, tt := range tests {
		f := resultFields(tt.r)
		if f["reason"] != tt.reason {
			t.Errorf("%+v: reason %v, want %s", tt.r, f["reason"], tt.reason)
		}
		for field, want := range map[string]string{"hint": tt.hint, "error": tt.fail} {
			got, ok := f[field].(string)
			if ok != (want != "") || !strings.Contains(got, want) {
				t.Errorf("%+v: %s %q, want %q in it", tt.r, field, got, want)
			}
		}
	}
}

func TestEnviron(t *testing.T) {
	own := []string{"PATH=/bin", "exabgp_cli_pipe=/run", "exabgp.api.ack=true", "EXABGP_X=1", "ExaBGP", "EXA=1", "EXAZK_NODE=old"}
	got := environ(own, []string{"EXAZK_NODE=node1"})
	equal(t, "environment", got,
		[]string{"PATH=/bin", "EXA=1", "EXAZK_NODE=old", "PWD=/", "EXAZK_NODE=node1"})
}
