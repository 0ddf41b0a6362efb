package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// plan is a Probe whose runs go by a text: + passes, - fails, . hangs to its timeout; the last one for ever.
type plan struct {
	text   string
	takes  time.Duration
	began  []time.Time
	active int
}

func (p *plan) Validate() error { return nil }
func (p *plan) String() string  { return "plan" }

func (p *plan) prepare(o options) runner {
	return &looker{options: o, look: func(ctx context.Context) (string, error) {
		p.active++
		defer func() { p.active-- }()
		n := len(p.began)
		p.began = append(p.began, time.Now())
		time.Sleep(p.takes)
		switch p.text[min(n, len(p.text)-1)] {
		case '+':
			return "fine", nil
		case '.':
			<-ctx.Done()
		}
		return "", fmt.Errorf("bad %d", n)
	}}
}

// several is a service with a check for each plan, named a, b, c, …; rise and fall are 1.
func several(require int, plans ...*plan) Config {
	cfg := Config{Service: "apex", Require: require}
	for i, p := range plans {
		check := testCheck
		check.Name, check.Probe, check.Rise, check.Fall = string(rune('a'+i)), p, 1, 1
		p.takes = time.Duration(10*(i+1)) * time.Millisecond
		cfg.Checks = append(cfg.Checks, check)
	}
	return cfg
}

// watch runs a Checker for d of virtual time and returns its changes, each with its time and its detail.
func watch(t *testing.T, c *Checker, d time.Duration) (changes []string, last Changed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	begin := time.Now()
	c.Run(ctx, func(ch Changed) bool {
		changes = append(changes, fmt.Sprintf("%v %v %s", time.Since(begin), ch.State, ch.Detail()))
		last = ch
		return true
	})
	return changes, last
}

func TestSeveralChecks(t *testing.T) {
	tests := []struct {
		name    string
		require int
		plans   []string
		want    []string
	}{
		{"all pass", 2, []string{"+", "+"}, []string{"20ms healthy b: fine (2 of 2 checks pass)"}},
		{"any passes", 1, []string{"-", "+"}, []string{"20ms healthy b: fine (1 of 2 checks pass)"}},
		{"all are required and one fails", 2, []string{"-", "+"}, []string{"10ms unhealthy a: bad 0 (0 of 2 checks pass)"}},
		{"none passes", 1, []string{"-", "-"}, []string{"20ms unhealthy a: bad 0 (0 of 2 checks pass)"}},
		{"the first that fails is named, with its last failure", 1, []string{"+-", "--"}, []string{
			"10ms healthy a: fine (1 of 2 checks pass)", "1.01s unhealthy a: bad 1 (0 of 2 checks pass)",
		}},
		{"the first that fails is not the one that decided", 2, []string{"++-", "+-", "+++-"}, []string{
			"20ms healthy b: fine (2 of 3 checks pass)", // c has no verdict yet
			"2.01s unhealthy a: bad 2 (1 of 3 checks pass)",
		}},
		{"two of three, one hangs", 2, []string{"+", ".", "+"}, []string{"30ms healthy c: fine (2 of 3 checks pass)"}},
		{"there and back", 2, []string{"+-+", "+"}, []string{
			"20ms healthy b: fine (2 of 2 checks pass)", "1.01s unhealthy a: bad 1 (1 of 2 checks pass)", "2.01s healthy a: fine (2 of 2 checks pass)",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var plans []*plan
				for _, text := range tt.plans {
					plans = append(plans, &plan{text: text})
				}
				changes, last := watch(t, New(several(tt.require, plans...), quiet()), 2500*time.Millisecond)
				equal(t, "changes", changes, tt.want)
				for i, s := range last.Checks {
					if s.Name != string(rune('a'+i)) || s.State != Unknown && s.Took < plans[i].takes {
						t.Errorf("status of check %d: %+v", i, s)
					}
				}
				for i, p := range plans {
					if p.active != 0 {
						t.Errorf("check %d: a run is left behind", i)
					}
				}
			})
		})
	}
}

// A check whose last run passed can still be unhealthy: what is shown is why it is.
func TestWhatIsShownIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := several(1, &plan{text: "-+"}, &plan{text: "+-"})
		cfg.Checks[0].Rise = 100
		changes, last := watch(t, New(cfg, quiet()), 1500*time.Millisecond)
		equal(t, "changes", changes, []string{"20ms healthy b: fine (1 of 2 checks pass)", "1.02s unhealthy a: bad 0 (0 of 2 checks pass)"})
		if first := last.Checks[0]; !first.Result.OK || first.State != Unhealthy || last.Result.OK || last.Check != "a" {
			t.Errorf("%+v, want the last run of a to have passed, and its failure to be shown", last)
		}
	})
}

func TestSeveralChecksAreLoggedEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, hook := logtest.NewNullLogger()
		watch(t, New(several(1, &plan{text: "+-"}, &plan{text: "+++-"}), logrus.NewEntry(logger)), 3500*time.Millisecond)
		var got []string
		for _, e := range hook.AllEntries() {
			got = append(got, fmt.Sprint(e.Level, " ", e.Data["event"], " ", e.Data["check"], " ", e.Data["from"], ">", e.Data["to"], " ", e.Data["reason"], " ", e.Data["passing"]))
		}
		equal(t, "log", got, []string{
			"info CheckChanged a unknown>healthy passed <nil>",
			"info HealthChanged a unknown>healthy passed 1",
			"info CheckChanged b unknown>healthy passed <nil>",
			"warning CheckChanged a healthy>unhealthy failed <nil>",
			"warning CheckFailed a <nil>><nil> failed <nil>", // in other words than before
			"warning CheckChanged b healthy>unhealthy failed <nil>",
			"warning HealthChanged a healthy>unhealthy failed 0",
		})
	})
}

func TestJitterDelaysTheFirstRunOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := []*plan{{text: "+"}, {text: "+"}}
		cfg := several(2, plans...)
		cfg.Checks[0].Jitter, cfg.Checks[1].Jitter = 10*time.Second, 20*time.Second
		c := New(cfg, quiet())
		for _, m := range c.members {
			m.random = func(below time.Duration) time.Duration { return below / 4 }
		}
		begin := time.Now()
		watch(t, c, 8*time.Second)
		for i, want := range []time.Duration{2500 * time.Millisecond, 5 * time.Second} {
			if first, next := plans[i].began[0].Sub(begin), plans[i].began[1].Sub(plans[i].began[0]); first != want || next != time.Second {
				t.Errorf("check %d: first run after %v, the next %v later; want %v and 1s", i, first, next, want)
			}
		}
	})
}

func TestUpTo(t *testing.T) {
	if upTo(0) != 0 {
		t.Error("no jitter is none")
	}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := upTo(time.Second)
		if d < 0 || d >= time.Second {
			t.Fatalf("%v is not below 1s", d)
		}
		seen[d] = true
	}
	if len(seen) < 900 {
		t.Errorf("%d different values of 1000", len(seen))
	}
}

func TestNow(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name   string
		jitter time.Duration
		asked  []time.Duration // since the start of Run
		want   string          // when the runs of the check, which take 100 ms each, begin within 2.5 s
	}{
		{"unasked", 0, nil, "0s 1s 2s"},
		{"in a pause", 0, []time.Duration{500 * ms}, "0s 500ms 1.5s"},
		{"in a run, which counts", 0, []time.Duration{1050 * ms}, "0s 1s 2s"},
		{"several times", 0, []time.Duration{500 * ms, 500 * ms, 510 * ms, 590 * ms}, "0s 500ms 1.5s"},
		{"again", 0, []time.Duration{500 * ms, 700 * ms}, "0s 500ms 700ms 1.7s"},
		{"before the first run", time.Minute, []time.Duration{200 * ms}, "200ms 1.2s 2.2s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &plan{text: "+"}
				cfg := several(1, p)
				cfg.Checks[0].Jitter, p.takes = tt.jitter, 100*ms
				c := New(cfg, quiet())
				c.members[0].random = func(below time.Duration) time.Duration { return below }
				begin := time.Now()
				for _, at := range tt.asked {
					time.AfterFunc(at, c.Now)
				}
				watch(t, c, 2450*ms)
				var got []string
				for _, at := range p.began {
					got = append(got, at.Sub(begin).String())
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("runs at %v, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestNowAsksEveryCheckAndNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := []*plan{{text: "+"}, {text: "+"}, {text: "+"}}
		c := New(several(3, plans...), quiet())
		c.Now() // nobody runs yet
		c.Now()
		time.AfterFunc(500*time.Millisecond, c.Now)
		watch(t, c, 900*time.Millisecond)
		for i, p := range plans {
			if len(p.began) != 2 {
				t.Errorf("check %d ran %d times, want 2", i, len(p.began))
			}
		}
	})
}

// While emit blocks, each check ends the run it is in and waits: it neither piles up runs nor goes on unheard.
func TestSeveralChecksWaitWhileEmitBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := []*plan{{text: "+"}, {text: "+"}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		New(several(1, plans...), quiet()).Run(ctx, func(Changed) bool {
			time.Sleep(20 * time.Second)
			return true
		})
		for i, p := range plans {
			if n := len(p.began); n < 10 || n > 13 {
				t.Errorf("check %d ran %d times in 30s of which 20s were blocked, want about 11", i, n)
			}
		}
	})
}

func TestStopEndsChecksThatWaitToBeHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := []*plan{{text: "+"}, {text: "+"}, {text: "."}}
		c := New(several(1, plans...), quiet())
		if err := c.Run(t.Context(), func(Changed) bool {
			time.Sleep(100 * time.Millisecond) // the second one waits by now, the third one runs
			return false
		}); err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
		if plans[2].active != 0 {
			t.Error("a run is left behind")
		}
	})
}

// TestManyServicesAtOnce has 200 services with three checks each.
func TestManyServicesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		changes := make(chan Changed, 1000)
		done := make(chan error)
		for range 200 {
			c := New(several(2, &plan{text: "+"}, &plan{text: "+-"}, &plan{text: "."}), quiet())
			go func() { done <- c.Run(ctx, func(ch Changed) bool { changes <- ch; return true }) }()
		}
		for range 200 {
			<-done
		}
		if len(changes) != 400 { // healthy by two, and then not
			t.Errorf("%d changes, want 400", len(changes))
		}
	})
}

func TestWatchIsToldOfEveryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := logtest.NewNullLogger()
		c := New(several(1, &plan{text: "+-+"}), logrus.NewEntry(log))
		var told []string
		c.Watch(func(r Ran) {
			told = append(told, fmt.Sprintf("%s %s %v %v %v", r.Service, r.Name, r.State, r.Result.OK, r.Took))
		})
		changes, _ := watch(t, c, 2*testCheck.Interval+20*time.Millisecond)
		want := []string{"apex a healthy true 10ms", "apex a unhealthy false 10ms", "apex a healthy true 10ms"}
		if !slices.Equal(told[:min(3, len(told))], want) || len(changes) != 3 {
			t.Errorf("told %q and changed %q, want %q first", told, changes, want)
		}
	})
}
