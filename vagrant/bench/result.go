package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"exazk/vagrant/probe/report"
	"exazk/vagrant/probe/timeline"
)

// result is one run, as it is kept in the file of raw results.
type result struct {
	Scenario string        `json:"scenario"`
	Variant  variant       `json:"variant"`
	Began    time.Time     `json:"began"`
	Victim   string        `json:"victim"`
	Repeat   bool          `json:"repeat,omitempty"` // of the run before, whose prober was starved
	Sent     int           `json:"sent"`
	Lost     int           `json:"lost"`
	Skipped  int           `json:"skipped"` // probes that were not sent for want of a processor
	Gap      time.Duration `json:"gap_ns"`  // the longest of any VIP
	Steady   time.Duration `json:"steady_ns"`
	Updates  [2]int        `json:"updates"` // routes that the victim's ToR heard, and the most that one of the other ToRs heard
	Notes    []string      `json:"notes,omitempty"`
	Error    string        `json:"error,omitempty"` // what the lab did not do; the numbers are then of what was seen until it

	Report *report.Report  `json:"report,omitempty"` // of the last run only
	Marks  []timeline.Mark `json:"marks,omitempty"`
}

// starved says whether the prober could not send more than one probe in 200: with so many, "nothing lost" says little. Less
// is a moment in which this whole machine stood still.
func (r result) starved() bool { return 200*r.Skipped > r.Sent }

// results is the file of raw results.
type results struct {
	Machine string   `json:"machine"`
	Runs    []result `json:"runs"`
}

// outcome is what all runs of a scenario and variant come to. Every run counts, also one that was repeated.
type outcome struct {
	runs, repeats, failed int
	maxLost, lost, sent   int
	skipped               int
	gap, steady           time.Duration
	updates               [2]int
	notes                 []string
}

func (r results) of(name string, v variant) []result {
	return slices.DeleteFunc(slices.Clone(r.Runs), func(x result) bool { return x.Scenario != name || x.Variant != v })
}

func sum(runs []result) outcome {
	var o outcome
	for _, r := range runs {
		o.runs++
		if r.Repeat {
			o.repeats++
		}
		if r.Error != "" {
			o.failed++
		}
		o.sent += r.Sent
		o.lost += r.Lost
		o.skipped += r.Skipped
		o.maxLost = max(o.maxLost, r.Lost)
		o.gap = max(o.gap, r.Gap)
		o.steady = max(o.steady, r.Steady)
		for i, n := range r.Updates {
			o.updates[i] = max(o.updates[i], n)
		}
		for _, n := range r.Notes {
			if !slices.Contains(o.notes, n) {
				o.notes = append(o.notes, n)
			}
		}
	}
	return o
}

// faults says in what a run of exazk went beyond its limits. The baseline has none, except that it must have been played; with
// standby backups it is the limit, see beyondAnycast.
func (l limits) faults(r result) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if r.Error != "" {
		add("%s", r.Error)
	}
	if r.Variant != exazk {
		return all
	}
	if l.gap == 0 && r.Lost > 0 {
		add("%d probes lost, longest gap %v; want none", r.Lost, ms(r.Gap))
	}
	if l.gap > 0 && r.Gap > l.gap {
		add("longest gap %v, want at most %v (%s)", ms(r.Gap), l.gap, l.bound)
	}
	if r.Steady > l.steady {
		add("steady after %v, want at most %v", ms(r.Steady), l.steady)
	}
	for i, whose := range []string{"its own ToR", "another ToR"} {
		if !l.manyUpdates && r.Updates[i] > l.updates[i] {
			add("%s heard %d routes announced and withdrawn, want at most %d", whose, r.Updates[i], l.updates[i])
		}
	}
	return all
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// violations lists all faults of the scenarios, one a line.
func (r results) violations(list []scenario) []string {
	var all []string
	for _, s := range list {
		if fault := r.beyondAnycast(s); fault != "" {
			all = append(all, fmt.Sprintf("%s (%s): %s", s.name, standby, fault))
		}
		for _, v := range variants {
			for i, run := range r.of(s.name, v) {
				for _, f := range s.limits.faults(run) {
					all = append(all, fmt.Sprintf("%s (%s, run %d, %s): %s", s.name, v, i+1, run.Victim, strings.ReplaceAll(f, "\n", " / ")))
				}
			}
		}
	}
	return all
}

// beyondAnycast says in what standby backups lost more than the baseline did; "" if in nothing, or where one was not played.
func (r results) beyondAnycast(s scenario) string {
	o, a := sum(r.of(s.name, standby)), sum(r.of(s.name, anycast))
	if o.runs == 0 || a.runs == 0 || o.gap <= a.gap+overAnycast {
		return ""
	}
	return fmt.Sprintf("longest gap %v, want at most %v: that of anycast and %v", ms(o.gap), ms(a.gap+overAnycast), overAnycast)
}

// replace takes the runs of a scenario and variant out, and puts those in.
func (r *results) replace(name string, v variant, runs []result) {
	r.Runs = slices.DeleteFunc(r.Runs, func(x result) bool { return x.Scenario == name && x.Variant == v })
	r.Runs = append(r.Runs, runs...)
}

// readResults reads the file of raw results. One that does not exist holds none.
func readResults(path string) (results, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return results{}, nil
	}
	if err != nil {
		return results{}, err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return results{}, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r results) write(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile puts a file in place as a whole, making its directory.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
