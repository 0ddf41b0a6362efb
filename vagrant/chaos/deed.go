package main

import (
	"math"
	"slices"
	"sync"
	"time"

	"exazk/sim/fault"
)

// never is an instant that has not come.
const never = time.Duration(math.MaxInt64)

// deed is a fault as it was carried out. All instants are since the start of the round. Its effect began somewhere between
// began and begun and went somewhere between ending and ended; in between it was certain.
type deed struct {
	fault.Fault
	began, begun, ending, ended time.Duration // never, if that has not happened
	failed                      bool          // it could not be carried out, or only in part
}

// all is the time in which it may have had an effect.
func (d *deed) all() span { return span{d.began, d.ended} }

// sure is the time in which it had its effect; empty if that is not certain.
func (d *deed) sure() span {
	if d.failed {
		return span{}
	}
	return span{d.begun, d.ending}
}

// changes are the times in which it changed something. What goes on and off by itself changes things all the time.
func (d *deed) changes() []span {
	switch d.Kind {
	case fault.FlapCheck, fault.SlowExaBGP, fault.RollEnsemble:
		return []span{d.all()}
	}
	if d.Kind.Moment() {
		return []span{d.all()}
	}
	return []span{{d.began, d.begun}, {d.ending, d.ended}}
}

// spell is a time in which a node was certainly sick. Its check fails at once, or hangs until its timeout.
type spell struct {
	node  int
	hangs bool
	span
}

// span is from one instant to another.
type span struct{ from, to time.Duration }

func (s span) meets(t span) bool     { return s.from <= t.to && t.from <= s.to }
func (s span) length() time.Duration { return s.to - s.from }

// plus makes an end later, except that never stays never.
func plus(t, d time.Duration) time.Duration {
	if t == never {
		return never
	}
	return t + d
}

// without leaves of a span what is in none of the others, in order.
func (s span) without(others []span) []span {
	left := []span{s}
	for _, o := range others {
		var next []span
		for _, l := range left {
			if !l.meets(o) {
				next = append(next, l)
				continue
			}
			if l.from < o.from {
				next = append(next, span{l.from, o.from})
			}
			if o.to < l.to {
				next = append(next, span{o.to, l.to})
			}
		}
		left = next
	}
	return left
}

// diary is what the driver did in a round. Many goroutines write into it.
type diary struct {
	mu     sync.Mutex
	deeds  []*deed
	spells []spell
}

func (y *diary) open(f fault.Fault) *deed {
	d := &deed{Fault: f, began: never, begun: never, ending: never, ended: never}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.deeds = append(y.deeds, d)
	return d
}

// note changes a deed.
func (y *diary) note(change func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	change()
}

func (y *diary) spell(s spell) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.spells = append(y.spells, s)
}

// read returns what was done by now. Deeds that have not begun are left out, and sick checks are spells as well.
func (y *diary) read() ([]deed, []spell) {
	y.mu.Lock()
	defer y.mu.Unlock()
	var deeds []deed
	spells := slices.Clone(y.spells)
	for _, d := range y.deeds {
		if d.began == never {
			continue
		}
		deeds = append(deeds, *d)
		if d.Kind == fault.SickCheck || d.Kind == fault.HangCheck {
			if s := d.sure(); s.length() > 0 {
				spells = append(spells, spell{d.Node, d.Kind == fault.HangCheck, s})
			}
		}
	}
	return deeds, spells
}

// enter notes that its beginning (change is 1) or its end (-1) begins.
func (d *deed) enter(change int, now time.Duration) {
	if change > 0 {
		d.began = min(d.began, now)
	} else {
		d.ending = min(d.ending, now)
	}
}

// leave notes that its beginning or its end is done, or a part of that. It returns whether nothing came of it at all.
func (d *deed) leave(change int, whole bool, err error, now time.Duration) bool {
	d.failed = d.failed || err != nil
	switch {
	case !whole:
	case change < 0:
		d.ended = now
	default:
		if d.begun = now; d.Kind.Moment() {
			d.ending, d.ended = now, now
		}
	}
	return d.Kind.Moment() && err != nil
}
