package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"exazk/vagrant/probe/report"
)

// TestTracker plays a series of probes, one each 10 ms, that time out after 35 ms.
func TestTracker(t *testing.T) {
	type ev struct {
		at   int    // ms
		kind string // send, or the name of the node that answers
		n    uint64
	}
	// sends n probes, each answered by node 1 ms later
	answered := func(from, n int, node string) (evs []ev) {
		for i := from; i < from+n; i++ {
			evs = append(evs, ev{10 * i, "send", 0}, ev{10*i + 1, node, uint64(i)})
		}
		return evs
	}
	lost := func(from, n int) (evs []ev) {
		for i := from; i < from+n; i++ {
			evs = append(evs, ev{10 * i, "send", 0})
		}
		return evs
	}
	tests := []struct {
		name   string
		events []ev
		want   string
		losses string
		turns  string
	}{
		{"nothing", nil, "0/0/0 late 0 dup 0 gap 0s", "[]", "[]"},
		{"all answered", answered(0, 10, "lb1"), "10/10/0 late 0 dup 0 gap 0s", "[]", "[lb1 0-90 10]"},
		{"none answered", lost(0, 10), "10/0/10 late 0 dup 0 gap 90ms", "[0-90 10]", "[]"},
		{"a gap between", slices.Concat(answered(0, 3, "lb1"), lost(3, 4), answered(7, 3, "lb2")),
			"10/6/4 late 0 dup 0 gap 50ms", "[20-70 4]", "[lb1 0-20 3 lb2 70-90 3]"},
		{"a gap at the start", slices.Concat(lost(0, 3), answered(3, 1, "lb1")), "4/1/3 late 0 dup 0 gap 30ms", "[0-30 3]", "[lb1 30-30 1]"},
		{"a gap at the end", slices.Concat(answered(0, 2, "lb1"), lost(2, 3)), "5/2/3 late 0 dup 0 gap 30ms", "[10-40 3]", "[lb1 0-10 2]"},
		{"the longer of two gaps", slices.Concat(answered(0, 1, "a"), lost(1, 3), answered(4, 1, "a"), lost(5, 1), answered(6, 1, "a")),
			"7/3/4 late 0 dup 0 gap 40ms", "[0-40 3 40-60 1]", "[a 0-60 3]"},
		{"duplicates", append(answered(0, 2, "a"), ev{12, "a", 0}, ev{13, "b", 1}, ev{14, "b", 1}),
			"2/2/0 late 0 dup 3 gap 0s", "[]", "[a 0-10 2]"},
		{"answers that overtake make no turn", []ev{{0, "send", 0}, {10, "send", 0}, {20, "send", 0}, {21, "b", 2}, {22, "a", 0}, {23, "a", 1}},
			"3/3/0 late 0 dup 0 gap 0s", "[]", "[a 0-10 2 b 20-20 1]"},
		{"just in time", []ev{{0, "send", 0}, {35, "a", 0}}, "1/1/0 late 0 dup 0 gap 0s", "[]", "[a 0-0 1]"},
		{"too late, not settled", []ev{{0, "send", 0}, {36, "a", 0}}, "1/0/1 late 1 dup 0 gap 0s", "[0-0 1]", "[]"},
		{"too late, settled", append(lost(0, 9), ev{81, "a", 0}, ev{82, "a", 0}), "9/0/9 late 2 dup 0 gap 80ms", "[0-80 9]", "[]"},
		{"an answer to nothing", append(answered(0, 1, "a"), ev{5, "a", 7}), "1/1/0 late 0 dup 0 gap 0s", "[]", "[a 0-0 1]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			tr := newTracker(report.Series{Timeout: 35 * time.Millisecond})
			sent := uint64(0)
			for _, e := range tt.events {
				now := start.Add(time.Duration(e.at) * time.Millisecond)
				if e.kind != "send" {
					tr.answer(e.n, now, e.kind)
					continue
				}
				if n := tr.send(now); n != sent {
					t.Fatalf("probe number %d, want %d", n, sent)
				}
				sent++
			}
			s := tr.finish()
			ms := func(at time.Time) int64 { return at.Sub(start).Milliseconds() }
			losses, turns := []string{}, []string{}
			for _, l := range s.Losses {
				losses = append(losses, fmt.Sprintf("%d-%d %d", ms(l.From), ms(l.To), l.Lost))
				if l.Gap != l.To.Sub(l.From) {
					t.Errorf("gap %v of %+v", l.Gap, l)
				}
			}
			for _, u := range s.Turns {
				turns = append(turns, fmt.Sprintf("%s %d-%d %d", u.Node, ms(u.From), ms(u.To), u.Answered))
			}
			got := fmt.Sprintf("%d/%d/%d late %d dup %d gap %v", s.Sent, s.Answered, s.Lost, s.Late, s.Duplicates, s.LongestGap)
			if got != tt.want || fmt.Sprint(losses) != tt.losses || fmt.Sprint(turns) != tt.turns {
				t.Errorf("\n got %s %v %v\nwant %s %v %v", got, losses, turns, tt.want, tt.losses, tt.turns)
			}
			if (s.FirstLost != nil) != (s.Lost > 0) || (s.LastLost != nil) != (s.Lost > 0) {
				t.Errorf("first lost %v, last lost %v of %d", s.FirstLost, s.LastLost, s.Lost)
			}
		})
	}
}

func TestTrackerIsBounded(t *testing.T) {
	tr := newTracker(report.Series{Timeout: 10 * time.Millisecond})
	now := time.Unix(0, 0)
	const probes = 20 * report.MaxEntries
	for i := range probes {
		n := tr.send(now)
		if i%4 != 0 {
			tr.answer(n, now, fmt.Sprint(i))
		}
		if len(tr.open) > 12 {
			t.Fatalf("%d open probes", len(tr.open))
		}
		now = now.Add(time.Millisecond)
	}
	s := tr.finish()
	if s.Lost != probes/4 || s.Answered != probes-probes/4 {
		t.Errorf("lost %d, answered %d", s.Lost, s.Answered)
	}
	if len(s.Losses) != report.MaxEntries || len(s.Turns) != report.MaxEntries {
		t.Errorf("%d losses and %d turns listed, want %d of each", len(s.Losses), len(s.Turns), report.MaxEntries)
	}
}

func TestTrackerWaiting(t *testing.T) {
	tr := newTracker(report.Series{Timeout: time.Second})
	now := time.Unix(0, 0)
	want := func(what string, at time.Time, want bool) {
		t.Helper()
		if got := tr.waiting(at); got != want {
			t.Errorf("%s: waiting %v, want %v", what, got, want)
		}
	}
	want("nothing sent", now, false)
	n := tr.send(now)
	want("sent", now, true)
	want("timed out", now.Add(2*time.Second), false)
	tr.answer(n, now, "a")
	want("answered", now, false)
}
