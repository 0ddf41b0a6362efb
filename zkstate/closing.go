package zkstate

import (
	"slices"
	"time"
)

// closing is the end of a Machine: what is held is deleted, and read back.
type closing struct {
	until time.Time
	left  []*held
}

// held is a node that may be ours.
type held struct {
	path string
	busy bool
	retry
	// Only where a Machine goes on without it:
	over  bool // it is no longer looked at
	stays bool // it is ours, and could not be deleted at the first try
}

// stop begins the end. What may be ours goes first, because the client's own closing does nothing while it has no
// connection, and leaves everything behind where the server does not answer.
func (m *Machine) stop(abandon bool) {
	if abandon || m.closing == nil && !m.up {
		m.closing = &closing{}
		return
	}
	if m.closing != nil {
		return
	}
	m.forgetCalls()
	m.closing = &closing{until: m.now.Add(closeWithin)}
	for _, s := range m.services {
		for _, c := range s.own {
			m.closing.left = append(m.closing.left, &held{path: c.path})
		}
	}
	for _, s := range m.services {
		m.closing.left = append(m.closing.left, &held{path: s.record.path})
	}
	for _, h := range m.leaving {
		m.closing.left = append(m.closing.left, &held{path: h.path})
	}
}

// interrupted forgets what was under way when the connection was lost.
func (c *closing) interrupted() {
	for _, h := range c.left {
		h.busy = false
	}
}

// pumpClosing deletes what is left.
func (m *Machine) pumpClosing() {
	c := m.closing
	if len(c.left) == 0 || !m.now.Before(c.until) {
		for _, h := range c.left {
			m.log.WithField("path", h.path).Warn("it is not known whether this is given up; if not, it stays until the session expires")
		}
		m.out.Done = true
		return
	}
	m.later(c.until)
	for _, h := range c.left {
		switch {
		case h.busy || !m.up:
		case !h.due(m.now):
			m.later(h.at)
		default:
			m.giveUp(h)
		}
	}
}

// giveUp looks whether a node is ours and deletes it until it is not: the last look is the proof.
func (m *Machine) giveUp(h *held) {
	h.busy = true
	again := func(err error) {
		h.busy = false
		if err != nil {
			h.failed(m.now)
		}
	}
	m.call(nil, Call{Op: OpExists, Path: h.path}, func(_ *pending, res Result) {
		switch {
		case res.Err != nil:
			again(res.Err)
		case !res.Found || res.Stat.Owner != m.id:
			m.closing.left = slices.DeleteFunc(m.closing.left, func(o *held) bool { return o == h })
		default:
			m.call(nil, Call{Op: OpDelete, Path: h.path}, func(_ *pending, res Result) { again(res.Err) })
		}
	})
}
