// Package vclock is a virtual clock: things are put down for an instant and happen in order, and between two of them no time
// passes. A run of it is as fast as what happens in it, and equal schedules run equally.
package vclock

import "time"

// Clock runs what was put down for later. It is for one goroutine.
type Clock struct {
	now   time.Time
	seq   uint64
	queue []*Timer // a heap by due, then by seq
	free  []*Timer
}

// Timer is something that is put down for an instant.
type Timer struct {
	due   time.Time
	seq   uint64
	f     func()
	place int  // in the queue; -1 outside
	kept  bool // somebody may stop it: it is not used again
}

// New makes a clock that shows start.
func New(start time.Time) *Clock { return &Clock{now: start} }

// Now is the present instant.
func (c *Clock) Now() time.Time { return c.now }

// At has f happen at t, or at the present instant if that is past, after all that was put down for it before.
func (c *Clock) At(t time.Time, f func()) { c.add(t, f) }

// After has f happen in d from now.
func (c *Clock) After(d time.Duration, f func()) { c.add(c.now.Add(d), f) }

// Timer is At for what may be called off.
func (c *Clock) Timer(t time.Time, f func()) *Timer {
	e := c.add(t, f)
	e.kept = true
	return e
}

// Stop calls a Timer off. That of one that has happened, of one that was called off, and of nil does nothing.
func (c *Clock) Stop(t *Timer) {
	if t != nil && t.place >= 0 {
		c.remove(t.place)
		t.f = nil
	}
}

// Run lets everything happen that is due until end, and sets the clock to it.
func (c *Clock) Run(end time.Time) {
	for len(c.queue) > 0 && !c.queue[0].due.After(end) {
		c.next()
	}
	if c.now.Before(end) {
		c.now = end
	}
}

// Next is when the next thing is due; false if there is none.
func (c *Clock) Next() (time.Time, bool) {
	if len(c.queue) == 0 {
		return time.Time{}, false
	}
	return c.queue[0].due, true
}

func (c *Clock) next() {
	e := c.queue[0]
	c.remove(0)
	c.now = e.due
	f := e.f
	e.f = nil
	if !e.kept {
		c.free = append(c.free, e)
	}
	f()
}

func (c *Clock) add(t time.Time, f func()) *Timer {
	if t.Before(c.now) {
		t = c.now
	}
	c.seq++
	var e *Timer
	if n := len(c.free); n > 0 {
		e, c.free = c.free[n-1], c.free[:n-1]
	} else {
		e = &Timer{}
	}
	*e = Timer{due: t, seq: c.seq, f: f, place: len(c.queue)}
	c.queue = append(c.queue, e)
	c.up(e.place)
	return e
}

func (c *Clock) less(i, j int) bool {
	a, b := c.queue[i], c.queue[j]
	if d := a.due.Compare(b.due); d != 0 {
		return d < 0
	}
	return a.seq < b.seq
}

func (c *Clock) swap(i, j int) {
	c.queue[i], c.queue[j] = c.queue[j], c.queue[i]
	c.queue[i].place, c.queue[j].place = i, j
}

func (c *Clock) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !c.less(i, parent) {
			return
		}
		c.swap(i, parent)
		i = parent
	}
}

func (c *Clock) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(c.queue); child++ {
			if c.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		c.swap(i, least)
		i = least
	}
}

func (c *Clock) remove(i int) {
	last := len(c.queue) - 1
	e := c.queue[i]
	c.swap(i, last)
	c.queue[last] = nil
	c.queue = c.queue[:last]
	e.place = -1
	if i < last {
		c.down(i)
		c.up(i)
	}
}
