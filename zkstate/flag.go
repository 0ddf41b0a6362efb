package zkstate

import (
	"bytes"
	"errors"
	"path"
	"time"

	"github.com/go-zookeeper/zk"
)

// maxFlag bounds what is read of a maintenance or failback node, in bytes.
const maxFlag = 4 << 10

const numFlags = 2

// removal is the end of one persistent node that has done its duty.
type removal struct {
	data  []byte // of the last attempt
	busy  bool
	retry retry
}

// readMaintenance reads whether the maintenance node exists, and what it says.
func (m *Machine) readMaintenance(s *service, r *read, loud bool) {
	m.readFlag(s, r, func(began time.Time, present bool, data []byte) {
		m.finish(r, MaintenanceRead{Service: s.Name, Session: m.id, Began: began, Present: present, Data: data}, loud)
	})
}

// readFailback reads whether the failback node exists, and what it says.
func (m *Machine) readFailback(s *service, r *read, loud bool) {
	m.readFlag(s, r, func(began time.Time, present bool, data []byte) {
		m.finish(r, FailbackRead{Service: s.Name, Session: m.id, Began: began, Present: present, Data: data}, loud)
	})
}

// readFlag reads whether a node exists. What it says is read after that; without a right to do so, or where it is too
// much, it says nothing.
func (m *Machine) readFlag(s *service, r *read, done func(began time.Time, present bool, data []byte)) {
	asked := r.watch.ask()
	m.call(s, Call{Op: OpExists, Path: r.path, Watch: asked}, func(p *pending, res Result) {
		if res.Err != nil {
			m.fail(r, res.Err)
			return
		}
		if r.watch.got(asked, markOf(res.Stat)) {
			r.soil(true)
		}
		if !res.Found || res.Stat.Length > maxFlag {
			done(p.sent, res.Found, nil)
			return
		}
		m.readFlagData(s, r, func(data []byte) { done(p.sent, true, data) })
	})
}

func (m *Machine) readFlagData(s *service, r *read, done func(data []byte)) {
	m.call(s, Call{Op: OpGet, Path: r.path}, func(_ *pending, res Result) {
		switch {
		case errors.Is(res.Err, zk.ErrNoNode):
			r.again()
		case errors.Is(res.Err, zk.ErrNoAuth):
			m.deny(r.path, "READ") // that it exists is what counts
			done(nil)
		case res.Err != nil:
			m.fail(r, res.Err)
		case len(res.Data) > maxFlag: // it has grown since
			m.allow(r.path, "READ")
			done(nil)
		default:
			m.allow(r.path, "READ")
			done(res.Data)
		}
	})
}

// flag is the reading of a kind of node, and what the newest said.
func (s *service) flag(f Flag) (r *read, present bool, data []byte) {
	if f == Failback {
		ev, _ := s.failback.result.(FailbackRead)
		return &s.failback, ev.Present, ev.Data
	}
	ev, _ := s.maintenance.result.(MaintenanceRead)
	return &s.maintenance, ev.Present, ev.Data
}

// pumpRemovals deletes what is wished gone and was last read as the wish describes it.
func (m *Machine) pumpRemovals(s *service) {
	for f := Maintenance; f < numFlags; f++ {
		data, wished := m.want.Remove[FlagKey{Service: s.Name, Flag: f}]
		r, present, seen := s.flag(f)
		rm := &s.removals[f]
		if rm.busy || !wished || !present || !bytes.Equal(data, seen) {
			continue
		}
		if !bytes.Equal(data, rm.data) {
			rm.data, rm.retry = data, retry{}
		}
		if !rm.retry.due(m.now) {
			m.later(rm.retry.at)
			continue
		}
		rm.busy = true
		m.remove(s, r, rm)
	}
}

// remove looks at a node once more, and deletes it where it still says the same. The version sees to it that nothing is
// written in between.
func (m *Machine) remove(s *service, r *read, rm *removal) {
	m.call(s, Call{Op: OpGet, Path: r.path}, func(_ *pending, res Result) {
		switch {
		case res.Err != nil:
			m.removed(r, rm, "get", res.Err)
		case !bytes.Equal(res.Data, rm.data):
			m.removed(r, rm, "get", nil)
			rm.retry.pause(m.now, m.cfg.Resync) // it may be too long to be read: then no reading tells
		default:
			m.call(s, Call{Op: OpRemove, Path: r.path, Version: res.Stat.Version}, func(_ *pending, res Result) {
				m.removed(r, rm, "delete", res.Err)
			})
		}
	})
}

// removed ends an attempt: what came of it is read.
func (m *Machine) removed(r *read, rm *removal, op string, err error) {
	at := r.path
	if op == "delete" {
		at = path.Dir(at) // where that right belongs
	}
	rm.busy = false
	r.soil(false)
	switch {
	case err == nil && op == "delete":
		m.log.WithField("path", r.path).Info("ZooKeeper node that has done its duty is deleted")
		m.allow(at, rightFor(op))
		rm.retry.pause(m.now, claimGap)
	case err == nil, errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion):
		rm.retry.pause(m.now, claimGap)
	case errors.Is(err, zk.ErrNoAuth):
		m.deny(at, rightFor(op))
		rm.retry.pause(m.now, m.cfg.Resync)
	default:
		m.complain(rm.retry.fails, r.path, op, err)
		rm.retry.failed(m.now)
	}
}
