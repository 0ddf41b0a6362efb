package health

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var testCheck = Check{
	Name: "web", Probe: &Command{Line: "true"}, Interval: time.Second, FastInterval: 200 * time.Millisecond, Timeout: time.Second,
	Rise: 3, Fall: 2,
}

// only is a service with one check.
func only(check Check) Config { return Config{Service: "apex", Checks: []Check{check}, Require: 1} }

func TestMachineCountsResultsInARow(t *testing.T) {
	tests := []struct {
		name    string
		results string // + is a success, - a failure
		want    string // the state after each: u, H, U
	}{
		{"rise successes make it healthy", "+++", "uuH"},
		{"fall failures make it unhealthy", "--", "uU"},
		{"a failure between starts the count again", "++-+++", "uuuuuH"},
		{"a success between starts the count again", "-+--", "uuuU"},
		{"one failure does not end health", "+++-+-+-", "uuHHHHHH"},
		{"fall failures end health", "+++--", "uuHHU"},
		{"two successes do not end sickness", "--++-++", "uUUUUUU"},
		{"there and back", "--+++--+++", "uUUUHHUUUH"},
		{"a long row counts once", "+++++++--", "uuHHHHHHU"},
	}
	letters := map[State]string{Unknown: "u", Healthy: "H", Unhealthy: "U"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(testCheck)
			now, from := time.Unix(0, 0), Unknown
			var got strings.Builder
			for _, r := range tt.results {
				o := m.Step(now, now, Result{OK: r == '+'})
				if o.From != from || o.To != m.State() {
					t.Fatalf("after %q: outcome from %v to %v, want from %v to %v", got.String(), o.From, o.To, from, m.State())
				}
				from = o.To
				got.WriteString(letters[o.To])
			}
			if got.String() != tt.want {
				t.Errorf("results %s: got %s, want %s", tt.results, got.String(), tt.want)
			}
		})
	}
}

func TestMachineNextRun(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tests := []struct {
		name   string
		before string
		ok     bool
		took   time.Duration
		want   time.Duration // from the start of the run
	}{
		{"fast before the first verdict", "", true, ms(10), ms(200)},
		{"slow once healthy", "++", true, ms(10), ms(1000)},
		{"slow while healthy", "+++", true, ms(999), ms(1019)},
		{"fast once a failure is seen", "+++", false, ms(10), ms(200)},
		{"slow once unhealthy", "-", false, ms(10), ms(1000)},
		{"fast once a success is seen", "--", true, ms(10), ms(200)},
		{"a long run is followed by a short pause", "++", true, ms(5000), ms(5020)},
		{"a long run while pending too", "+++", false, ms(1000), ms(1020)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(testCheck)
			now := time.Unix(100, 0)
			for _, r := range tt.before {
				m.Step(now, now, Result{OK: r == '+'})
			}
			o := m.Step(now, now.Add(tt.took), Result{OK: tt.ok})
			if got := o.Next.Sub(now); got != tt.want {
				t.Errorf("next run %v after the start of the last, want %v", got, tt.want)
			}
		})
	}
}

func TestMachinePauseIsNeverLongerThanTheInterval(t *testing.T) {
	cfg := testCheck
	cfg.Interval, cfg.FastInterval, cfg.Rise = 5*time.Millisecond, time.Millisecond, 1
	m := NewMachine(cfg)
	now := time.Unix(0, 0)
	if got := m.Step(now, now.Add(time.Second), Result{OK: true}).Next.Sub(now); got != 1005*time.Millisecond {
		t.Errorf("next run after %v, want 1.005s", got)
	}
}

func TestMachineReportsEachNewFailureAtABoundedRate(t *testing.T) {
	cfg := testCheck
	cfg.Rise, cfg.Fall = 1, 2
	m := NewMachine(cfg)
	steps := []struct {
		at     int // seconds
		output string
		want   string // "" for none, else how many went unreported
	}{
		{0, "ok", ""},
		{1, "a", "0"},   // the first failure, nothing changed
		{2, "a", ""},    // this one changes the state: has a line of its own
		{3, "a", ""},    // as before
		{4, "b", ""},    // new, but too soon
		{5, "b", ""},    // likewise
		{60, "a", ""},   // was logged with the transition
		{61, "b", "2"},  // new, and a minute has passed
		{62, "b", ""},   // as before
		{63, "ok", ""},  // healthy again
		{64, "b", ""},   // new in this row of failures, but too soon
		{65, "ok", ""},  //
		{122, "b", "1"}, //
		{123, "c", ""},  // a transition
		{500, "c", ""},  // it was logged with the transition
		{501, "d", "0"}, //
	}
	for _, s := range steps {
		now := time.Unix(int64(s.at), 0)
		o := m.Step(now, now, Result{OK: s.output == "ok", Output: s.output})
		got := ""
		if o.Report {
			got = fmt.Sprint(o.Unreported)
		}
		if got != s.want {
			t.Errorf("%ds %q: report %q, want %q", s.at, s.output, got, s.want)
		}
	}
}

func TestNewRefusesWhatValidationMustHaveCaught(t *testing.T) {
	tests := map[string]func(*Config){
		"no check":      func(c *Config) { c.Checks = nil },
		"require none":  func(c *Config) { c.Require = 0 },
		"require more":  func(c *Config) { c.Require = 2 },
		"no probe":      func(c *Config) { c.Checks[0].Probe = nil },
		"bad pattern":   func(c *Config) { c.Checks[0].Probe = &TCP{Address: "127.0.0.1:1", Expect: "("} },
		"rise":          func(c *Config) { c.Checks[0].Rise = 0 },
		"fall":          func(c *Config) { c.Checks[0].Fall = 0 },
		"interval":      func(c *Config) { c.Checks[0].Interval = 0 },
		"fast interval": func(c *Config) { c.Checks[0].FastInterval = -1 },
		"timeout":       func(c *Config) { c.Checks[0].Timeout = 0 },
		"jitter":        func(c *Config) { c.Checks[0].Jitter = -1 },
	}
	for name, breakIt := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := recover(); !strings.HasPrefix(fmt.Sprint(r), "bug: ") {
					t.Errorf("recovered %v, want a bug", r)
				}
			}()
			cfg := only(testCheck)
			breakIt(&cfg)
			New(cfg, quiet())
		})
	}
}

func TestStateWords(t *testing.T) {
	for s, want := range map[State]string{Unknown: "unknown", Healthy: "healthy", Unhealthy: "unhealthy"} {
		if s.String() != want {
			t.Errorf("state %d is %q, want %q", s, s, want)
		}
	}
}
