package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"exazk/vagrant/lab"
	"exazk/vagrant/probe/report"
	"exazk/vagrant/probe/timeline"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestScenariosAreTold(t *testing.T) {
	names, titles := map[string]bool{}, map[string]bool{}
	for _, s := range scenarios() {
		if names[s.name] || titles[s.title] || s.name == "" || s.title == "" || s.what == "" {
			t.Errorf("%q, %q: a name twice or nothing said", s.name, s.title)
		}
		names[s.name], titles[s.title] = true, true
		waits := false
		for _, st := range s.during {
			if st.do == nil || st.hold < 0 || st.hold > 0 && st.until == nil && st.throughout == nil && !s.limits.manyUpdates {
				t.Errorf("%s, %q: a step does nothing, or waits without looking", s.name, st.text)
			}
			waits = waits || st.until != nil || st.throughout != nil
		}
		if !waits && !s.limits.manyUpdates {
			t.Errorf("%s: nothing is waited for", s.name)
		}
		if (s.limits.gap > 0) != (s.limits.bound != "") || (s.limits.steady > 0) == s.fabric {
			t.Errorf("%s: limits %+v", s.name, s.limits)
		}
		if s.standby && !s.anycast || s.fabric && !s.standby {
			t.Errorf("%s: standby backups have nothing to be compared with, or nobody plays it", s.name)
		}
		if s.ensemble && s.anycast {
			t.Errorf("%s: the baseline has no ZooKeeper", s.name)
		}
	}
}

func failoverReport() *report.Report {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &report.Report{Began: at, Ended: at.Add(3 * time.Second), Series: []report.Series{{
		VIP: netip.MustParseAddr("10.20.255.1"), Kind: "udp", Every: probeEvery, Sent: 1000, Lost: 100, Answered: 900,
		Turns:  []report.Turn{{Node: "lb1", From: at, To: at.Add(time.Second), Answered: 500}, {Node: "lb2", From: at.Add(1200 * time.Millisecond), To: at.Add(2 * time.Second), Answered: 400}},
		Losses: []report.Loss{{From: at.Add(time.Second), To: at.Add(1200 * time.Millisecond), Lost: 100, Gap: 200 * time.Millisecond}},
	}}}
}

func sample() results {
	return results{Machine: "a test, 2 processors", Runs: []result{
		{Scenario: "maintenance-enter", Variant: exazk, Victim: "lb1", Sent: 3000, Steady: 1234 * time.Millisecond, Updates: [2]int{1, 1}},
		{Scenario: "maintenance-enter", Variant: exazk, Victim: "lb2", Sent: 2990, Skipped: 10, Steady: time.Second, Updates: [2]int{1, 1}},
		{Scenario: "maintenance-enter", Variant: exazk, Victim: "lb2", Repeat: true, Sent: 3000, Steady: time.Second, Updates: [2]int{1, 1}},
		{Scenario: "check-failure", Variant: anycast, Victim: "lb1", Sent: 3000, Lost: 1000, Gap: 700 * time.Millisecond, Report: failoverReport()},
		{Scenario: "check-failure", Variant: exazk, Victim: "lb1", Sent: 3000, Lost: 80, Gap: 240 * time.Millisecond, Steady: 2 * time.Second, Updates: [2]int{2, 2}},
		{Scenario: "check-failure", Variant: exazk, Victim: "lb2", Sent: 3000, Lost: 100, Gap: 1500 * time.Millisecond, Steady: 7 * time.Second,
			Updates: [2]int{3, 2}, Report: failoverReport(), Marks: []timeline.Mark{{At: failoverReport().Began.Add(time.Second), Text: "web server of lb2 dies"}}},
		{Scenario: "ensemble-frozen", Variant: exazk, Victim: "lb1", Sent: 3000, Updates: [2]int{0, 0}, Notes: []string{"1 of 3 sessions were over"}},
		{Scenario: "host-lost", Variant: exazk, Victim: "lb1", Error: "not within 1m0s: 10.20.255.1 has no route\nand more"},
	}}
}

func TestPage(t *testing.T) {
	got := page(sample(), scenarios())
	path := filepath.Join("testdata", "failover.md")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; the page differs from %s, see what \"go test -update\" makes of it:\n%s", err, path, got)
	}
}

func TestViolations(t *testing.T) {
	want := []string{
		"check-failure (exazk, run 2, lb2): longest gap 1.5s, want at most 1.3s (check: 1 s + 0.2 s)",
		"check-failure (exazk, run 2, lb2): steady after 7s, want at most 5s",
		"check-failure (exazk, run 2, lb2): its own ToR heard 3 routes announced and withdrawn, want at most 2",
		"host-lost (exazk, run 1, lb1): not within 1m0s: 10.20.255.1 has no route / and more",
	}
	if got := sample().violations(scenarios()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one := results{Runs: []result{{Scenario: "maintenance-leave", Variant: exazk, Victim: "lb3", Lost: 1, Gap: 4 * time.Millisecond, Updates: [2]int{1, 2}}}}
	want = []string{
		"maintenance-leave (exazk, run 1, lb3): 1 probes lost, longest gap 4ms; want none",
		"maintenance-leave (exazk, run 1, lb3): another ToR heard 2 routes announced and withdrawn, want at most 1",
	}
	if got := one.violations(scenarios()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A later call about some scenarios must leave the results of the others where they are.
// Standby backups may lose as much as the baseline does and 20 ms, by the longest gap of all runs.
func TestStandbyIsComparedWithAnycast(t *testing.T) {
	played := func(gaps ...time.Duration) results {
		r := results{Runs: []result{{Scenario: "host-lost", Variant: anycast, Gap: 4 * time.Millisecond}, {Scenario: "host-lost", Variant: anycast, Gap: 7 * time.Millisecond}}}
		for _, gap := range gaps {
			r.Runs = append(r.Runs, result{Scenario: "host-lost", Variant: standby, Lost: 1, Gap: gap})
		}
		return r
	}
	good, bad := played(27*time.Millisecond, 0), played(0, 28*time.Millisecond)
	if all := good.violations(scenarios()); len(all) > 0 {
		t.Errorf("as much as is allowed: %q", all)
	}
	want := "host-lost (standby): longest gap 28ms, want at most 27ms: that of anycast and 20ms"
	if all := bad.violations(scenarios()); len(all) != 1 || all[0] != want {
		t.Errorf("got %q, want %q", all, want)
	}
	text := string(page(bad, scenarios()))
	if row := "| [Host lost](#host-lost) | 2 | 1 (2) | 28 ms | 2 | 0 (0) | 7 ms |"; !strings.Contains(strings.ReplaceAll(text, "**0**", "0 (0)"), row) {
		t.Errorf("no row %q in\n%s", row, text)
	}
}

func TestResultsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "r.json")
	if got, err := readResults(path); err != nil || len(got.Runs) > 0 {
		t.Errorf("of a file that does not exist: %+v, %v", got, err)
	}
	r := sample()
	r.replace("check-failure", exazk, []result{{Scenario: "check-failure", Variant: exazk, Victim: "lb3"}})
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readResults(path)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("read %+v, %v, want %+v", got, err, r)
	}
	if n, m := len(got.of("check-failure", exazk)), len(got.of("check-failure", anycast)); n != 1 || m != 1 || len(got.Runs) != 7 {
		t.Errorf("%d and %d runs of %d", n, m, len(got.Runs))
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readResults(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("of half a file: %v", err)
	}
}

func TestPageWithoutARun(t *testing.T) {
	dir := t.TempDir()
	raw := filepath.Join(dir, "r.json")
	if err := sample().write(raw); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-page", "-out", dir, "-json", raw}, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "failover.md"))
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "failover", "*"))
	if err != nil || len(pictures) != 2 {
		t.Errorf("pictures %v, %v, want those of the two runs with a report", pictures, err)
	}
	for _, p := range pictures {
		if !strings.Contains(string(text), "(failover/"+filepath.Base(p)+")") {
			t.Errorf("the page does not show %s", p)
		}
	}
}

func TestStarved(t *testing.T) {
	for skipped, want := range map[int]bool{0: false, 50: false, 51: true, 9000: true} {
		if got := (result{Sent: 10000, Skipped: skipped}).starved(); got != want {
			t.Errorf("%d skipped of 10000: %v, want %v", skipped, got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"more"}, {"-only", "("}, {"-runs", "-1"}, {"-parallel", "0"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, %q, want 2 and a reason", args, code, stderr.String())
		}
	}
	var stderr bytes.Buffer
	args := []string{"-only", "no-such-scenario", "-json", filepath.Join(t.TempDir(), "r.json")}
	if code := run(t.Context(), args, &stderr); code != 1 || !strings.Contains(stderr.String(), "no scenario") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestJobs(t *testing.T) {
	of := func(args ...string) map[string]int {
		o, err := parse(args, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, j := range o.jobs() {
			got[string(j.variant)+" "+j.scenario.name] = j.runs
		}
		return got
	}
	all := of()
	for name, want := range map[string]int{"exazk upgrade": 20, "exazk leader-frozen": 20, "exazk check-failure": 5, "anycast check-failure": 5,
		"exazk flap-long": 1, "anycast flap-long": 1, "anycast upgrade": 0, "anycast zookeeper-outage": 0,
		"standby host-lost": 5, "standby check-failure": 0, "standby host-lost-alone": 5, "anycast host-lost-alone": 5, "exazk host-lost-alone": 0} {
		if all[name] != want {
			t.Errorf("%s: %d runs, want %d", name, all[name], want)
		}
	}
	if want := map[string]int{"anycast host-lost": 3}; !reflect.DeepEqual(of("-runs", "3", "-only", "^host-lost-anycast$"), want) {
		t.Errorf("got %v, want %v", of("-runs", "3", "-only", "^host-lost-anycast$"), want)
	}
}

func TestAnycastConfiguration(t *testing.T) {
	const configs = "../../configs"
	confs, err := anycastConfs(configs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range lab.Balancers() {
		conf := confs(i + 1)
		for _, want := range []string{"processes [ healthcheck ];", "--disable " + disabled + " ", "--ip 10.20.255.1/32 --ip 10.20.255.2/32 --ip 10.20.255.3/32;"} {
			if !strings.Contains(conf, want) {
				t.Errorf("node %d: no %q in %s", i+1, want, conf)
			}
		}
		_, settings, _ := strings.Cut(conf, "\n\n") // without the comment at the top
		if strings.Contains(settings, "exazk") || strings.Contains(conf, "neighbor-changes") {
			t.Errorf("node %d: exazk is left in %s", i+1, settings)
		}
		if _, err := os.Stat("/usr/sbin/exabgp"); err != nil {
			t.Skip("exabgp is not installed")
		}
		path := filepath.Join(t.TempDir(), "exabgp.conf")
		if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("/usr/sbin/exabgp", "--test", path).CombinedOutput(); err != nil {
			t.Errorf("node %d: %v\n%s", i+1, err, out)
		}
	}
	if _, err := anycastConf("neighbor 192.0.2.1 { }"); err == nil {
		t.Error("another file was taken for a sample")
	}
}

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := &take{ctx: t.Context(), variant: exazk, victim: "lb2"}
		start := time.Now()
		reached := func(after time.Duration) func(*take) error {
			return func(*take) error {
				if time.Since(start) < after {
					return errors.New("not yet")
				}
				return nil
			}
		}
		did := 0
		act := func(*take) error { did++; return nil }
		waited, err := tk.steps([]step{
			{"exazk on LB stops", act, reached(2 * time.Second), time.Second, reached(0)},
			{"it starts", act, reached(7 * time.Second), 0, nil},
			{do: act},
		})
		// The first is reached after 2 s and held for 1 s; then the second takes the 4 s that are left.
		if err != nil || waited != 4*time.Second || did != 3 {
			t.Errorf("waited %v, %v, %d done", waited, err, did)
		}
		if len(tk.marks) != 2 || tk.marks[0].Text != "exazk on lb2 stops" || tk.marks[1].At.Sub(tk.marks[0].At) != 3*time.Second {
			t.Errorf("marks %+v", tk.marks)
		}
	})
}

func TestStepsFail(t *testing.T) {
	broken := errors.New("broken")
	late := func(d time.Duration) func(*take) error { // works for d, then no longer
		var since time.Time
		return func(*take) error {
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) >= d {
				return broken
			}
			return nil
		}
	}
	for name, st := range map[string]step{
		"at once":      {do: late(0)},
		"never there":  {text: "here", until: late(0)},
		"leaves again": {text: "here", hold: 10 * time.Second, throughout: late(5 * time.Second)},
	} {
		synctest.Test(t, func(t *testing.T) {
			tk := &take{ctx: t.Context(), variant: exazk, victim: "lb1"}
			if _, err := tk.steps([]step{st}); !errors.Is(err, broken) || st.text != "" && !strings.Contains(err.Error(), st.text) {
				t.Errorf("%s: %v, want what was broken and where", name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		tk := &take{ctx: ctx, variant: exazk, victim: "lb1"}
		start := time.Now()
		_, err := tk.steps([]step{{hold: time.Hour, throughout: late(2 * time.Hour)}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("broken off: %v after %v", err, time.Since(start))
		}
	})
}
