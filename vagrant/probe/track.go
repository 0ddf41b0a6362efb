package main

import (
	"sync"
	"time"

	"exazk/vagrant/probe/report"
)

// tracker follows the probes of one series from sending to their timeout, and counts them, in the order of sending, into
// a report.Series. Its memory is bounded by the probes of one timeout. It reads no clock. A sender and a receiver share it.
type tracker struct {
	mu     sync.Mutex
	series report.Series

	first uint64  // number of open[0]
	open  []probe // sent less than a timeout ago, answered or not, by number

	lastAnswered time.Time // when the last settled and answered probe was sent; zero before the first
	loss         *report.Loss
	lossEnd      time.Time // when the last probe of loss was sent
	turn         *report.Turn
}

// probe is one that may still be answered.
type probe struct {
	sent     time.Time
	answered bool
	node     string
	rtt      time.Duration
}

func newTracker(s report.Series) *tracker {
	s.Losses, s.Turns = []report.Loss{}, []report.Turn{} // [] in JSON
	return &tracker{series: s}
}

// send returns the number of a probe that is sent now.
func (t *tracker) send(now time.Time) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(now)
	t.series.Sent++
	t.open = append(t.open, probe{sent: now})
	return t.first + uint64(len(t.open)) - 1
}

// skip counts probes that will not be sent.
func (t *tracker) skip(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.series.Skipped += n
}

// answer counts an answer to probe n. One to a probe that was never sent is not counted.
func (t *tracker) answer(n uint64, now time.Time, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case n >= t.first+uint64(len(t.open)):
		return
	case n < t.first || now.Sub(t.open[n-t.first].sent) > t.series.Timeout:
		t.series.Late++
		return
	}
	p := &t.open[n-t.first]
	if p.answered {
		t.series.Duplicates++
		return
	}
	p.answered, p.node, p.rtt = true, node, now.Sub(p.sent)
}

// waiting says whether an answer may still come in time.
func (t *tracker) waiting(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.open {
		if !p.answered && now.Sub(p.sent) <= t.series.Timeout {
			return true
		}
	}
	return false
}

// finish settles everything and returns the result.
func (t *tracker) finish() report.Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.open {
		t.count(p)
	}
	t.first += uint64(len(t.open))
	t.open = nil
	t.endLoss(t.lossEnd)
	t.endTurn()
	return t.series
}

// progress is what is known by now: the numbers only, of the probes that are settled, and who answered last.
func (t *tracker) progress() (s report.Series, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turn != nil {
		node = t.turn.Node
	}
	return t.series, node
}

// settle counts the probes whose timeout has passed.
func (t *tracker) settle(now time.Time) {
	for len(t.open) > 0 && now.Sub(t.open[0].sent) > t.series.Timeout {
		t.count(t.open[0])
		t.open = t.open[1:]
		t.first++
	}
}

func (t *tracker) count(p probe) {
	if p.answered {
		t.countAnswered(p)
	} else {
		t.countLost(p)
	}
}

func (t *tracker) countAnswered(p probe) {
	t.series.Answered++
	t.series.MaxRTT = max(t.series.MaxRTT, p.rtt)
	t.endLoss(p.sent)
	t.lastAnswered = p.sent
	if t.turn != nil && t.turn.Node != p.node {
		t.endTurn()
	}
	if t.turn == nil {
		t.turn = &report.Turn{Node: p.node, From: p.sent}
	}
	t.turn.To = p.sent
	t.turn.Answered++
}

func (t *tracker) countLost(p probe) {
	t.series.Lost++
	if t.series.FirstLost == nil {
		t.series.FirstLost = &p.sent
	}
	t.series.LastLost = &p.sent
	if t.loss == nil {
		t.loss = &report.Loss{From: p.sent}
		if !t.lastAnswered.IsZero() {
			t.loss.From = t.lastAnswered
		}
	}
	t.loss.Lost++
	t.lossEnd = p.sent
}

func (t *tracker) endLoss(at time.Time) {
	if t.loss == nil {
		return
	}
	t.loss.To, t.loss.Gap = at, at.Sub(t.loss.From)
	t.series.LongestGap = max(t.series.LongestGap, t.loss.Gap)
	if len(t.series.Losses) < report.MaxEntries {
		t.series.Losses = append(t.series.Losses, *t.loss)
	}
	t.loss = nil
}

func (t *tracker) endTurn() {
	if t.turn != nil && len(t.series.Turns) < report.MaxEntries {
		t.series.Turns = append(t.series.Turns, *t.turn)
	}
	t.turn = nil
}
