// Package vclock is a virtual clock: things are put down for an instant and happen in order, and between two of them no time
// passes. A run of it is as fast as what happens in it, and equal schedules run equally.
package vclock

import "time"

// Clock runs what was put down for later. It is for one goroutine.
type Clock struct {
	start time.Time
	now   time.Time
	seq   uint64
	queue []item // a heap of four children each, by due, then by seq
	free  []*Timer
}

// item is an entry of the queue; what it is compared by is in it, and not behind the pointer.
type item struct {
	due   int64 // nanoseconds since start
	seq   uint64
	timer *Timer
}

// Timer is something that is put down for an instant.
type Timer struct {
	due   time.Time
	f     func()
	place int  // in the queue; -1 outside
	kept  bool // somebody may stop it: it is not used again
}

// New makes a clock that shows start.
func New(start time.Time) *Clock { return &Clock{start: start, now: start} }

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
	last := int64(end.Sub(c.start))
	for len(c.queue) > 0 && c.queue[0].due <= last {
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
	return c.queue[0].timer.due, true
}

func (c *Clock) next() {
	e := c.queue[0].timer
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
	e.due, e.f, e.kept = t, f, false
	c.queue = append(c.queue, item{})
	c.up(len(c.queue)-1, item{int64(t.Sub(c.start)), c.seq, e})
	return e
}

func (a *item) before(b *item) bool { return a.due < b.due || a.due == b.due && a.seq < b.seq }

func (c *Clock) put(i int, x item) {
	c.queue[i] = x
	x.timer.place = i
}

// up puts x at i, which is free, or nearer to the top.
func (c *Clock) up(i int, x item) {
	for i > 0 {
		parent := (i - 1) / 4
		if !x.before(&c.queue[parent]) {
			break
		}
		c.put(i, c.queue[parent])
		i = parent
	}
	c.put(i, x)
}

// down puts x at i, which is free, or farther from the top.
func (c *Clock) down(i int, x item) {
	for {
		first := 4*i + 1
		if first >= len(c.queue) {
			break
		}
		least := first
		for child := first + 1; child < first+4 && child < len(c.queue); child++ {
			if c.queue[child].before(&c.queue[least]) {
				least = child
			}
		}
		if !c.queue[least].before(&x) {
			break
		}
		c.put(i, c.queue[least])
		i = least
	}
	c.put(i, x)
}

func (c *Clock) remove(i int) {
	c.queue[i].timer.place = -1
	last := len(c.queue) - 1
	x := c.queue[last]
	c.queue[last] = item{}
	c.queue = c.queue[:last]
	switch {
	case i == last:
	case i > 0 && x.before(&c.queue[(i-1)/4]):
		c.up(i, x)
	default:
		c.down(i, x)
	}
}
