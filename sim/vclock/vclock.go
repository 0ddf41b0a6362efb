// Package vclock is a virtual clock: things are put down for an instant and happen in order, and between two of them no time
// passes. A run of it is as fast as what happens in it, and equal schedules run equally.
package vclock

import (
	"slices"
	"time"
)

// Clock runs what was put down for later. It is for one goroutine.
type Clock struct {
	start time.Time
	now   time.Time
	at    int64 // the same in nanoseconds since start
	// What is to come, the next one last: there are some fifty at a time, and most of what is put down is due before nearly all
	// of them, so that little has to move.
	queue []item
}

type item struct {
	due   int64 // nanoseconds since start
	f     func()
	timer *Timer // nil if nobody can stop it
}

// Timer is something that is put down for an instant and may be called off.
type Timer struct {
	due     int64
	waiting bool // in the queue
}

// New makes a clock that shows start.
func New(start time.Time) *Clock { return &Clock{start: start, now: start} }

// Now is the present instant.
func (c *Clock) Now() time.Time { return c.now }

// At has f happen at t, or at the present instant if that is past, after all that was put down for it before.
func (c *Clock) At(t time.Time, f func()) { c.add(int64(t.Sub(c.start)), f, nil) }

// After has f happen in d from now.
func (c *Clock) After(d time.Duration, f func()) { c.add(c.at+int64(d), f, nil) }

// Timer is At for what may be called off.
func (c *Clock) Timer(t time.Time, f func()) *Timer {
	e := &Timer{waiting: true}
	e.due = c.add(int64(t.Sub(c.start)), f, e)
	return e
}

// Stop calls a Timer off. That of one that has happened, of one that was called off, and of nil does nothing.
func (c *Clock) Stop(t *Timer) {
	if t == nil || !t.waiting {
		return
	}
	t.waiting = false
	i := c.before(t.due)
	for c.queue[i].timer != t {
		i++
	}
	c.queue = slices.Delete(c.queue, i, i+1)
}

// Run lets everything happen that is due until end, and sets the clock to it.
func (c *Clock) Run(end time.Time) {
	last := int64(end.Sub(c.start))
	for n := len(c.queue); n > 0 && c.queue[n-1].due <= last; n = len(c.queue) {
		c.next()
	}
	if c.now.Before(end) {
		c.now, c.at = end, last
	}
}

// Next is when the next thing is due; false if there is none.
func (c *Clock) Next() (time.Time, bool) {
	if len(c.queue) == 0 {
		return time.Time{}, false
	}
	return c.start.Add(time.Duration(c.queue[len(c.queue)-1].due)), true
}

func (c *Clock) next() {
	last := len(c.queue) - 1
	x := c.queue[last]
	c.queue[last] = item{}
	c.queue = c.queue[:last]
	if x.due != c.at {
		c.now, c.at = c.start.Add(time.Duration(x.due)), x.due
	}
	if x.timer != nil {
		x.timer.waiting = false
	}
	x.f()
}

// add puts f down and returns for when.
func (c *Clock) add(due int64, f func(), timer *Timer) int64 {
	due = max(due, c.at)
	i := c.before(due)
	c.queue = append(c.queue, item{})
	copy(c.queue[i+1:], c.queue[i:])
	c.queue[i] = item{due, f, timer}
	return due
}

// before is the place in the queue of what is put down for due now: all that comes behind it happens before.
func (c *Clock) before(due int64) int {
	i := len(c.queue)
	for i > 0 && c.queue[i-1].due <= due {
		i--
	}
	return i
}
